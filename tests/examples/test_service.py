"""The unit of the service is one that systemd understands, and gives it little to do harm with."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.documents import blocks
from vicinal.settings import load

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "service"
UNIT = FOLDER / "vicinal.service"

EXPOSURE_MAX = 2.0

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here"
)


def analyzed(*arguments: str) -> str:
    done = subprocess.run(("systemd-analyze", *arguments), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@needs_systemd
def test_systemd_understands_every_line(tmp_path: Path) -> None:
    vicinal = Path(sys.executable).with_name("vicinal")
    unit = tmp_path / "vicinal.service"
    unit.write_text(UNIT.read_text().replace("/opt/vicinal/bin/vicinal", str(vicinal)))

    told = analyzed("verify", str(unit))

    assert "vicinal.service" not in told, told


@needs_systemd
def test_what_it_may_do_is_little() -> None:
    told = analyzed("security", "--offline=true", "--threshold=30", str(UNIT))

    found = re.search(r"Overall exposure level for vicinal\.service: ([\d.]+)", told)
    assert found is not None, told
    assert float(found[1]) < EXPOSURE_MAX
    page = (ROOT / "docs" / "operations.md").read_text()
    assert f"calls that less than {EXPOSURE_MAX:g} of 10" in page


def test_its_variables_are_settings_in_the_folder_that_it_may_write_to() -> None:
    text = UNIT.read_text()
    variables = dict(re.findall(r"^Environment=(\w+)=(.*)$", text, re.MULTILINE))

    settings = load({}, variables, None).settings

    assert (settings.data, settings.models) == (
        Path("/var/lib/vicinal/data"),
        Path("/var/lib/vicinal/models"),
    )
    assert "StateDirectory=vicinal\n" in text
    assert "ProtectSystem=strict\n" in text


def test_the_user_of_the_unit_is_the_one_that_is_made() -> None:
    (line,) = (
        line
        for line in (FOLDER / "sysusers.conf").read_text().splitlines()
        if line and not line.startswith("#")
    )

    kind, name, _, *_ = line.split()
    assert kind == "u"
    assert f"User={name}\n" in UNIT.read_text()
    assert f"Group={name}\n" in UNIT.read_text()


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="it is not here")
def test_the_user_is_made(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    done = subprocess.run(
        ("systemd-sysusers", f"--root={tmp_path}", str(FOLDER / "sysusers.conf")),
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert "vicinal" in (tmp_path / "etc" / "passwd").read_text()


def test_the_page_installs_these_files() -> None:
    commands = "\n".join(
        each.text for each in blocks(ROOT / "docs" / "operations.md") if each.name == "install"
    )

    for name in ("vicinal.service", "sysusers.conf"):
        assert f"CHECKOUT/examples/service/{name}" in commands
    assert "runuser -u vicinal -- /opt/vicinal/bin/vicinal token create" in commands
