"""Every setting, described once: the fields of `Settings` are the table.

A value comes from the first of these that has one: a flag of ``vicinal serve``, the
environment (``VICINAL_PORT`` for `port`), a TOML file (``port = 8790``), the default. The
TOML file is the one named, or ``vicinal.toml`` in the working folder if there is one; a
relative folder in it is relative to the file. In flags and the environment a list is
separated by commas and a mapping is ``name=value`` pairs separated by commas.

msgspec checks types and bounds. An unknown key and a bad value are refused with the source,
the key, the value and the bound. Nothing here opens a folder or a socket: ``app.py`` does.
"""

import ipaddress
import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_type_hints

import msgspec
from msgspec import Meta

from vicinal import setting_forms
from vicinal.errors import InvalidInput
from vicinal.limits import PROFILES, Limits
from vicinal.service_links import is_link
from vicinal.setting_forms import FAULTS, FORMS, MEMBER_READERS, Hosts, Names, Origins, Pairs, Text

CONFIG_FILE = "vicinal.toml"
TOKENS_FILE = "tokens.db"
"""Inside the data folder."""

ENVIRONMENT_PREFIX = "VICINAL_"

CLIENT_VARIABLES = frozenset({"VICINAL_URL", "VICINAL_CONFIG"})
"""Read by commands, not by the server. ``VICINAL_TOKEN`` and ``VICINAL_ACCOUNT`` are both:
the token that a server accepts is the token that a client sends."""


class BadFlag(InvalidInput):
    """A flag gives a setting a bad value: the command line is wrong. Never on the wire."""


