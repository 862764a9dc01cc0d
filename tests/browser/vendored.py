"""The third-party files of the dashboard: which they are, and how npm's packages become them.

``python -m tests.browser.vendored`` fetches the pinned packages with npm and writes the files,
their licences and `manifest.json` into ``src/vicinal/ui/vendor``. A test compares the files with
the manifest; whoever wants to know whether they are npm's runs this and looks at the difference.
"""

import json
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "src" / "vicinal" / "ui" / "vendor"
MANIFEST = FOLDER / "manifest.json"
LICENSES = FOLDER / "LICENSES.txt"


@dataclass(frozen=True)
class Package:
    """A package of npm: its pinned version, its licence, and what is taken from it.

    `files` names a file here -> its path in the package and what is changed in it.
    """

    name: str
    version: str
    license: str
    files: dict[str, tuple[str, Callable[[str], str]]]


def as_it_is(text: str) -> str:
    return text


def with_own_preact(text: str) -> str:
    """Browsers resolve no bare names without an import map, which the policy forbids."""
    assert text.count('from"preact"') == 1
    return text.replace('from"preact"', 'from"./preact.js"')


def as_module(text: str) -> str:
    """Only the file that defines a global is minified."""
    assert text.count("var uPlot=") == 1
    return f"{text.rstrip()}\nexport default uPlot;\n"


PACKAGES = (
    Package(
        "preact",
        "10.29.8",
        "MIT",
        {
            "preact.js": ("dist/preact.module.js", as_it_is),
            "hooks.js": ("hooks/dist/hooks.module.js", with_own_preact),
        },
    ),
    Package("htm", "3.1.1", "Apache-2.0", {"htm.js": ("dist/htm.module.js", as_it_is)}),
    Package(
        "uplot",
        "1.6.32",
        "MIT",
        {
            "uplot.js": ("dist/uPlot.iife.min.js", as_module),
            "uplot.css": ("dist/uPlot.min.css", as_it_is),
        },
    ),
)


def checksum(data: bytes) -> str:
    return sha256(data).hexdigest()


def without_source_map(text: str) -> str:
    lines = [line for line in text.splitlines() if not line.startswith("//# sourceMappingURL")]
    return "\n".join(lines) + "\n"


def contents(package: Package, folder: Path) -> tuple[dict[str, str], str, dict[str, str]]:
    """Return the files of a package, its licence's text, and the checksums of their sources."""
    command = ["npm", "pack", "--silent", f"{package.name}@{package.version}"]
    name = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    made, sources = {}, {}
    with tarfile.open(folder / name.stdout.strip()) as archive:

        def read(path: str) -> bytes:
            member = archive.extractfile(f"package/{path}")
            assert member is not None
            return member.read()

        for target, (path, change) in package.files.items():
            sources[target] = checksum(read(path))
            made[target] = change(without_source_map(read(path).decode()))
        return made, read("LICENSE").decode(), sources


def main() -> None:
    manifest, licenses = [], []
    with tempfile.TemporaryDirectory() as folder:
        for package in PACKAGES:
            made, license_text, sources = contents(package, Path(folder))
            for name, text in made.items():
                (FOLDER / name).write_text(text, encoding="utf-8")
                manifest.append(
                    {
                        "file": name,
                        "package": package.name,
                        "version": package.version,
                        "license": package.license,
                        "source": package.files[name][0],
                        "source_sha256": sources[name],
                        "sha256": checksum(text.encode()),
                    }
                )
            heading = f"{package.name} {package.version} ({package.license})"
            licenses.append(f"{heading}\n{'=' * len(heading)}\n\n{license_text.strip()}\n")
    MANIFEST.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    LICENSES.write_text("\n\n".join(licenses), encoding="utf-8")


if __name__ == "__main__":
    main()
