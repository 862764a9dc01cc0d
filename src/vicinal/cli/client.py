"""The HTTP client of the commands that talk to a running server.

Like any client of the API, this one knows the REST paths and the envelope. An error of the server
becomes one sentence with its code. On overload (429 and 503) requests are repeated after the time
in ``Retry-After``, else after doubling pauses; a patient client also waits for a server that is
restarting.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import update_wrapper
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click
import httpx
import msgspec
import numpy as np
from click.core import ParameterSource

from vicinal import trust
from vicinal.cli import outgoing, show
from vicinal.cli.shell_lines import DEFAULT_ACCOUNT, DEFAULT_URL
from vicinal.cli.shell_lines import command as shell_command
from vicinal.cli.wrangler_config import ConfigSelection, NamedAccount, named_account
from vicinal.errors import InvalidInput, reason_of
from vicinal.model import VectorBatch
from vicinal.wire import columns

ANY_TOKEN = "local"  # on loopback any token will do until one has been created

_TIMEOUT = httpx.Timeout(120.0, connect=5.0)
_PART_BYTES = 1 << 18  # what a socket takes at a time: more would be copied again and again
_PAUSE_S = 0.25
_PAUSE_MAX_S = 8.0

T = TypeVar("T")


class IndexConfigResponse(msgspec.Struct):
    """The settings of an index, fixed at its creation."""

    dimensions: int
    metric: str
    preset: str | None = None
    effort: str = "standard"
    model: str | None = None

    @property
    def text_model(self) -> str | None:
        """The model whose vectors the index holds, None if nobody said or no server runs it."""
        is_run = self.preset is not None and self.preset.startswith("@")
        return self.model or (self.preset if is_run else None)


class IndexResponse(msgspec.Struct):
    """An index of the account."""

    name: str
    config: IndexConfigResponse
    created_on: str
    description: str | None = None


class MatchResponse(msgspec.Struct):
    """One match of a query."""

    id: str
    score: float
    namespace: str | None = None
    values: list[float] | None = None
    metadata: dict[str, Any] | None = None


class VectorResponse(msgspec.Struct):
    """A stored vector, with what was asked for."""

    id: str
    namespace: str | None = None
    values: list[float] | None = None
    metadata: dict[str, Any] | None = None


class WordsStepResponse(msgspec.Struct, rename="camel", kw_only=True):
    """The search for words in one part of the index."""

    scored_count: int
    posting_count: int
    search_ms: float


class StepResponse(msgspec.Struct, rename="camel", kw_only=True):
    """The search of one part of the index, with times in milliseconds."""

    part: str
    vector_count: int
    selected_count: int
    method: str
    scored_count: int
    rescored_count: int = msgspec.field(name="measuredCount")
    select_ms: float
    candidates_ms: float = msgspec.field(name="proposeMs")
    rescore_ms: float = msgspec.field(name="measureMs")
    words: WordsStepResponse | None = None


class QueryResponse(msgspec.Struct):
    """The matches of a query, best first, and how they were found if that was asked for."""

    count: int
    matches: list[MatchResponse]
    explain: list[StepResponse] = []


class _ApiProblem(msgspec.Struct):
    message: str
    code: int = 0


class _ResponseEnvelope(msgspec.Struct):
    success: bool
    result: msgspec.Raw = msgspec.Raw(b"null")
    errors: list[_ApiProblem] = []
    messages: list[_ApiProblem] = []


class ApiError(click.ClickException):
    """The server answered with an error: its texts and codes, and the HTTP status."""

    def __init__(self, status: int, problems: Sequence[_ApiProblem]) -> None:
        text = "; ".join(f"{problem.message} [code: {problem.code}]" for problem in problems)
        super().__init__(text or f"the server answered HTTP {status} without saying why")
        self.status = status
        self.codes = {problem.code for problem in problems}
        self.texts = [problem.message for problem in problems]


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """A successful answer.

    Attributes:
        result: The result, as JSON.
        remarks: The messages beside the result.
        is_visible: Whether queries see the write, of a write that waits for that.
    """

    result: msgspec.Raw
    remarks: tuple[str, ...]
    is_visible: bool

    def decode(self, form: type[T]) -> T:
        """Return the result as a `form`; raise `click.ClickException` when it has another shape."""
        try:
            return msgspec.json.decode(self.result, type=form)
        except msgspec.MsgspecError as error:
            raise click.ClickException(f"the answer is not of this API: {error}") from error


class Client:
    """A client of one account of one server, whose base URL and token `http` carries.

    While the server is overloaded or restarting, requests are repeated for `patience_s` seconds; 0
    sends a request once.
    """

    def __init__(
        self,
        http: httpx.Client,
        account: str,
        *,
        patience_s: float = 0.0,
        pause: Callable[[float], None] | None = None,
    ) -> None:
        self._http = http
        self._account = outgoing.quoted(account)
        self._patience_s = patience_s
        self._pause = pause or time.sleep
        self._has_said_so = False  # that a server is away

    def indexes(self, *path: str) -> str:
        """Return the path of the account's indexes, or a path below."""
        parts = [outgoing.quoted(part) for part in path]
        return "/".join([f"/accounts/{self._account}/vectorize/v2/indexes", *parts])

    def model(self, name: str) -> str:
        """Return the path that runs an embedding model."""
        return f"/accounts/{self._account}/ai/run/{outgoing.quoted(name, safe='@/')}"

    def get(self, path: str, parameters: Mapping[str, str | int] | None = None) -> ApiResponse:
        return self._send("GET", path, params=parameters)

    def delete(self, path: str) -> ApiResponse:
        return self._send("DELETE", path)

    def post(
        self, path: str, body: object, headers: Mapping[str, str] = MappingProxyType({})
    ) -> ApiResponse:
        """Send POST with a JSON body."""
        headers = {"content-type": "application/json", **headers}
        return self._send("POST", path, content=outgoing.encoded(body), headers=headers)

    @contextmanager
    def stream(self, path: str, body: object) -> Iterator[Iterator[bytes]]:
        """Send POST with a JSON body, for the block; its value yields the answer as it comes.

        The block raises `httpx.TransportError` when the answer breaks off.

        Raises:
            ApiError: the server refuses it.
        """
        content = outgoing.encoded(body)
        headers = {"content-type": "application/json"}
        request = self._http.build_request("POST", path, content=content, headers=headers)
        with closing(self._patiently(lambda: self._http.send(request, stream=True))) as response:
            if not response.is_success:
                response.read()
                open_envelope(response)
            # In pieces as they come: larger ones would lose their beginning when it breaks off.
            yield response.iter_raw()

    def write(self, path: str, lines: bytes, *, wait_s: float = 0.0) -> ApiResponse:
        """Send vectors as NDJSON; with `wait_s`, answered when they are visible."""
        headers = {"content-type": "application/x-ndjson"}
        if wait_s:
            headers["prefer"] = f"wait={wait_s:g}"
        return self._send("POST", path, content=lines, headers=headers)

    def write_columns(
        self,
        path: str,
        batch: VectorBatch,
        *,
        wait_s: float = 0.0,
        before_end: Callable[[], object] = lambda: None,
    ) -> ApiResponse:
        """Send vectors as a columns body; with `wait_s`, answered when they are visible.

        `before_end` is called before the last bytes of the body are sent, as often as it is. An
        error that it raises ends the request, and the server writes nothing.
        """
        body = _ColumnsBody(batch, before_end)
        headers = {"content-type": columns.CONTENT_TYPE, "content-length": str(body.size)}
        if wait_s:
            headers["prefer"] = f"wait={wait_s:g}"
        return self._send("POST", path, content=body, headers=headers)

    def stop_waiting(self) -> None:
        """Repeat no request any more; for another thread's."""
        self._patience_s = 0.0

    def _send(self, method: str, path: str, **options: Any) -> ApiResponse:
        return open_envelope(self._patiently(lambda: self._http.request(method, path, **options)))

    def _patiently(self, send: Callable[[], httpx.Response]) -> httpx.Response:
        """Send a request until it is answered by other than 429 and 503, or patience is over."""
        waited_s, pause_s = 0.0, _PAUSE_S
        while True:
            try:
                response = send()
            except httpx.TransportError as error:
                if waited_s >= self._patience_s or trust.is_distrust(str(error)):
                    raise click.ClickException(self._unreachable(error)) from error
                self._say_away(error)
                wanted_s = pause_s
            else:
                if response.status_code not in (429, 503) or waited_s >= self._patience_s:
                    return response
                response.close()
                wanted_s = _retry_after_s(response) or pause_s
            wanted_s = min(wanted_s, self._patience_s - waited_s)
            self._pause(wanted_s)
            waited_s += wanted_s
            pause_s = min(pause_s * 2, _PAUSE_MAX_S)

    def _say_away(self, error: httpx.TransportError) -> None:
        """Tell once why nothing happens."""
        if not self._has_said_so:
            self._has_said_so = True
            reason = reason_of(error)
            show.note(
                f"no answer from {self._http.base_url}: {reason}; trying again for "
                f"{self._patience_s:g} s"
            )

    def _unreachable(self, error: httpx.TransportError) -> str:
        reason = trust.with_remedy(reason_of(error))
        return (
            f"no answer from {self._http.base_url}: {reason}. "
            "Is a server running there? `vicinal serve` starts one; --url names another."
        )


