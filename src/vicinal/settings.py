"""Every setting, described once: the fields of `Settings` are the table.

A value comes from the first of these that has one: a flag of ``vicinal serve``, the
environment (``VICINAL_PORT`` for `port`), a TOML file (``port = 8790``), the default. The
TOML file is the one named, or ``vicinal.toml`` in the working folder if there is one; a
relative folder in it is relative to the file. In flags and the environment a list is
separated by commas and a mapping is ``name=value`` pairs separated by commas.

An unknown key and a value that cannot be are refused with the source, the key, the value
and the bound. Nothing here opens a folder or a socket: what a setting leads to is said in
``app.py``.
"""

import ipaddress
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

from vicinal.errors import InvalidInput
from vicinal.forms import FORM_OF_TYPE, FORMS, Names, Pairs
from vicinal.limits import PROFILES, Limits

CONFIG_FILE = "vicinal.toml"
TOKENS_FILE = "tokens.db"
"""Inside the data folder."""

ENVIRONMENT_PREFIX = "VICINAL_"

CLIENT_VARIABLES = frozenset({"VICINAL_URL", "VICINAL_CONFIG"})
"""Read by commands, not by the server. ``VICINAL_TOKEN`` and ``VICINAL_ACCOUNT`` are both:
the token that a server accepts is the token that a client sends."""


@dataclass(frozen=True, slots=True)
class _Rule:
    description: str
    least: float
    most: float
    choices: Names
    is_secret: bool
    form: str


def _rule(
    description: str,
    *,
    least: float = -math.inf,
    most: float = math.inf,
    choices: Sequence[str] = (),
    is_secret: bool = False,
    form: str = "",
) -> dict[str, _Rule]:
    """Return a field's metadata; `form` is for one that its type does not tell."""
    return {"rule": _Rule(description, least, most, tuple(choices), is_secret, form)}


