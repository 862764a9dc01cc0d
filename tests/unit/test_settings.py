"""A setting comes from the strongest source that has it, and a bad one is named exactly."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

import vicinal
from tests.support.homes import without_home
from vicinal.engine.options import EngineOptions
from vicinal.errors import InvalidInput
from vicinal.limits import PROFILES
from vicinal.server.api.services import ServerConfig
from vicinal.settings import TABLE, BadFlag, Settings, load


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def file_with(text: str, name: str = "vicinal.toml") -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_without_any_source_every_setting_has_its_default() -> None:
    loaded = load({}, {}, None)

    assert loaded.settings == Settings()
    assert set(loaded.origins.values()) == {"default"}


@pytest.mark.parametrize(
    ("in_flag", "in_environment", "in_file", "port", "origin"),
    [
        ("1", "2", "port = 3", 1, "--port"),
        (None, "2", "port = 3", 2, "VICINAL_PORT"),
        (None, None, "port = 3", 3, "vicinal.toml: port"),
        (None, None, "", 8790, "default"),
        ("1", None, "port = 3", 1, "--port"),
        ("1", "2", "", 1, "--port"),
    ],
)
def test_the_strongest_source_wins(
    in_flag: str | None, in_environment: str | None, in_file: str, port: int, origin: str
) -> None:
    file_with(in_file)
    environment = {} if in_environment is None else {"VICINAL_PORT": in_environment}

    loaded = load({"port": in_flag}, environment, None)

    assert loaded.settings.port == port
    assert loaded.origins["port"] == origin


def test_sources_are_mixed_setting_by_setting() -> None:
    file_with('limits = "open"\nhost = "127.0.0.2"')

    loaded = load({"port": "1"}, {"VICINAL_HOST": "127.0.0.3"}, None)

    assert loaded.settings.port == 1
    assert loaded.settings.host == "127.0.0.3"
    assert loaded.settings.limits == "open"
    assert loaded.settings.wire_limits.dimensions_max == 4_096


def test_a_named_file_is_read_instead_of_the_one_in_the_working_folder() -> None:
    file_with("port = 1")
    other = file_with("backlog = 7", "etc/other.toml")

    settings = load({}, {}, other).settings

    assert (settings.port, settings.backlog) == (8790, 7)


def test_folders_of_a_file_are_relative_to_the_file() -> None:
    config = file_with('data = "d"\nmodel_folders = {"@cf/x/y" = "m"}', "etc/v.toml")

    settings = load({}, {}, config).settings

    assert settings.data == Path("etc/d")
    assert settings.model_folders == (("@cf/x/y", str(Path("etc/m"))),)
    assert load({"data": "d"}, {}, config).settings.data == Path("d")


def test_a_file_that_is_nested_too_deeply_is_refused() -> None:
    config = file_with("port = " + "[" * 100_000)

    with pytest.raises(InvalidInput, match="is not TOML"):
        load({}, {}, config)


def test_a_user_without_a_home_can_name_no_folder_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    without_home(monkeypatch)

    with pytest.raises(InvalidInput, match="VICINAL_DATA: '~/d' begins with ~"):
        load({}, {"VICINAL_DATA": "~/d"}, None)


def test_a_mapping_may_be_written_as_text_in_a_file_and_folders_are_relative_all_the_same() -> None:
    config = file_with('model_folders = ["a = m", "b=/n"]\ndata = "~/d"', "etc/v.toml")

    settings = load({}, {}, config).settings

    assert settings.model_folders == (("a", str(Path("etc/m"))), ("b", "/n"))
    assert settings.data == Path("~/d").expanduser()


def test_values_of_every_form_are_read_from_text() -> None:
    environment = {
        "VICINAL_TOKEN": "one, two",
        "VICINAL_ALLOW_MODEL_DOWNLOAD": "YES",
        "VICINAL_VISIBILITY_DELAY_S": "1.5",
        "VICINAL_EMBEDDING_MODELS": "@cf/a/b=small,c=d=e",
        "VICINAL_MODELS": "/srv/models",
    }

    settings = load({}, environment, None).settings

    assert settings.token == ("one", "two")
    assert settings.allow_model_download is True
    assert settings.visibility_delay_s == 1.5
    assert settings.embedding_models == (("@cf/a/b", "small"), ("c", "d=e"))
    assert settings.models == Path("/srv/models")


def test_values_of_every_form_are_read_from_toml() -> None:
    file_with(
        'token = ["one", "two"]\nallow_model_download = true\nvisibility_delay_s = 2\n'
        '[embedding_models]\n"@cf/a/b" = "small"'
    )

    settings = load({}, {}, None).settings

    assert settings.token == ("one", "two")
    assert settings.allow_model_download is True
    assert settings.visibility_delay_s == 2.0
    assert settings.embedding_models == (("@cf/a/b", "small"),)


@pytest.mark.parametrize(
    ("flags", "environment", "text", "message"),
    [
        ({"port": "65536"}, {}, "", "--port: 65536 is more than 65535"),
        ({"port": "-1"}, {}, "", "--port: -1 is less than 0"),
        ({}, {"VICINAL_PORT": "x"}, "", "VICINAL_PORT: 'x' is not a whole number"),
        ({}, {}, "port = 1.5", "vicinal.toml: port: 1.5 is not a whole number"),
        ({}, {}, "port = true", "vicinal.toml: port: True is not a whole number"),
        ({}, {}, "port = []", "vicinal.toml: port: [] is not a whole number"),
        ({}, {"VICINAL_VISIBILITY_DELAY_S": "nan"}, "", "'nan' is not a number"),
        ({}, {"VICINAL_VISIBILITY_DELAY_S": "inf"}, "", "'inf' is not a number"),
        ({}, {"VICINAL_REQUIRE_TOKEN": "maybe"}, "", "'maybe' is neither true nor false"),
        ({"limits": "big"}, {}, "", "--limits: 'big' is none of cloudflare, cloudflare-2025, open"),
        ({}, {"VICINAL_HOST": " "}, "", "VICINAL_HOST: ' ' is not a text with at least"),
        ({}, {}, "data = 3", "vicinal.toml: data: 3 is not a text"),
        ({}, {"VICINAL_EMBEDDING_MODELS": "a"}, "", "'a' is not a list of name=value"),
        ({}, {"VICINAL_EMBEDDING_MODELS": "=a"}, "", "'=a' is not a list of name=value"),
        ({}, {}, "token = 3", "vicinal.toml: token: the value is not a list of texts"),
        ({}, {}, 'prot = 1', "vicinal.toml: unknown setting 'prot'; did you mean 'port'?"),
        ({}, {}, "[server]\nport = 1", "vicinal.toml: unknown setting 'server'"),
        ({}, {"VICINAL_PROT": "1"}, "", "unknown setting VICINAL_PROT; did you mean 'port'?"),
        ({}, {"VICINAL_port": "1"}, "", "unknown setting VICINAL_port"),
        ({}, {}, "port = ", "vicinal.toml: is not TOML"),
        ({}, {}, f"port = {'9' * 5_000}", "vicinal.toml: is not TOML"),
        ({}, {}, f"port = {'9' * 400}", "9 is more than 65535"),
        ({}, {}, f"generation_idle_s = {'9' * 400}", "9 is more than 86400"),
        ({}, {}, "visibility_delay_s = inf", "visibility_delay_s: inf is not a number"),
        ({}, {}, "visibility_delay_s = nan", "visibility_delay_s: nan is not a number"),
        ({}, {"VICINAL_PORT": "1e3"}, "", "VICINAL_PORT: '1e3' is not a whole number"),
        ({}, {"VICINAL_PORT": "1.0"}, "", "VICINAL_PORT: '1.0' is not a whole number"),
        ({}, {}, "port = 1.0", "vicinal.toml: port: 1.0 is not a whole number"),
        ({}, {}, "require_token = 1", "vicinal.toml: require_token: 1 is neither true nor false"),
        ({}, {}, "limits = 3", "vicinal.toml: limits: 3 is not a text"),
        ({}, {}, 'embedding_models = ["a="]', "['a='] is not a list of name=value"),
        ({}, {}, "allowed_hosts = [3]", "allowed_hosts: [3] is not a list of texts"),
    ],
)  # fmt: skip
def test_a_bad_value_is_refused_with_source_key_value_and_bound(
    flags: dict[str, object], environment: dict[str, str], text: str, message: str
) -> None:
    file_with(text)

    with pytest.raises(InvalidInput) as caught:
        load(flags, environment, None)

    assert message in str(caught.value)


BOUNDED = [(row.name, row.least, -1) for row in TABLE if row.least != float("-inf")]
BOUNDED += [(row.name, row.most, +1) for row in TABLE if row.most != float("inf")]


@pytest.mark.parametrize(("name", "bound", "beyond"), BOUNDED)
def test_every_number_is_taken_at_its_bound_and_refused_beyond_it_from_every_source(
    name: str, bound: float, beyond: int
) -> None:
    row = next(row for row in TABLE if row.name == name)

    file_with(f"{name} = {bound}")
    assert getattr(load({}, {}, None).settings, name) == bound
    assert getattr(load({}, {row.variable: str(bound)}, None).settings, name) == bound
    assert getattr(load({name: str(bound)}, {}, None).settings, name) == bound

    refusal = f".* is {'less' if beyond < 0 else 'more'} than {bound:.10g}$"
    file_with(f"{name} = {bound + beyond}")
    with pytest.raises(InvalidInput, match=f"{name}: {refusal}"):
        load({}, {}, None)
    file_with("")
    with pytest.raises(InvalidInput, match=f"{row.variable}: {refusal}"):
        load({}, {row.variable: str(bound + beyond)}, None)
    with pytest.raises(BadFlag, match=f"{row.flag}: {refusal}"):
        load({name: str(bound + beyond)}, {}, None)


def test_the_limits_to_choose_from_are_the_profiles() -> None:
    [choices] = [row.choices for row in TABLE if row.name == "limits"]

    assert choices == tuple(PROFILES)


def test_a_deprecated_name_is_taken_from_every_source_with_a_warning() -> None:
    config = file_with("tail_rows_max = 101")
    from_file = load({}, {}, config)
    from_environment = load({}, {"VICINAL_TAIL_ROWS_MAX": "102"}, config)
    from_flag = load({"tail_rows_max": "103"}, {}, None)

    assert from_file.settings.memtable_rows_max == 101
    assert from_environment.settings.memtable_rows_max == 102
    assert from_flag.settings.memtable_rows_max == 103
    assert from_environment.warnings == (
        "vicinal.toml: tail_rows_max is deprecated; the setting's name is memtable_rows_max",
        "VICINAL_TAIL_ROWS_MAX is deprecated; the setting's name is memtable_rows_max",
    )
    assert "--tail-rows-max is deprecated" in from_flag.warnings[-1]
    assert from_flag.origins["memtable_rows_max"] == "--tail-rows-max"


def test_a_deprecated_name_has_the_bounds_of_the_setting_and_its_sources_strength() -> None:
    with pytest.raises(InvalidInput, match="VICINAL_TAIL_ROWS_MAX: 99 is less than 100"):
        load({}, {"VICINAL_TAIL_ROWS_MAX": "99"}, None)
    with pytest.raises(InvalidInput, match="unknown setting VICINAL_tail_rows_max"):
        load({}, {"VICINAL_tail_rows_max": "200"}, None)

    both = {"VICINAL_MEMTABLE_ROWS_MAX": "200", "VICINAL_TAIL_ROWS_MAX": "300"}
    assert load({}, both, None).settings.memtable_rows_max == 200
    assert load({"tail_rows_max": "400"}, both, None).settings.memtable_rows_max == 400
    assert load({}, {"VICINAL_MEMTABLE_ROWS_MAX": "200"}, None).warnings == ()


def test_a_weaker_source_is_checked_even_when_a_stronger_one_wins() -> None:
    with pytest.raises(InvalidInput, match="VICINAL_PORT: 'x'"):
        load({"port": "1"}, {"VICINAL_PORT": "x"}, None)


def test_a_named_file_that_is_missing_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"absent\.toml: cannot be read"):
        load({}, {}, Path("absent.toml"))


def test_variables_of_client_commands_and_of_other_programs_are_left_alone() -> None:
    environment = {"VICINAL_URL": "u", "VICINAL_CONFIG": "c", "PATH": "p"}

    assert load({}, environment, None).settings == Settings()


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.7", False),
        ("vectors.example", False),
    ],
)
def test_loopback_is_an_address_of_this_machine_only(host: str, is_loopback: bool) -> None:
    assert Settings(host=host).is_loopback is is_loopback


def test_a_secret_is_never_shown() -> None:
    for row in TABLE:
        if row.is_secret:
            assert "hush" not in row.shown(("hush",))

    assert {row.name for row in TABLE if row.is_secret} == {
        "database",
        "token",
        "embedding_key",
        "generation_key",
        "reranking_key",
    }


def test_a_bad_secret_is_not_repeated_in_the_message() -> None:
    file_with('token = ["hush", 3]')

    with pytest.raises(InvalidInput) as caught:
        load({}, {}, None)

    assert "hush" not in str(caught.value)


def test_origins_and_hosts_are_written_as_browsers_write_them_from_every_source() -> None:
    file_with('allowed_origins = ["https://App.example:443"]\nallowed_hosts = ["Box.Example."]')

    from_file = load({}, {}, None).settings
    from_environment = load(
        {},
        {
            "VICINAL_ALLOWED_ORIGINS": "http://a:80, http://b:1",
            "VICINAL_ALLOWED_HOSTS": "a,[::1]",
        },
        None,
    ).settings
    from_flags = load(
        {"allowed_origins": ("http://c",), "allowed_hosts": ("c",)}, {}, None
    ).settings

    assert from_file.allowed_origins == ("https://app.example",)
    assert from_file.allowed_hosts == ("box.example",)
    assert from_environment.allowed_origins == ("http://a", "http://b:1")
    assert from_environment.allowed_hosts == ("a", "::1")
    assert (from_flags.allowed_origins, from_flags.allowed_hosts) == (("http://c",), ("c",))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("allowed_origins", value) for value in ("*", "null", "a.example", "http://a/")),
        *(("allowed_hosts", value) for value in ("*", "a:80", "http://a", "*.a")),
    ],
)
def test_what_would_let_everybody_in_or_is_never_sent_is_refused(name: str, value: str) -> None:
    flag, said = f"--{name.replace('_', '-')}", re.escape(repr(value))
    with pytest.raises(InvalidInput, match=f"{flag}: .* holds {said}"):
        load({name: (value,)}, {}, None)


def test_every_setting_is_obeyed_by_something() -> None:
    """One that is described and never handed on would be a promise that nothing keeps.

    That it does something is for the test of the code that uses it.
    """
    package = Path(vicinal.__file__).parent
    readers = [path for path in package.rglob("*.py") if path.name != "settings.py"]
    text = "\n".join(path.read_text(encoding="utf-8") for path in readers)
    read = set(re.findall(r"\bsettings\.([a-z_]+)\b", text))
    read |= {"limits"} if "wire_limits" in read else set()
    read |= {"host"} if "is_loopback" in read else set()

    assert [row.name for row in TABLE if row.name not in read] == []


# The name of a profile in one and its numbers in the other; threads that embed, that wait for it.
OF_OTHER_MEANING = {"limits", "embedding_threads"}


@pytest.mark.parametrize("options", [EngineOptions(), ServerConfig()])
def test_a_setting_has_the_default_of_the_option_that_it_sets(
    options: EngineOptions | ServerConfig,
) -> None:
    defaults = {row.name: row.default for row in TABLE}
    names = {each.name for each in fields(options)} & defaults.keys() - OF_OTHER_MEANING

    assert names
    assert {name: getattr(options, name) for name in names} == {n: defaults[n] for n in names}


KUBERNETES = {
    "VICINAL_SERVICE_HOST": "10.0.171.239",
    "VICINAL_SERVICE_PORT": "8790",
    "VICINAL_SERVICE_PORT_HTTP": "8790",
    "VICINAL_PORT": "tcp://10.0.171.239:8790",
    "VICINAL_PORT_8790_TCP": "tcp://10.0.171.239:8790",
    "VICINAL_PORT_8790_TCP_PROTO": "tcp",
    "VICINAL_PORT_8790_TCP_PORT": "8790",
    "VICINAL_PORT_8790_TCP_ADDR": "10.0.171.239",
    "VICINAL_DATA_SERVICE_HOST": "10.0.171.240",
    "VICINAL_DATA_PORT": "tcp://[fd00::1]:80",
    "VICINAL_DATA_PORT_80_UDP": "udp://[fd00::1]:80",
    "VICINAL_SNAPSHOT_FOLDER_SERVICE_PORT": "80",
}


def test_what_kubernetes_sets_for_a_service_is_no_setting() -> None:
    loaded = load({}, KUBERNETES, None)

    assert loaded.settings == Settings()
    assert set(loaded.origins.values()) == {"default"}


def test_beside_what_kubernetes_sets_settings_count() -> None:
    loaded = load({"port": "1"}, KUBERNETES | {"VICINAL_DATA": "/data"}, file_with("backlog = 7"))

    assert (loaded.settings.port, loaded.settings.data) == (1, Path("/data"))
    assert loaded.settings.backlog == 7


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("VICINAL_SERVICE", "x"),
        ("VICINAL_SERVICE_HOSTS", "10.0.0.1"),
        ("VICINAL_HOST_SERVICE", "x"),
        ("VICINAL_PORT", "tcp:8790"),
        ("VICINAL_PORT", "http://10.0.0.1:8790"),
        ("VICINAL_PORT", "tcp:// 1"),
        ("VICINAL_PORT_X_TCP", "tcp://10.0.0.1:1"),
        ("VICINAL_DATA_PORT", "8790"),
        ("VICINAL_service_HOST", "10.0.0.1"),
    ],
)
def test_what_only_looks_like_it_is_refused(variable: str, value: str) -> None:
    with pytest.raises(InvalidInput, match=variable):
        load({}, {variable: value}, None)