class _ColumnsBody:
    """A columns body in parts, as often as it is asked for, and a call before the last of them."""

    def __init__(self, batch: VectorBatch, before_end: Callable[[], object]) -> None:
        self._before_end = before_end
        self._head = columns.head(batch)
        values = np.ascontiguousarray(batch.values, "<f4")
        self._values = memoryview(values.reshape(-1).view(np.uint8))  # type: ignore[arg-type]  # NumPy's arrays are buffers
        self.size = len(self._head) + len(self._values)

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        for start in range(0, len(self._values), _PART_BYTES):
            end = start + _PART_BYTES
            if end >= len(self._values):
                self._before_end()
            yield bytes(self._values[start:end])


def _retry_after_s(response: httpx.Response) -> float:
    text = response.headers.get("retry-after", "")
    return float(text) if text.isdigit() else 0.0


def failure_of(line: bytes) -> ApiError | None:
    """Return the error that ends a stream of lines, None if the line is no error."""
    if not line.startswith(b'{"result":null'):
        return None
    try:
        envelope = msgspec.json.decode(line, type=_ResponseEnvelope)
    except msgspec.MsgspecError:
        return None
    return None if envelope.success else ApiError(httpx.codes.OK, envelope.errors)


def open_envelope(response: httpx.Response) -> ApiResponse:
    """Return the successful answer in a response.

    Raises:
        ApiError: the server answered with an error.
        click.ClickException: the response has no envelope of this API.
    """
    try:
        envelope = msgspec.json.decode(response.content, type=_ResponseEnvelope)
    except msgspec.MsgspecError:
        raise click.ClickException(
            f"{response.request.url} answered HTTP {response.status_code} and no JSON envelope; "
            "is that a Vicinal server?"
        ) from None
    if not response.is_success or not envelope.success:
        raise ApiError(response.status_code, envelope.errors)
    return ApiResponse(
        envelope.result,
        tuple(remark.message for remark in envelope.messages),
        is_visible="wait=" in response.headers.get("preference-applied", ""),
    )


