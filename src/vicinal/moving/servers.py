"""A Vicinal server and the platform's own service as stores, by the public API.

Both speak the same API, with these differences: the platform's takes fewer ids in a call, which is
found out by asking; asks callers to slow down, which the copy does; and knows no efforts.

A listing tells the ids of one moment. Vectors are read page by page after it, so that a
vector is as it was then, and one that was deleted meanwhile is left out. The API does not tell
which vectors a metadata index lacks: copies have every vector in every one.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import httpx
import msgspec

from vicinal import trust
from vicinal.engine.contents import Contents
from vicinal.errors import (
    AlreadyExists,
    BadCursor,
    Corruption,
    Forbidden,
    IndexExists,
    IndexNotFound,
    InvalidInput,
    TooManyIds,
    Unavailable,
    reason_of,
)
from vicinal.limits import PROFILES
from vicinal.model import (
    CreateMetadataIndex,
    Effort,
    IndexAddress,
    IndexConfig,
    IndexType,
    MetadataIndex,
    Metric,
    StoredVector,
    Upsert,
    VectorBatch,
)
from vicinal.moving.base import ExistingIndex, SourceIndex
from vicinal.moving.foreign import without_secret
from vicinal.moving.patience import patiently
from vicinal.tokens import TokenStore
from vicinal.wire import responses, vectors
from vicinal.wire.schemas import (
    IndexInfoSchema,
    IndexSchema,
    MetadataIndexListSchema,
    MutationSchema,
    VectorListSchema,
)

PAGE_IDS = 1_000  # what one listing returns in every profile of limits
BODY_BYTES_MAX = 32 << 20  # of one upsert; ours
PLATFORM_HOST = "api.cloudflare.com"

_log = logging.getLogger(__name__)

_LIMITS = PROFILES["open"]
_PLATFORM_LIMITS = PROFILES["cloudflare"]
_IDS_OF_EVERY_PROFILE = min(limits.get_ids_max for limits in PROFILES.values())
_TIMEOUT = httpx.Timeout(120.0, connect=5.0)
_AGAIN_S = 1.0  # where an answer does not say when to ask again
_RETRY_STATUSES = (429, 500, 502, 503, 504)
_INDEX_NOT_FOUND, _INDEX_EXISTS, _TOO_MANY_IDS, _BAD_CURSOR = 3000, 3002, 40007, 40052

T = TypeVar("T")


class _Complaint(msgspec.Struct):
    message: str = ""
    code: int = 0


class _Answer(msgspec.Struct):
    success: bool
    result: msgspec.Raw = msgspec.Raw(b"null")
    errors: list[_Complaint] = []


class _PagePosition(msgspec.Struct, array_like=True, frozen=True):
    """A cursor of `ListedContents`: the next page of a listing, None at its end."""

    moment: str
    cursor: str | None


class IndexApi:
    """The operations of the API that a copy needs, each sent again while it asks for that.

    Raises:
        Unavailable: the server could not be reached, or has asked to come again all the time.
        Denied: the token is not good for this.
        InvalidInput: the server refuses for another reason.
    """

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def call(
        self,
        method: str,
        address: IndexAddress,
        *path: str,
        shape: type[T],
        json: object = None,
        lines: bytes | None = None,
        parameters: Mapping[str, str | int] | None = None,
    ) -> T:
        """Send a request about an index, or about all of an account if its name is empty."""
        parts = [quote(part, safe="") for part in (address.name, *path) if part]
        account = quote(address.account, safe="")
        url = "/".join([f"/accounts/{account}/vectorize/v2/indexes", *parts])
        content, kind = lines, "application/x-ndjson"
        if json is not None:
            content, kind = msgspec.json.encode(json), "application/json"
        headers = {} if content is None else {"content-type": kind}
        request = self._http.build_request(
            method, url, content=content, headers=headers, params=parameters
        )
        answer = patiently(partial(self._send, request, address.name))
        try:
            return msgspec.json.decode(answer.result, type=shape)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise InvalidInput(f"{url} does not answer as this API does: {error}") from error

    def _send(self, request: httpx.Request, name: str) -> _Answer:
        try:
            response = self._http.send(request)
        except httpx.TransportError as error:
            reason = trust.with_remedy(reason_of(error))
            raise Unavailable(
                f"no answer from {self._http.base_url}: {reason}",
                retry_after=None if trust.is_distrust(reason) else _AGAIN_S,
            ) from error
        return self._opened(response, name)

    def _opened(self, response: httpx.Response, name: str) -> _Answer:
        status = response.status_code
        try:
            answer = msgspec.json.decode(response.content, type=_Answer)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            answer = _Answer(success=False, errors=[_Complaint("without saying why")])
        if response.is_success and answer.success:
            return answer
        codes = {complaint.code for complaint in answer.errors}
        texts = "; ".join(
            f"{complaint.message} [code: {complaint.code}]" for complaint in answer.errors
        )
        text = f"{self._http.base_url} answered HTTP {status}: {texts}"
        if status in _RETRY_STATUSES:
            raise Unavailable(text, retry_after=_retry_after_s(response))
        if status in (401, 403):
            raise Forbidden(f"{text}; is the token good for this account?")
        if _INDEX_NOT_FOUND in codes or (status == 404 and name and not codes - {0}):
            raise IndexNotFound(name)
        if _INDEX_EXISTS in codes:
            raise IndexExists(name)
        if _TOO_MANY_IDS in codes:
            raise TooManyIds(text)
        raise BadCursor(text) if _BAD_CURSOR in codes else InvalidInput(text)


class ListedContents:
    """The contents of an index behind the API. Implements `engine.contents.Contents`."""

    def __init__(self, api: IndexApi, address: IndexAddress, cursor: str | None) -> None:
        self._api = api
        self._address = address
        self._ids_max = PAGE_IDS
        index = api.call("GET", address, shape=IndexSchema)
        info = api.call("GET", address, "info", shape=IndexInfoSchema)
        self._dimensions = index.config.dimensions
        self.vector_count = info.vector_count
        self._start = _PagePosition(f"{index.created_on} {info.processed_up_to_mutation}", None)
        if cursor is not None:
            self._start = msgspec.json.decode(cursor, type=_PagePosition)
            if self._start.moment.partition(" ")[0] != index.created_on:
                raise BadCursor(f"index {address.name!r} is another one than before")
        self._is_at_end = cursor is not None and self._start.cursor is None
        self.moment = self._start.moment

    def mutations(self) -> Iterator[tuple[Upsert | CreateMetadataIndex, str | None]]:
        """See `engine.contents.Contents`."""
        listed = self._api.call(
            "GET", self._address, "metadata_index", "list", shape=MetadataIndexListSchema
        )
        for row in listed.metadata_indexes:
            language = row.language or None
            metadata_index = MetadataIndex(row.property_name, row.index_type, language)
            yield CreateMetadataIndex(metadata_index), None
        cursor, is_last = self._start.cursor, self._is_at_end
        while not is_last:
            parameters: dict[str, str | int] = {"count": PAGE_IDS}
            if cursor is not None:
                parameters["cursor"] = cursor
            page = self._api.call(
                "GET", self._address, "list", shape=VectorListSchema, parameters=parameters
            )
            cursor = page.next_cursor
            is_last = cursor is None
            batch = self._vectors([listed.id for listed in page.vectors])
            if batch is not None:
                position = _PagePosition(self.moment, cursor)
                yield Upsert(batch), msgspec.json.encode(position).decode()

    def _vectors(self, ids: Sequence[str]) -> VectorBatch | None:
        """Return the vectors of these ids that are still there, None if none is."""
        raw: list[msgspec.Raw] = []
        start = 0
        while start < len(ids):
            body = {"ids": ids[start : start + self._ids_max]}
            try:
                raw += self._api.call(
                    "POST", self._address, "get_by_ids", shape=list[msgspec.Raw], json=body
                )
            except TooManyIds:
                # A server does not tell its profile of limits.
                if self._ids_max <= _IDS_OF_EVERY_PROFILE:
                    raise
                self._ids_max = _IDS_OF_EVERY_PROFILE
            else:
                start += self._ids_max
        if not raw:
            return None
        body_bytes = b"[" + b",".join(bytes(vector) for vector in raw) + b"]"
        try:
            return vectors.read(body_bytes, "application/json", self._dimensions, _LIMITS)
        except InvalidInput as error:
            raise Corruption(f"index {self._address.name!r} answers with: {error}") from error


@dataclass(slots=True)
class _WrittenIndex:
    """The last mutation that was sent to an index, and the metadata indexes that it has."""

    mutation_id: str | None = None
    metadata_indexes: dict[str, str] | None = None


class ServerStore:
    """The indexes of one server. Implements `moving.base.SourceStore` and `DestinationStore`.

    Args:
        http: A client with base URL and token; closed by `close`.
        account: Whose indexes are read where no account is chosen.
        is_platform: Whether this is the platform's own service.
    """

    promise = (
        "of the ids of one moment, with each vector as it is when it is read; one that is deleted "
        "by then is left out"
    )
    tokens: TokenStore | None = None

    def __init__(self, http: httpx.Client, account: str, *, is_platform: bool) -> None:
        url = without_secret(str(http.base_url))
        self.label = url.removesuffix("/").removesuffix("/client/v4")
        self.identity = f"server {self.label}"
        self._http = http
        self._api = IndexApi(http)
        self._account = account
        self._is_platform = is_platform
        self._written: dict[IndexAddress, _WrittenIndex] = {}

    def addresses(self, accounts: Sequence[str]) -> Sequence[IndexAddress]:
        """See `moving.base.SourceStore`; no account means the one of the options."""
        return [
            IndexAddress(account, index.name)
            for account in accounts or [self._account]
            for index in self._api.call("GET", IndexAddress(account, ""), shape=list[IndexSchema])
        ]

    def describe(self, address: IndexAddress) -> SourceIndex:
        """See `moving.base.SourceStore`."""
        index = self._api.call("GET", address, shape=IndexSchema)
        info = self._api.call("GET", address, "info", shape=IndexInfoSchema)
        config = IndexConfig(
            index.config.dimensions,
            Metric(index.config.metric),
            index.config.preset or None,
            Effort(index.config.effort or Effort.STANDARD),
            index.config.model or None,
        )
        return SourceIndex(address, config, index.description or None, info.vector_count)

    @contextmanager
    def contents(self, address: IndexAddress, cursor: str | None) -> Iterator[Contents]:
        """See `moving.base.SourceStore`."""
        yield ListedContents(self._api, address, cursor)

    def left_behind(self) -> Sequence[str]:
        """See `moving.base.SourceStore`: the API tells of nothing else."""
        return ()

    def existing(self, address: IndexAddress) -> ExistingIndex | None:
        """See `moving.base.DestinationStore`; an index's id is its time of creation."""
        try:
            index = self._api.call("GET", address, shape=IndexSchema)
            count = self.settled_count(address)
        except IndexNotFound:
            return None
        return ExistingIndex(index.created_on, index.config.dimensions, index.config.metric, count)

    def homeless(self, index: SourceIndex) -> Sequence[str]:
        """See `moving.base.DestinationStore`."""
        if not self._is_platform:
            return ()
        things = []
        if index.config.effort is not Effort.STANDARD:
            things.append(f"its effort, {index.config.effort.value}, which is an extension")
        if index.config.model is not None:
            things.append(f"its model, {index.config.model}, which is an extension")
        if index.config.dimensions > _PLATFORM_LIMITS.dimensions_max:
            things.append(
                f"all of it, as {index.config.dimensions} dimensions are over "
                f"{_PLATFORM_LIMITS.dimensions_max}"
            )
        return things

    def create(self, address: IndexAddress, index: SourceIndex) -> str:
        """See `moving.base.DestinationStore`."""
        config = index.config
        wanted: dict[str, Any] = {"preset": config.preset}
        if config.preset is None:
            wanted = {"dimensions": config.dimensions, "metric": config.metric.value}
        if config.effort is not Effort.STANDARD and not self._is_platform:
            wanted["effort"] = config.effort.value
        if config.model is not None and not self._is_platform:
            wanted["model"] = config.model
        body: dict[str, Any] = {"name": address.name, "config": wanted}
        if index.description is not None:
            body["description"] = index.description
        account = IndexAddress(address.account, "")
        try:
            created = self._api.call("POST", account, shape=IndexSchema, json=body)
        except IndexExists:
            raise IndexExists(address.name) from None
        return created.created_on

    def delete(self, address: IndexAddress) -> None:
        """See `moving.base.DestinationStore`."""
        self._written.pop(address, None)
        self._api.call("DELETE", address, shape=object)

    def write(self, address: IndexAddress, mutation: Upsert | CreateMetadataIndex) -> None:
        """See `moving.base.DestinationStore`."""
        written = self._written.setdefault(address, _WrittenIndex())
        if isinstance(mutation, CreateMetadataIndex):
            self._create_metadata_index(address, mutation, written)
            return
        for lines in _bodies(mutation.batch):
            accepted = self._api.call("POST", address, "upsert", shape=MutationSchema, lines=lines)
            written.mutation_id = accepted.mutation_id

    def _create_metadata_index(
        self, address: IndexAddress, mutation: CreateMetadataIndex, written: _WrittenIndex
    ) -> None:
        wanted = mutation.metadata_index
        if written.metadata_indexes is None:
            listed = self._api.call(
                "GET", address, "metadata_index", "list", shape=MetadataIndexListSchema
            )
            written.metadata_indexes = {
                row.property_name: MetadataIndex(
                    row.property_name, row.index_type, row.language or None
                ).type_name
                for row in listed.metadata_indexes
            }
        there = written.metadata_indexes.get(wanted.property_name)
        if there == wanted.type_name:
            return
        if wanted.index_type is IndexType.TEXT and self._is_platform:
            _log.warning(
                "%s has no text indexes: the one on %r of index %r was left out",
                self.label,
                wanted.property_name,
                address.name,
            )
            return
        if there is not None:
            raise AlreadyExists(
                f"property {wanted.property_name!r} has a metadata index of type {there} in "
                f"{self.label}, and is to have one of type {wanted.type_name}"
            )
        body: dict[str, Any] = {
            "propertyName": wanted.property_name,
            "indexType": wanted.index_type.value,
        }
        if wanted.language is not None:
            body["language"] = wanted.language
        if mutation.backfill and not self._is_platform:
            body["backfill"] = True
        accepted = self._api.call(
            "POST", address, "metadata_index", "create", shape=MutationSchema, json=body
        )
        written.mutation_id = accepted.mutation_id
        written.metadata_indexes[wanted.property_name] = wanted.type_name

    def settled_count(self, address: IndexAddress) -> int:
        """See `moving.base.DestinationStore`.

        Raises:
            Unavailable: the server has not come to the last mutation yet.
        """
        info = self._api.call("GET", address, "info", shape=IndexInfoSchema)
        written = self._written.get(address)
        if written is not None and written.mutation_id not in (None, info.processed_up_to_mutation):
            raise Unavailable(
                f"{self.label} has not processed mutation {written.mutation_id} of index "
                f"{address.name!r}, or others write to it",
                retry_after=_AGAIN_S,
            )
        return info.vector_count

    def close(self) -> None:
        """See `moving.base.SourceStore`."""
        self._http.close()