_SECRET = Meta(extra={"is_secret": True})


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a server. Folders are as given, not resolved.

    A field's annotation is its type, bounds for msgspec and description; `Meta.extra` may have
    ``is_secret``, ``deprecated_name``, or a ``form`` that the type does not tell.
    """

    host: Annotated[
        Text, "Address to listen on. Beyond loopback every request must carry a token."
    ] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535), "Port to listen on; 0 takes a free one."] = 8790
    data: Annotated[Path, "Folder that holds the indexes and tokens."] = Path("vicinal-data")
    database: Annotated[
        Text | None,
        _SECRET,
        "PostgreSQL that many servers share, as postgresql://USER:PASSWORD@HOST,HOST/NAME; it "
        "keeps indexes and tokens, and `data` copies of the indexes.",
    ] = None
    database_schema: Annotated[Text, "Schema of the tables in `database`."] = "vicinal"
    write_deadline_s: Annotated[
        float,
        Meta(ge=0.1, le=3_600),
        "Seconds after which a write is refused that `database` does not take.",
    ] = 30.0
    consistency: Annotated[
        Literal["bounded", "strong"],
        "Whether a query may miss what other servers of `database` have just acknowledged, for "
        "milliseconds, or asks the database first.",
    ] = "bounded"
    copies_bytes_max: Annotated[
        int,
        Meta(ge=0),
        "Bytes of disk that copies of indexes of `database` may take; 0 for no bound.",
    ] = 0
    limits: Annotated[
        Literal["cloudflare", "cloudflare-2025", "open"], "Profile of limits; see `vicinal limits`."
    ] = "cloudflare"
    token: Annotated[
        Names,
        _SECRET,
        "Token(s) that may read and write everything, beside those of `vicinal token create`.",
    ] = ()
    require_token: Annotated[
        bool, "Ask for a known token on loopback too, even when none has been created."
    ] = False
    allowed_origins: Annotated[
        Origins, "Web pages that may use the server: SCHEME://HOST[:PORT]."
    ] = ()
    allowed_hosts: Annotated[
        Hosts, "Names, beside those of loopback, that a server without tokens may be called by."
    ] = ()
    account: Annotated[
        Text, "Account shown to clients that ask for one, and that the demo goes to."
    ] = "local"
    log_format: Annotated[Literal["text", "json"], "Form of the log on standard error."] = "text"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], "Least level that is logged."
    ] = "info"
    access_log: Annotated[bool, "Log a line for every request, at the level info."] = True
    request_ids: Annotated[
        bool, "Give every request an id: in the header cf-ray of its answer, and in the log."
    ] = True
    traces_url: Annotated[
        Text | None,
        "Base URL of a collector that traces go to, by OTLP over HTTP.",
    ] = None
    slow_query_s: Annotated[
        float,
        Meta(ge=0, le=3_600),
        "Seconds from which a query is logged, and kept, as a slow one; 0 keeps none.",
    ] = 1.0
    models: Annotated[
        Path | None,
        "Folder that embedding models are kept in; the user's cache folder if not given.",
    ] = None
    model_folders: Annotated[
        Pairs, "Folders that hold one model's files each, as MODEL=FOLDER."
    ] = ()
    allow_model_download: Annotated[
        bool, "Fetch a known model when it is first asked for and not on disk."
    ] = True
    embedding_threads: Annotated[
        int, Meta(ge=0, le=1_024), "Threads that embed text; 0 takes one per core."
    ] = 0
    embedding_queue_max: Annotated[
        int, Meta(ge=1, le=100_000), "Embedding requests that may wait; more are answered 429."
    ] = 256
    embedding_url: Annotated[
        Text | None, "Base URL of an OpenAI-compatible service that embeds instead of this process."
    ] = None
    embedding_key: Annotated[Text | None, _SECRET, "Bearer token for `embedding_url`."] = None
    embedding_models: Annotated[
        Pairs, "Names that models have at `embedding_url`, as MODEL=NAME."
    ] = ()
    reranking_url: Annotated[
        Text | None, "Base URL of a service that ranks texts at /rerank instead of this process."
    ] = None
    reranking_key: Annotated[Text | None, _SECRET, "Bearer token for `reranking_url`."] = None
    reranking_models: Annotated[Pairs, "Names of models at `reranking_url`, as MODEL=NAME."] = ()
    generation_url: Annotated[
        Text | None, "Base URL of an OpenAI-compatible service that generates text."
    ] = None
    generation_key: Annotated[Text | None, _SECRET, "Bearer token for `generation_url`."] = None
    generation_models: Annotated[
        Pairs, "Names of models at `generation_url`, as MODEL=NAME; `*` is every other."
    ] = ()
    generation_requests_max: Annotated[
        int, Meta(ge=1, le=100_000), "Requests for text under way; more are answered 429."
    ] = 32
    generation_idle_s: Annotated[
        float, Meta(ge=0.1, le=86_400), "Seconds that `generation_url` may be silent."
    ] = 120.0
    generation_timeout_s: Annotated[
        float, Meta(ge=0.1, le=86_400), "Seconds that one generated text may take."
    ] = 600.0
    visibility_delay_s: Annotated[
        float,
        Meta(ge=0, le=3_600),
        "Seconds that a write stays invisible, to imitate the hosted service in tests.",
    ] = 0.0
    snapshot_folder: Annotated[
        Path | None,
        "Folder that the server keeps snapshots of itself in; better on another disk than `data`.",
    ] = None
    snapshot_interval_s: Annotated[
        float,
        Meta(ge=0, le=31_536_000),
        "Seconds from one scheduled snapshot to the next; 0 makes none by itself.",
    ] = 0.0
    snapshots_kept: Annotated[
        int,
        Meta(ge=1, le=100_000),
        "Scheduled snapshots that are kept; older ones are deleted after a new one.",
    ] = 7
    memtable_rows_max: Annotated[
        int,
        Meta(ge=100, le=1_000_000, extra={"deprecated_name": "tail_rows_max"}),
        "Newest vectors of an index that are kept in memory and scanned.",
    ] = 20_000
    queue_bytes_max: Annotated[
        int,
        Meta(ge=1 << 20),
        "Bytes of writes that may be logged but not yet visible; more are answered 429.",
    ] = 512 << 20
    body_bytes_in_flight_max: Annotated[
        int, Meta(ge=1 << 20), "Bytes of request bodies held at once; more are answered 429."
    ] = 512 << 20
    requests_max: Annotated[
        int, Meta(ge=1, le=1_000_000), "Requests that may be under way; more are answered 429."
    ] = 1_024
    connections_max: Annotated[
        int,
        Meta(ge=0, le=1_000_000),
        "Connections that may be open; more are answered 503. 0 takes what the limit on open "
        "files leaves beside the indexes, at most 8,192.",
    ] = 0
    query_threads: Annotated[
        int, Meta(ge=0, le=1_024), "Threads that search; 0 takes one per core."
    ] = 0
    backlog: Annotated[int, Meta(ge=1, le=65_535), "Connections that may wait to be accepted."] = (
        2_048
    )
    keep_alive_s: Annotated[
        int, Meta(ge=1, le=86_400), "Seconds that an idle connection is kept open."
    ] = 75
    shutdown_timeout_s: Annotated[
        int, Meta(ge=0, le=3_600), "Seconds that running requests get when the server stops."
    ] = 10

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


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _variable(name: str) -> str:
    return f"{ENVIRONMENT_PREFIX}{name.upper()}"


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table.

    Attributes:
        type: Annotated with the bounds.
        form: Name of the type, for a reader.
        least, most: Bounds of a number, both allowed; infinite if there is none.
        choices: All values of a text; empty if any will do.
        deprecated_name: Name that is still accepted; empty if there is none.
    """

    name: str
    type: Any
    form: str
    default: object
    description: str
    least: float
    most: float
    choices: tuple[str, ...]
    is_secret: bool
    deprecated_name: str

    @property
    def flag(self) -> str:
        """Spelling for ``vicinal serve``."""
        return _flag(self.name)

    @property
    def variable(self) -> str:
        """Spelling in the environment."""
        return _variable(self.name)

    @property
    def deprecated_flag(self) -> str:
        """Spelling of the deprecated name for ``vicinal serve``."""
        return _flag(self.deprecated_name)

    def shown(self, value: object) -> str:
        """Return `value` as a person may see it: never a secret."""
        if self.is_secret and value:
            return "(hidden)"
        if value is None or value == ():
            return ""
        if isinstance(value, tuple):
            return ",".join("=".join(part) if isinstance(part, tuple) else part for part in value)
        return str(value).lower() if isinstance(value, bool) else str(value)


