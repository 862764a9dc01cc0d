"""The package that is made of the repository: its description, and the wheel."""

import re
import runpy
import subprocess
import sys
import zipfile
from collections.abc import Callable
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
BUILD: dict[str, Any] = runpy.run_path(str(ROOT / "hatch_build.py"))
description: Callable[[str, str | None], str] = BUILD["description"]
README = (ROOT / "README.md").read_text()

_LINK = re.compile(r"\]\(([^)\s]+)\)")


def test_no_link_of_the_description_is_relative() -> None:
    links = _LINK.findall(description(README, None))

    assert len(_LINK.findall(README)) > 10
    assert [link for link in links if "://" not in link and not link.startswith("#")] == []


def test_links_lead_to_the_address_of_the_source_once_there_is_one() -> None:
    links = _LINK.findall(description(README, "https://host.example/blob/main/"))
    ours = [link for link in links if link.startswith("https://host.example/")]

    assert len(ours) > 10
    for link in ours:
        path = link.removeprefix("https://host.example/blob/main/").partition("#")[0]
        assert (ROOT / path).exists(), link


@pytest.mark.parametrize(
    ("text", "address", "expected"),
    [
        ("see [a](docs/a.md).", None, "see a."),
        ("see [a](docs/a.md#b).", "https://h/", "see [a](https://h/docs/a.md#b)."),
        ("[a](https://x.example) [b](#c)", None, "[a](https://x.example) [b](#c)"),
        ("`[a](b.md)`", None, "`[a](b.md)`"),
        ("```sh\n[a](b.md)\n```\n[a](b.md)\n", None, "```sh\n[a](b.md)\n```\na\n"),
        ("| x | one line, in [a](docs/a.md) |", None, "| x | one line, in a |"),
    ],
)
def test_links_in_text_alone_are_changed(text: str, address: str | None, expected: str) -> None:
    assert description(text, address) == expected


def test_the_rest_of_the_page_stays_as_it_is() -> None:
    plain = re.sub(r"\[([^\]]+)\]\(([^)\s]+)\)", r"\1", README)

    assert re.sub(r"\[([^\]]+)\]\(([^)\s]+)\)", r"\1", description(README, None)) == plain


@pytest.mark.clients
@pytest.mark.skipif(sys.platform != "linux", reason="the tag is for Linux")
def test_the_wheel_has_the_description_and_the_tag_of_the_systems_that_it_runs_on() -> None:
    pytest.importorskip("auditwheel")
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "wheel.py")], capture_output=True, text=True
    )
    if "No matching distribution" in done.stderr or "Could not fetch" in done.stderr:
        pytest.skip(f"the build's tools cannot be had: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stderr[-3000:]

    (wheel,) = (ROOT / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        metadata = message_from_bytes(archive.read(name))
        is_compiled = any(each.endswith(".so") for each in archive.namelist())
        tags = message_from_bytes(archive.read(name.replace("METADATA", "WHEEL"))).get_all("Tag")
    assert tags is not None
    expected = r"py3-none-manylinux_\d+_\d+_\w+" if is_compiled else "py3-none-any"
    assert any(re.fullmatch(expected, tag) for tag in tags)
    assert not any("linux_x86_64" in tag.replace("manylinux", "") for tag in tags)
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert str(metadata.get_payload()).strip() == description(README, None).strip()
    assert wheel.stat().st_size < 1_500_000