def open_server(url: str, token: str, account: str, cacert: Path | None = None) -> ServerStore:
    """Return a store for a server at a URL, with or without the path of its API.

    `cacert` is as in `trust.verification`.

    Raises:
        InvalidInput: it is no URL of a server, or the certificates cannot be read.
    """
    base = url.rstrip("/").removesuffix("/client/v4") + "/client/v4"
    try:
        host = urlsplit(base).hostname
        if not host:
            raise ValueError("it has no host")
        http = httpx.Client(
            base_url=base,
            headers={"authorization": f"Bearer {token}"},
            timeout=_TIMEOUT,
            trust_env=host not in ("127.0.0.1", "::1", "localhost"),  # a proxy is for others
            verify=trust.verification(cacert),
        )
    except (ValueError, httpx.InvalidURL) as error:
        raise InvalidInput(
            f"{without_secret(url)!r} is not the URL of a server: {error}"
        ) from error
    return ServerStore(http, account, is_platform=host == PLATFORM_HOST)


def _bodies(batch: VectorBatch) -> Iterator[bytes]:
    """Yield a batch as bodies of NDJSON that every profile of limits lets pass."""
    lines: list[bytes] = []
    size = 0
    columns = zip(batch.ids, batch.values, batch.namespaces, batch.metadata, strict=True)
    for id_, values, namespace, metadata in columns:
        line = responses.vectors([StoredVector(id_, values, namespace, metadata)])[1:-1] + b"\n"
        if size + len(line) > BODY_BYTES_MAX:
            yield b"".join(lines)
            lines, size = [], 0
        lines.append(line)
        size += len(line)
    if lines:
        yield b"".join(lines)


def _retry_after_s(response: httpx.Response) -> float:
    text = response.headers.get("retry-after", "")
    return float(text) if text.isdecimal() and len(text) < 5 else _AGAIN_S