@dataclass(frozen=True, slots=True)
class Settings:
    """What a server is started with. Folders are as given, not resolved."""

    host: str = field(
        default="127.0.0.1",
        metadata=_rule("Address to listen on. Beyond loopback every request must carry a token."),
    )
    port: int = field(
        default=8790, metadata=_rule("Port to listen on; 0 takes a free one.", least=0, most=65_535)
    )
    data: Path = field(
        default=Path("vicinal-data"), metadata=_rule("Folder that holds the indexes and tokens.")
    )
    limits: str = field(
        default="cloudflare",
        metadata=_rule("Profile of limits; see `vicinal limits`.", choices=tuple(PROFILES)),
    )
    token: Names = field(
        default=(),
        metadata=_rule(
            "Token(s) that may read and write everything, beside those of `vicinal token create`.",
            is_secret=True,
        ),
    )
    require_token: bool = field(
        default=False,
        metadata=_rule("Ask for a known token on loopback too, even when none has been created."),
    )
    allowed_origins: Names = field(
        default=(),
        metadata=_rule("Web pages that may use the server: SCHEME://HOST[:PORT].", form="origins"),
    )
    allowed_hosts: Names = field(
        default=(),
        metadata=_rule(
            "Names, beside those of loopback, that a server without tokens may be called by.",
            form="hosts",
        ),
    )
    account: str = field(
        default="local",
        metadata=_rule("Account shown to clients that ask for one, and that the demo goes to."),
    )
    log_format: str = field(
        default="text",
        metadata=_rule("Form of the log on standard error.", choices=("text", "json")),
    )
    log_level: str = field(
        default="info",
        metadata=_rule(
            "Least level that is logged.", choices=("debug", "info", "warning", "error")
        ),
    )
    models: Path | None = field(
        default=None,
        metadata=_rule(
            "Folder that embedding models are kept in; the user's cache folder if not given."
        ),
    )
    model_folders: Pairs = field(
        default=(), metadata=_rule("Folders that hold one model's files each, as MODEL=FOLDER.")
    )
    allow_model_download: bool = field(
        default=True,
        metadata=_rule("Fetch a known model when it is first asked for and not on disk."),
    )
    embedding_threads: int = field(
        default=0,
        metadata=_rule("Threads that embed text; 0 takes one per core.", least=0, most=1_024),
    )
    embedding_queue_max: int = field(
        default=256,
        metadata=_rule(
            "Embedding requests that may wait; more are answered 429.", least=1, most=100_000
        ),
    )
    embedding_url: str | None = field(
        default=None,
        metadata=_rule(
            "Base URL of an OpenAI-compatible service that embeds instead of this process."
        ),
    )
    embedding_key: str | None = field(
        default=None, metadata=_rule("Bearer token for `embedding_url`.", is_secret=True)
    )
    embedding_models: Pairs = field(
        default=(), metadata=_rule("Names that models have at `embedding_url`, as MODEL=NAME.")
    )
    generation_url: str | None = field(
        default=None,
        metadata=_rule("Base URL of an OpenAI-compatible service that generates text."),
    )
    generation_key: str | None = field(
        default=None, metadata=_rule("Bearer token for `generation_url`.", is_secret=True)
    )
    generation_models: Pairs = field(
        default=(),
        metadata=_rule("Names of models at `generation_url`, as MODEL=NAME; `*` is every other."),
    )
    generation_requests_max: int = field(
        default=32,
        metadata=_rule(
            "Requests for text under way; more are answered 429.", least=1, most=100_000
        ),
    )
    generation_idle_s: float = field(
        default=120.0,
        metadata=_rule("Seconds that `generation_url` may be silent.", least=0.1, most=86_400),
    )
    generation_timeout_s: float = field(
        default=600.0,
        metadata=_rule("Seconds that one generated text may take.", least=0.1, most=86_400),
    )
    visibility_delay_s: float = field(
        default=0.0,
        metadata=_rule(
            "Seconds that a write stays invisible, to imitate the hosted service in tests.",
            least=0,
            most=3_600,
        ),
    )
    tail_rows_max: int = field(
        default=20_000,
        metadata=_rule(
            "Newest vectors of an index that are kept in memory and scanned.",
            least=100,
            most=1_000_000,
        ),
    )
    queue_bytes_max: int = field(
        default=512 << 20,
        metadata=_rule(
            "Bytes of writes that may be logged but not yet visible; more are answered 429.",
            least=1 << 20,
        ),
    )
    body_bytes_in_flight_max: int = field(
        default=512 << 20,
        metadata=_rule(
            "Bytes of request bodies held at once; more are answered 429.", least=1 << 20
        ),
    )
    requests_max: int = field(
        default=1_024,
        metadata=_rule(
            "Requests that may be under way; more are answered 429.", least=1, most=1_000_000
        ),
    )
    connections_max: int = field(
        default=0,
        metadata=_rule(
            "Connections that may be open; more are answered 503. 0 takes what the limit on open "
            "files leaves beside the indexes, at most 8,192.",
            least=0,
            most=1_000_000,
        ),
    )
    query_threads: int = field(
        default=0,
        metadata=_rule("Threads that search; 0 takes one per core.", least=0, most=1_024),
    )
    backlog: int = field(
        default=2_048,
        metadata=_rule("Connections that may wait to be accepted.", least=1, most=65_535),
    )
    keep_alive_s: int = field(
        default=75,
        metadata=_rule("Seconds that an idle connection is kept open.", least=1, most=86_400),
    )
    shutdown_timeout_s: int = field(
        default=10,
        metadata=_rule(
            "Seconds that running requests get when the server stops.", least=0, most=3_600
        ),
    )

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect. A name other than localhost may be anything."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def wire_limits(self) -> Limits:
        """The bounds of the chosen profile."""
        return PROFILES[self.limits]


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table. `form` names the type for a reader."""

    name: str
    form: str
    default: object
    description: str
    least: float
    most: float
    choices: Names
    is_secret: bool

    @property
    def flag(self) -> str:
        """How ``vicinal serve`` spells it."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def variable(self) -> str:
        """How the environment spells it."""
        return f"{ENVIRONMENT_PREFIX}{self.name.upper()}"

    def shown(self, value: object) -> str:
        """Return `value` as a person may see it: never a secret."""
        if self.is_secret and value:
            return "(hidden)"
        if value is None or value == ():
            return ""
        if isinstance(value, tuple):
            return ",".join("=".join(each) if isinstance(each, tuple) else each for each in value)
        return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and for each of them where its value came from."""

    settings: Settings
    origins: Mapping[str, str]


def load(
    flags: Mapping[str, object], environment: Mapping[str, str], config: Path | None
) -> Loaded:
    """Gather settings from all sources.

    Args:
        flags: By name of setting: text, a bool or a sequence of text; None for "not given".
        environment: Usually ``os.environ``.
        config: A TOML file to read instead of ``vicinal.toml`` in the working folder.

    Raises:
        InvalidInput: a key is unknown, or a value cannot be; says which and where.
    """
    values: dict[str, Any] = {}
    origins = {row.name: "default" for row in TABLE}
    # From the weakest source to the strongest.
    for source, given in (
        *_from_file(config),
        *_from_environment(environment),
        *_from_flags(flags),
    ):
        name, raw = given
        values[name] = _read(_ROWS[name], raw, source)
        origins[name] = source
    return Loaded(Settings(**values), origins)


_Given = tuple[str, tuple[str, object]]
"""A source as it is named in messages, and ``(name of setting, raw value)``."""


def _from_file(config: Path | None) -> list[_Given]:
    path = config if config is not None else Path(CONFIG_FILE)
    if config is None and not path.is_file():
        return []
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: is not TOML: {error}") from error
    given: list[_Given] = []
    for key, raw in document.items():
        if key not in _ROWS:
            raise InvalidInput(f"{path}: unknown setting {key!r}; {_did_you_mean(key)}")
        given.append((f"{path}: {key}", (key, _beside(path, _ROWS[key], raw))))
    return given


def _beside(path: Path, row: Setting, raw: object) -> object:
    """Return a raw value of a file with its folders made relative to the file."""
    if row.form == "folder" and isinstance(raw, str):
        return str(path.parent / raw)
    if row.name == "model_folders" and isinstance(raw, dict):
        return {
            key: str(path.parent / each) if isinstance(each, str) else each
            for key, each in raw.items()
        }
    return raw


def _from_environment(environment: Mapping[str, str]) -> list[_Given]:
    given: list[_Given] = []
    for variable in sorted(environment):
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in CLIENT_VARIABLES:
            continue
        name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        if name not in _ROWS or _ROWS[name].variable != variable:
            raise InvalidInput(f"environment: unknown setting {variable}; {_did_you_mean(name)}")
        given.append((variable, (name, environment[variable])))
    return given


def _from_flags(flags: Mapping[str, object]) -> list[_Given]:
    return [
        (_ROWS[name].flag, (name, raw))
        for name, raw in flags.items()
        if raw is not None and raw != ()
    ]


def _did_you_mean(name: str) -> str:
    # Imported here: reading correct settings, which is every start, does not need it.
    from difflib import get_close_matches

    close = get_close_matches(name, _ROWS, n=1)
    return f"did you mean {close[0]!r}?" if close else "see `vicinal config show`"


def _read(row: Setting, raw: object, source: str) -> object:
    """Return the value that `raw` stands for, checked against the row's bounds."""
    try:
        value = FORMS[row.form](raw)
    except ValueError as error:
        given = "the value" if row.is_secret else repr(raw)
        raise InvalidInput(f"{source}: {given} {error}") from None
    if isinstance(value, int | float) and not row.least <= value <= row.most:
        bound = f"less than {row.least:.10g}" if value < row.least else f"more than {row.most:.10g}"
        raise InvalidInput(f"{source}: {value} is {bound}")
    if row.choices and value not in row.choices:
        raise InvalidInput(f"{source}: {value!r} is none of {', '.join(row.choices)}")
    return value


def _table() -> tuple[Setting, ...]:
    types = get_type_hints(Settings)
    rows = []
    for each in fields(Settings):
        rule: _Rule = each.metadata["rule"]
        rows.append(
            Setting(
                name=each.name,
                form=rule.form or FORM_OF_TYPE[types[each.name]],
                default=each.default,
                description=rule.description,
                least=rule.least,
                most=rule.most,
                choices=rule.choices,
                is_secret=rule.is_secret,
            )
        )
    return tuple(rows)


TABLE = _table()
"""Every setting, in the order of declaration."""

_ROWS = {row.name: row for row in TABLE}