def _table() -> Iterator[Setting]:
    annotated, plain = get_type_hints(Settings, include_extras=True), get_type_hints(Settings)
    for row in fields(Settings):
        *metas, description = annotated[row.name].__metadata__
        extra = {key: value for meta in metas for key, value in (meta.extra or {}).items()}
        choices = get_args(plain[row.name]) if plain[row.name] not in FORMS else ()
        yield Setting(
            name=row.name,
            type=annotated[row.name],
            form=extra.get("form") or ("text" if choices else FORMS[plain[row.name]]),
            default=row.default,
            description=description,
            least=max((meta.ge for meta in metas if meta.ge is not None), default=-math.inf),
            most=min((meta.le for meta in metas if meta.le is not None), default=math.inf),
            choices=choices,
            is_secret=extra.get("is_secret", False),
            deprecated_name=extra.get("deprecated_name", ""),
        )


TABLE = tuple(_table())
"""Every setting, in the order of declaration."""

_ROWS = {row.name: row for row in TABLE}
_DEPRECATED = {row.deprecated_name: row for row in TABLE if row.deprecated_name}


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings and where each value came from.

    Attributes:
        origins: Source of the value, by name of setting.
        warnings: One sentence for each deprecated name that was used.
    """

    settings: Settings
    origins: Mapping[str, str]
    warnings: tuple[str, ...]


class _Given(NamedTuple):
    """A raw value of one source.

    Attributes:
        name: Name of a setting, or its deprecated name.
        source: Place and spelling, for messages.
        folder: Base of a relative folder.
    """

    name: str
    raw: object
    source: str
    folder: Path = Path()
    is_flag: bool = False


def load(
    flags: Mapping[str, object], environment: Mapping[str, str], config: Path | None
) -> Loaded:
    """Gather settings from all sources.

    Args:
        flags: By name of setting: text, a bool or a sequence of text; None for "not given".
        config: A TOML file to read instead of ``vicinal.toml`` in the working folder.

    Raises:
        InvalidInput: a key is unknown, or a value is of the wrong type or out of bounds; says
            which and where. `BadFlag` if a flag has it.
    """
    values: dict[str, Any] = {}
    origins = {row.name: "default" for row in TABLE}
    warnings = []
    # From the weakest source to the strongest; in a source a name is stronger than its old one.
    for source in (_from_file(config), _from_environment(environment), _from_flags(flags)):
        for given in sorted(source, key=lambda given: given.name not in _DEPRECATED):
            row = _DEPRECATED.get(given.name) or _ROWS[given.name]
            values[row.name] = _value_of(row, given)
            origins[row.name] = given.source
            if row.name != given.name:
                warnings.append(f"{given.source} is deprecated; the setting's name is {row.name}")
    return Loaded(Settings(**values), origins, tuple(warnings))


def _from_file(config: Path | None) -> Iterator[_Given]:
    path = config if config is not None else Path(CONFIG_FILE)
    if config is None and not path.is_file():
        return
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # also an integer of thousands of digits
        raise InvalidInput(f"{path}: is not TOML: {error}") from error
    for key, raw in document.items():
        if key not in _ROWS and key not in _DEPRECATED:
            raise InvalidInput(f"{path}: unknown setting {key!r}; {_did_you_mean(key)}")
        yield _Given(key, raw, f"{path}: {key}", path.parent)


def _from_environment(environment: Mapping[str, str]) -> Iterator[_Given]:
    for variable in sorted(environment):
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in CLIENT_VARIABLES:
            continue
        if is_link(variable, environment[variable]):
            continue
        name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        if (name not in _ROWS and name not in _DEPRECATED) or _variable(name) != variable:
            raise InvalidInput(f"environment: unknown setting {variable}; {_did_you_mean(name)}")
        yield _Given(name, environment[variable], variable)


def _from_flags(flags: Mapping[str, object]) -> Iterator[_Given]:
    for name, raw in flags.items():
        if raw is not None and raw != ():
            yield _Given(name, raw, _flag(name), is_flag=True)


def _did_you_mean(name: str) -> str:
    # Imported here: reading correct settings, which is every start, does not need it.
    from difflib import get_close_matches

    close = get_close_matches(name, _ROWS, n=1)
    return f"did you mean {close[0]!r}?" if close else "see `vicinal config show`"


def _value_of(row: Setting, given: _Given) -> object:
    """Return the value that a raw value stands for, of the row's type and within its bounds."""
    error_class = BadFlag if given.is_flag else InvalidInput
    try:
        parsed = setting_forms.parsed(row.form, given.raw)
        value = msgspec.convert(parsed, row.type)
        if row.form in MEMBER_READERS:
            value = tuple(map(MEMBER_READERS[row.form], value))
    except msgspec.ValidationError:
        raise error_class(f"{given.source}: {_fault(row, given.raw, parsed)}") from None
    except ValueError as error:  # the end of a sentence that begins with the value
        raise error_class(f"{given.source}: {given.raw!r} {error}") from None
    if isinstance(value, Path):
        return given.folder / value
    if row.name == "model_folders":
        return tuple((model, str(given.folder / folder)) for model, folder in value)
    return value


def _fault(row: Setting, raw: object, parsed: Any) -> str:
    """Say what is wrong with a value that msgspec refuses, without showing a secret."""
    is_number = type(parsed) is int or (type(parsed) is float and math.isfinite(parsed))
    if is_number and parsed < row.least:
        return f"{parsed} is less than {row.least:.10g}"
    if is_number and parsed > row.most:
        return f"{parsed} is more than {row.most:.10g}"
    shown = "the value" if row.is_secret else repr(raw)
    if row.choices and isinstance(raw, str) and raw.strip():
        return f"{shown} is none of {', '.join(row.choices)}"
    return f"{shown} {FAULTS[row.form]}"
