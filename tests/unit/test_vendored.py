"""The dashboard's third-party files are those of the manifest, each with its licence."""

import json

import pytest

from tests.browser import vendored

ENTRIES = json.loads(vendored.MANIFEST.read_text(encoding="utf-8"))


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["file"])
def test_a_file_is_as_it_was_made(entry: dict[str, str]) -> None:
    data = (vendored.FOLDER / entry["file"]).read_bytes()

    assert vendored.checksum(data) == entry["sha256"]
    assert entry["license"] in ("MIT", "Apache-2.0")


def test_every_file_is_in_the_manifest_with_the_pinned_version() -> None:
    files = {path.name for path in vendored.FOLDER.iterdir() if path.suffix in (".js", ".css")}
    pinned = {
        (name, package.name, package.version, package.license)
        for package in vendored.PACKAGES
        for name in package.files
    }

    assert files == {entry["file"] for entry in ENTRIES}
    assert pinned == {
        (entry["file"], entry["package"], entry["version"], entry["license"]) for entry in ENTRIES
    }


def test_every_package_has_its_licence_beside_it() -> None:
    text = vendored.LICENSES.read_text(encoding="utf-8")

    for package in vendored.PACKAGES:
        assert f"{package.name} {package.version} ({package.license})\n" in text
    assert "Permission is hereby granted" in text
    assert "Apache License" in text