@dataclass(frozen=True, slots=True)
class Target:
    """The server and the account of a command; `cacert` is as in `trust.verification`."""

    url: str
    token: str
    account: str
    cacert: Path | None = None

    @property
    def origin(self) -> str:
        """The URL without the path that SDKs are given."""
        return self.url.rstrip("/").removesuffix("/client/v4")

    @property
    def secret(self) -> str:
        """The first token of the list, which VICINAL_TOKEN of a server may be."""
        return self.token.split(",")[0].strip()

    def _host(self) -> str:
        try:
            parts = urlsplit(self.origin)
        except ValueError:
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise httpx.InvalidURL(f"it is not a URL like {DEFAULT_URL}")
        return parts.hostname

    def command(self, *words: str) -> str:
        """Return a shell command for the same server and account, without the token."""
        return shell_command(*words, origin=self.origin, account=self.account, cacert=self.cacert)

    @contextmanager
    def connect(self, *, patience_s: float = 0.0) -> Iterator[Client]:
        """Open a client for the duration of the block."""
        with self.http(_TIMEOUT) as http:
            yield Client(http, self.account, patience_s=patience_s)

    @contextmanager
    def http(self, timeout: httpx.Timeout) -> Iterator[httpx.Client]:
        """Open an HTTP client for the base URL of the API, for the duration of the block."""
        base = f"{self.origin}/client/v4"
        try:
            # A proxy is for other machines.
            is_near = self._host() in ("127.0.0.1", "::1", "localhost")
            with httpx.Client(
                base_url=base,
                headers={"authorization": f"Bearer {self.secret}"},
                timeout=timeout,
                trust_env=not is_near,
                verify=trust.verification(self.cacert),
            ) as http:
                yield http
        except httpx.InvalidURL as error:
            raise click.ClickException(f"--url {self.url}: {error}") from error
        except InvalidInput as error:
            raise click.ClickException(str(error)) from error


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """The values of --url, --token, --account and --cacert.

    Attributes:
        account: None when not given; then the folder's configuration may name one.
    """

    url: str
    token: str
    account: str | None
    cacert: Path | None = None

    def target(self, named: NamedAccount | None) -> Target:
        """Return the target, with the account of a folder's configuration where none was given."""
        account = self.account or (named.account if named is not None else DEFAULT_ACCOUNT)
        return Target(self.url, self.token, account, self.cacert)


