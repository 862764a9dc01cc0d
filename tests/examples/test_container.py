"""The files for containers, as far as they can be checked where none can be run."""

import fnmatch
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.ports import closed_port
from tests.support.server import in_process
from vicinal.settings import Settings, load

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "container"

INSTRUCTIONS = {
    *("FROM", "RUN", "COPY", "ENV", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK", "STOPSIGNAL"),
    *("ENTRYPOINT", "CMD"),
}


def instructions() -> list[tuple[str, str]]:
    """Return each instruction of the file with its arguments on one line."""
    text = re.sub(r"^#.*\n", "", (FOLDER / "Containerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    pairs = (line.partition(" ")[::2] for line in lines if line.strip())
    return [(name, arguments.strip()) for name, arguments in pairs]


def of(name: str) -> list[str]:
    return [arguments for each, arguments in instructions() if each == name]


def last_stage() -> list[tuple[str, str]]:
    found = instructions()
    start = max(at for at, (name, _) in enumerate(found) if name == "FROM")
    return found[start:]


def variables() -> dict[str, str]:
    (text,) = (arguments for name, arguments in last_stage() if name == "ENV")
    return dict(re.findall(r"(\w+)=(\S+)", text))


def compose(**environment: str) -> Any:
    """Return the file as Compose reads it: with variables of who starts it, and their defaults."""

    def value(match: re.Match[str]) -> str:
        name, _, alternative = match[1].partition(":")
        return environment.get(name, alternative[1:])

    text = (FOLDER / "compose.yaml").read_text()
    return yaml.safe_load(re.sub(r"\$\{([^}]+)\}", value, text))


def test_every_instruction_is_one_that_there_is() -> None:
    names = {name for name, _ in instructions()}

    assert names <= INSTRUCTIONS
    assert instructions()[0][0] == "FROM"


def test_lists_are_json_and_commands_are_shell() -> None:
    for name in ("ENTRYPOINT", "CMD", "VOLUME"):
        for arguments in of(name):
            assert all(isinstance(each, str) for each in json.loads(arguments))
    for arguments in of("RUN"):
        done = subprocess.run(["sh", "-n", "-c", arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_the_server_is_not_root_and_owns_its_folders() -> None:
    (user,) = (arguments for name, arguments in last_stage() if name == "USER")
    uid, gid = user.split(":")
    (making,) = (arguments for name, arguments in last_stage() if name == "RUN")

    assert int(uid) > 0
    assert int(gid) > 0
    assert f"--uid {uid} " in making
    assert f"--gid {gid} " in making
    assert "--owner vicinal" in making
    assert [name for name, _ in last_stage()].index("USER") > 2
    assert compose()["services"]["vicinal"]["user"] == user


def settings_of(environment: dict[str, str]) -> Settings:
    ours = {name: value for name, value in environment.items() if name.startswith("VICINAL_")}
    return load({}, ours, None).settings


def test_the_variables_are_settings_and_name_the_volumes() -> None:
    settings = settings_of(variables())
    (volumes,) = map(json.loads, of("VOLUME"))

    assert {str(settings.data), str(settings.models)} == set(volumes)
    assert of("EXPOSE") == [str(settings.port)]
    assert not settings.is_loopback


def test_what_is_copied_is_there_and_not_left_out() -> None:
    kept = [
        line.removeprefix("!")
        for line in (ROOT / ".containerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    copied = [
        source
        for arguments in of("COPY")
        if not arguments.startswith("--from")
        for source in arguments.split()[:-1]
    ]

    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert any(fnmatch.fnmatch(source, pattern) for pattern in kept), source
    assert (ROOT / ".dockerignore").read_text() == (ROOT / ".containerignore").read_text()


def test_what_the_build_reads_is_copied() -> None:
    """The build of the package needs these, beside its source."""
    copied = " ".join(of("COPY"))

    for name in ("pyproject.toml", "hatch_build.py", "README.md", "src", "workers"):
        assert re.search(rf"\b{re.escape(name)}\b", copied), name


def health_commands() -> Iterator[list[str]]:
    (arguments,) = of("HEALTHCHECK")
    yield json.loads(arguments.partition("CMD ")[2])
    kind, *words = compose()["services"]["vicinal"]["healthcheck"]["test"]
    assert kind == "CMD"
    yield words


def test_health_is_told_by_a_server_and_not_by_none(tmp_path: Path) -> None:
    with in_process(tmp_path) as server, closed_port() as silent:
        for python, *words in health_commands():
            assert python == "python"
            for port, is_healthy in ((server.port, True), (silent, False)):
                environment = os.environ | variables() | {"VICINAL_PORT": str(port)}
                done = subprocess.run(
                    [sys.executable, *words], env=environment, capture_output=True
                )
                assert (done.returncode == 0) is is_healthy


def test_the_service_of_compose_is_the_image_with_settings_that_there_are() -> None:
    service = compose()["services"]["vicinal"]
    environment = {name: str(value) for name, value in service["environment"].items()}

    settings = settings_of(variables() | environment)

    assert settings.token, "the port can be reached from elsewhere"
    assert (FOLDER / service["build"]["context"]).resolve() == ROOT
    assert (ROOT / service["build"]["dockerfile"]).exists()
    (port,) = service["ports"]
    assert port == f"127.0.0.1:{settings.port}:{settings.port}"
    other = compose(VICINAL_PORT="9123")["services"]["vicinal"]
    assert other["ports"] == ["127.0.0.1:9123:9123"]
    assert other["environment"]["VICINAL_PORT"] == 9123
    mounted = dict(volume.split(":") for volume in service["volumes"])
    assert set(mounted) == set(compose()["volumes"])
    assert set(mounted.values()) == {str(settings.data), str(settings.models)}
    grace_s = float(re.sub(r"s\b.*", "", str(service["stop_grace_period"])))
    assert grace_s > settings.shutdown_timeout_s


def test_the_members_of_compose_are_those_of_its_specification() -> None:
    known = {
        *("image", "build", "environment", "ports", "volumes", "user", "healthcheck", "restart"),
        *("stop_grace_period", "read_only", "tmpfs", "cap_drop", "security_opt", "ulimits"),
    }

    assert set(compose()) == {"name", "services", "volumes"}
    assert set(compose()["services"]["vicinal"]) <= known
    assert compose()["services"]["vicinal"]["cap_drop"] == ["ALL"]


@pytest.mark.parametrize("start", ["podman build ", "docker build "])
def test_the_lines_to_build_it_name_the_file(start: str) -> None:
    text = (FOLDER / "Containerfile").read_text()
    (line,) = re.findall(rf"^#\s+({start}.*)$", text, re.MULTILINE)

    words = shlex.split(line)
    assert (ROOT / words[words.index("--file") + 1]).exists()