FOUND_ACCOUNT_VARIABLE = "_VICINAL_ACCOUNT_FOUND"
"""Tells child processes that ``VICINAL_ACCOUNT`` comes from a folder's configuration."""


def given_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add --url, --token, --account and --cacert, and pass them to the command as `given`."""

    @click.option("--url", envvar="VICINAL_URL", default=DEFAULT_URL, show_default=True)
    @click.option("--token", envvar="VICINAL_TOKEN", default=ANY_TOKEN, help="Bearer token.")
    @click.option(
        "--account",
        envvar="VICINAL_ACCOUNT",
        help="The account_id of the folder's wrangler configuration, or local, if not given.",
    )
    @click.option(
        "--cacert",
        type=click.Path(path_type=Path),
        help="Certificates that an https:// server is believed by, as PEM; those of SSL_CERT_FILE, "
        "or the usual ones, if not given.",
    )
    @click.pass_context
    def with_given(
        context: click.Context,
        /,
        url: str,
        token: str,
        account: str | None,
        cacert: Path | None,
        **others: object,
    ) -> None:
        is_said_here = context.get_parameter_source("account") is ParameterSource.COMMANDLINE
        if not is_said_here and account == os.environ.get(FOUND_ACCOUNT_VARIABLE):
            account = None
        context.invoke(command, given=TargetOptions(url, token, account or None, cacert), **others)

    return update_wrapper(with_given, command)


def target_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add --url, --token, --account and --cacert, and pass them to the command as `target`."""

    @given_options
    @click.pass_context
    def with_target(context: click.Context, /, given: TargetOptions, **others: object) -> None:
        named = None
        if given.account is None:
            named = named_account(ConfigSelection(Path.cwd()), os.environ)
        if named is not None:
            show.note(f"in account {named.account}, as {named.file} says; --account names another")
        context.invoke(command, target=given.target(named), **others)

    return update_wrapper(with_target, command)
