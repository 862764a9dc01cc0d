"""JSON bodies and URL parameters of requests, read into the model.

Shapes are in `schemas`; the rules that a shape cannot express are here. Content types are ignored:
every body that parses as JSON is accepted. An error names the member as a path and the value that
was expected; its text begins like the live service's where that is known.
"""

import re
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import msgspec
import numpy as np

from vicinal import errors, metadata
from vicinal.filters.nodes import Filter
from vicinal.filters.parse import broken_key_rule, parse
from vicinal.limits import Limits
from vicinal.model import (
    CreateMetadataIndex,
    DeleteMetadataIndex,
    Effort,
    Floats,
    IndexConfig,
    MetadataIndex,
    MetadataLevel,
    Query,
)
from vicinal.presets import PRESETS
from vicinal.wire import counting, members, ranking, reasons, schemas

Body = bytes | bytearray
_T = TypeVar("_T")

FAILED = reasons.FAILED
"""The beginning of what is said of a body that is not of its shape."""

_INDEX_NAME = re.compile(r"[A-Za-z0-9_-]+")
_MODEL_BYTES_MAX = 256  # ours
_COUNT = re.compile(r"[0-9]{1,9}")
_LEVELS: dict[str | bool | None, MetadataLevel] = {
    None: MetadataLevel.NONE,
    False: MetadataLevel.NONE,
    True: MetadataLevel.ALL,
    **{level.value: level for level in MetadataLevel},
}


@dataclass(frozen=True, slots=True)
class CreateIndex:
    """The settings of an index to be created."""

    name: str
    description: str | None
    config: IndexConfig


@dataclass(frozen=True, slots=True)
class ListParameters:
    """The wanted page of ids: its size, and the cursor of the page before."""

    count: int
    cursor: str | None


@dataclass(frozen=True, slots=True)
class EmbeddingParameters:
    """Texts to embed. A `pooling` of None is the model's own."""

    texts: tuple[str, ...]
    pooling: Literal["mean", "cls"] | None = None


@dataclass(frozen=True, slots=True)
class OpenAIEmbeddingParameters:
    """Texts to embed by a request in OpenAI's form.

    `dimensions` is the length that the caller expects, None for any.
    """

    model: str
    texts: tuple[str, ...]
    encoding: Literal["float", "base64"] = "float"
    dimensions: int | None = None


def create_index(body: Body, limits: Limits) -> CreateIndex:
    """Read the body of an index creation.

    Raises:
        BadBody: the body is not JSON of this shape.
        BadIndexConfig: name, dimensions, metric or preset that cannot be.
    """
    return checked_index(decode(body, schemas.CreateIndexRequest), limits)


def checked_index(request: schemas.CreateIndexRequest, limits: Limits) -> CreateIndex:
    """Check an index creation by the rules that its shape cannot express.

    Raises:
        BadIndexConfig: name, dimensions, metric or preset that cannot be.
    """
    size = len(request.name.encode())
    if size > limits.index_name_bytes_max:
        raise errors.BadIndexConfig(
            f"Index name must not exceed {limits.index_name_bytes_max} bytes, got {size} bytes"
        )
    if _INDEX_NAME.fullmatch(request.name) is None:
        raise errors.BadIndexConfig(
            f'Index name "{request.name}" must be of letters, digits, dashes and underscores'
        )
    size = len((request.description or "").encode())
    if size > limits.description_bytes_max:
        raise errors.BadIndexConfig(
            f"Description must not exceed {limits.description_bytes_max} bytes, got {size} bytes"
        )
    return CreateIndex(request.name, request.description, _index_config(request.config, limits))


def query(
    body: Body, dimensions: int, limits: Limits, *, is_filter_extended: bool = False
) -> Query:
    """Read the body of a query against an index of these dimensions.

    With `is_filter_extended` the filter may have the operators that are ours.

    Raises:
        BadBody: the body is not JSON of this shape, or has neither vector nor vectorId.
        BadQueryVector: the vector is not a flat array of `dimensions` numbers.
        BadTopK: topK is not an integer, or not in the range that the options allow.
        IdTooLong, NamespaceTooLong: the id or namespace is one that no vector can have.
        BadFilter: the filter is outside the grammar.
    """
    body = members.unmarked(body)
    document = members.quick(body, "vector")
    if document is None:
        try:
            document = members.careful(body, "vector", unique=False)
        except members.Malformed as error:
            raise errors.BadBody(FAILED + str(error)) from None
    vector = document.pop("vector", None)
    try:
        request = msgspec.convert(document, schemas.QueryRequest)
    except msgspec.ValidationError as error:
        raise errors.BadBody(FAILED + reasons.reason(error, schemas.QueryRequest)) from None
    return checked_query(request, vector, dimensions, limits, is_filter_extended=is_filter_extended)


def checked_query(
    request: schemas.QueryRequest,
    vector: object,
    dimensions: int,
    limits: Limits,
    *,
    is_filter_extended: bool = False,
) -> Query:
    """Check a query by the rules that its shape cannot express.

    Args:
        request: The query without its vector.
        vector: A list or an array of numbers, or None.
        dimensions: Length of the index's vectors.
        limits: Bounds on topK, the namespace and the filter.
        is_filter_extended: Whether the filter may have the operators that are ours.

    Raises:
        BadBody, BadQueryVector, BadTopK, IdTooLong, NamespaceTooLong, BadFilter: as `query`.
    """
    if request.text is not None and isinstance(vector, list | np.ndarray) and len(vector) == 0:
        vector = None  # of the binding in a Worker, whose queries always have one
    if vector is None and request.vector_id is None and request.text is None:
        raise errors.BadBody(f"{FAILED}expected one of vector and vectorId, got neither")
    if request.vector_id == "":
        raise errors.BadBody(f"{FAILED}vectorId: must not be empty")
    check_id(request.vector_id or "", "vectorId", limits)
    return_metadata = _LEVELS[request.return_metadata]
    is_full = bool(request.return_values) or return_metadata is MetadataLevel.ALL
    has_vector = vector is not None and request.vector_id is None
    plain = Query(
        top_k=_top_k(request.top_k, is_full, limits),
        # The Python SDK always sends a vector; a caller that adds an id means the id.
        vector=_query_vector(vector, dimensions) if has_vector else None,
        vector_id=request.vector_id,
        namespace=checked_namespace(request.namespace, limits),
        filter=checked_filter(request.filter, limits, is_extended=is_filter_extended),
        return_values=bool(request.return_values),
        return_metadata=return_metadata,
    )
    return ranking.extended(plain, request, limits) if ranking.is_extended(request) else plain


def ids(body: Body, ids_max: int, limits: Limits) -> list[str]:
    """Read the body of a get or delete by ids; `ids_max` is inclusive.

    Raises:
        BadBody: the body is not ``{"ids": [strings]}``.
        TooManyIds, IdTooLong: as `check_ids`.
    """
    return check_ids(decode(body, schemas.IdsRequest).ids, ids_max, limits)


def check_ids(ids: list[str], ids_max: int, limits: Limits) -> list[str]:
    """Return `ids`; refuse more ids than one call may name, and ids that no vector can have.

    Raises:
        TooManyIds: there are more than `ids_max`.
        IdTooLong: an id has more bytes than the id of a vector may have.
    """
    if len(ids) > ids_max:
        raise errors.TooManyIds(
            f"too many ids in payload; max id count is {ids_max}, got {len(ids)}"
        )
    for position, vector_id in enumerate(ids):
        check_id(vector_id, f"ids[{position}]", limits)
    return ids


def check_id(vector_id: str, path: str, limits: Limits) -> None:
    """Refuse an id that no vector can have; `path` is its member.

    Raises:
        IdTooLong: it has more bytes than the id of a vector may have.
    """
    size = len(vector_id.encode())
    if size > limits.id_bytes_max:
        raise errors.IdTooLong(
            f"id too long; max is {limits.id_bytes_max} bytes, got {size} bytes ({path})"
        )


def create_metadata_index(body: Body, limits: Limits) -> CreateMetadataIndex:
    """Read the body of a metadata index creation; our member ``backfill`` may be true.

    Raises:
        BadBody: the body is not JSON of this shape, or no filter could name the property.
    """
    return checked_metadata_index(decode(body, schemas.CreateMetadataIndexRequest), limits)


def checked_metadata_index(
    request: schemas.CreateMetadataIndexRequest, limits: Limits
) -> CreateMetadataIndex:
    """Check a metadata index creation by the rules that its shape cannot express.

    Raises:
        BadBody: no filter could name the property, or the language is unknown.
    """
    broken = broken_key_rule(request.property_name, limits.property_name_chars_max)
    if broken is not None:
        raise errors.BadBody(
            f"{FAILED}propertyName: {metadata.shown(request.property_name)} {broken}"
        )
    language = ranking.checked_language(request)
    return CreateMetadataIndex(
        MetadataIndex(request.property_name, request.index_type, language),
        backfill=bool(request.backfill),
    )


def delete_metadata_index(body: Body) -> DeleteMetadataIndex:
    """Read the body of a metadata index deletion; ``property`` may stand for ``propertyName``.

    Raises:
        BadBody: the body is not JSON of this shape.
    """
    request = decode(body, schemas.DeleteMetadataIndexRequest)
    name = request.property if request.property_name is None else request.property_name
    if name is None:
        raise errors.BadBody(f"{FAILED}Object missing required field `propertyName`")
    return DeleteMetadataIndex(name)


def list_parameters(count: str | None, cursor: str | None, limits: Limits) -> ListParameters:
    """Read the URL parameters of a listing; None and ``""`` stand for absent parameters.

    Raises:
        BadParameter: count is not an integer in its range.
    """
    if not count:
        return ListParameters(limits.list_count_default, cursor or None)
    if _COUNT.fullmatch(count) is None or not 1 <= int(count) <= limits.list_count_max:
        raise errors.BadParameter(
            f"count must be an integer from 1 to {limits.list_count_max}, got {count[:40]!r}"
        )
    return ListParameters(int(count), cursor or None)


def checked_filter(document: object, limits: Limits, *, is_extended: bool) -> Filter:
    """Return a filter, the empty one for None.

    Raises:
        BadFilter: see `filters.parse.parse`.
    """
    return () if document is None else parse(document, limits, is_extended=is_extended)


def embedding(body: Body, limits: Limits) -> EmbeddingParameters:
    """Read the body of an embedding run: ``{"text": string or strings, "pooling"?}``.

    Raises:
        BadEmbeddingBody: the body is not JSON.
        BadEmbeddingInput: the body is not of this shape, or has too many texts.
    """
    counting.refuse_too_many(body, "text", limits)
    request = decode(body, schemas.EmbeddingRequest, is_embedding=True)
    return EmbeddingParameters(_texts(request.text, "text", limits), request.pooling)


def binding_embedding(body: Body, limits: Limits) -> EmbeddingParameters:
    """Read an embedding run of the AI binding: ``{"inputs": as `embedding`, "options"?}``.

    Raises:
        BadEmbeddingBody: the body is not JSON.
        BadEmbeddingInput: the body is not of this shape, or has too many texts.
    """
    counting.refuse_too_many(body, "inputs.text", limits)
    request = decode(body, schemas.BindingEmbeddingRequest, is_embedding=True).inputs
    return EmbeddingParameters(_texts(request.text, "text", limits), request.pooling)


def openai_embedding(body: Body, limits: Limits) -> OpenAIEmbeddingParameters:
    """Read the body of OpenAI's embeddings operation.

    Raises:
        BadEmbeddingBody: the body is not JSON.
        BadEmbeddingInput: the body is not of this shape, or has too many texts.
    """
    counting.refuse_too_many(body, "input", limits)
    request = decode(body, schemas.OpenAIEmbeddingRequest, is_embedding=True)
    return OpenAIEmbeddingParameters(
        model=request.model,
        texts=_texts(request.input, "input", limits),
        encoding=request.encoding_format or "float",
        dimensions=request.dimensions,
    )


def decode(body: Body, shape: type[_T], *, is_embedding: bool = False) -> _T:
    """Return a JSON body as a struct.

    Raises:
        BadBody: the body is not JSON of this shape; of embeddings `BadEmbeddingBody` where it is
            no JSON, `BadEmbeddingInput` where it is of another shape.
    """
    try:
        body.decode()  # msgspec does not validate text that it skips
        return msgspec.json.decode(members.unmarked(body), type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = reasons.reason(error, shape)
        if not is_embedding:
            raise errors.BadBody(FAILED + reason) from None
        if isinstance(error, msgspec.ValidationError):
            raise errors.BadEmbeddingInput(f"Error: {reason}") from None
        raise errors.BadEmbeddingBody(reason) from None


def _index_config(config: schemas.IndexConfigRequest | None, limits: Limits) -> IndexConfig:
    if config is None:
        raise errors.BadIndexConfig("Config must be provided")
    effort = config.effort or Effort.STANDARD
    if config.preset is not None:
        return replace(_preset_config(config), effort=effort, model=_model(config.model))
    if config.dimensions is None or config.metric is None:
        missing = "dimensions" if config.dimensions is None else "metric"
        raise errors.BadIndexConfig(
            f"Config must have dimensions and metric, or preset; {missing} is missing"
        )
    if not limits.dimensions_min <= config.dimensions <= limits.dimensions_max:
        raise errors.BadIndexConfig(
            f"Dimensions must be in range: [{limits.dimensions_min}, {limits.dimensions_max}], "
            f"got {metadata.shown_number(config.dimensions)}"
        )
    return IndexConfig(config.dimensions, config.metric, effort=effort, model=_model(config.model))


def _model(name: str | None) -> str | None:
    """Check the name of a model; any will do, as other services may run it."""
    if name is not None and not 0 < len(name.encode()) <= _MODEL_BYTES_MAX:
        raise errors.BadIndexConfig(
            f"Model must have 1 to {_MODEL_BYTES_MAX} bytes, got {len(name.encode())}"
        )
    return name


def _preset_config(config: schemas.IndexConfigRequest) -> IndexConfig:
    preset = PRESETS.get(config.preset or "")
    if preset is None:
        raise errors.BadIndexConfig(
            f'Preset "{config.preset}" is unknown, expected one of {", ".join(PRESETS)}'
        )
    # An index's own config may be sent back: it has the preset and its dimensions and metric.
    if config.dimensions not in (None, preset.dimensions) or config.metric not in (
        None,
        preset.metric,
    ):
        raise errors.BadIndexConfig(
            f'Preset "{config.preset}" has {preset.dimensions} dimensions and metric '
            f"{preset.metric}, and cannot be given others"
        )
    return preset


def _top_k(top_k: float | None, is_full: bool, limits: Limits) -> int:
    if top_k is None:
        return limits.top_k_default
    shown = metadata.shown_number
    if not top_k >= 1 or top_k % 1 != 0:  # a literal beyond float64 is infinite
        raise errors.BadTopK(
            f"top K must be an integer from 1 to {limits.top_k_max}, but got {shown(top_k)}"
        )
    if top_k > limits.top_k_max:
        raise errors.BadTopK(f"max top K is {limits.top_k_max}, but got {shown(top_k)}")
    if is_full and top_k > limits.top_k_full_max:
        raise errors.BadTopK(
            f"with returnValues=true or returnMetadata=all, max top K is {limits.top_k_full_max}, "
            f"but got {shown(top_k)}; for a top K up to {limits.top_k_max}, "
            "retry with returnValues=false and returnMetadata=indexed"
        )
    return int(top_k)


def checked_namespace(namespace: str | None, limits: Limits) -> str:
    """Return a namespace, ``""`` for none.

    Raises:
        NamespaceTooLong: it has more bytes than the namespace of a vector may have.
    """
    size = len((namespace or "").encode())
    if size > limits.namespace_bytes_max:
        raise errors.NamespaceTooLong(
            f"namespace too long; max is {limits.namespace_bytes_max} bytes, got {size} bytes"
        )
    return namespace or ""


def _query_vector(value: object, dimensions: int) -> Floats:
    expected = f"invalid query vector, expected {dimensions} dimensions, and got"
    try:
        numbers = members.numbers(value)
    except members.NotANumber as error:
        if isinstance(error.value, dict | list):
            # The whole answer of an embedding model, or its list of vectors.
            raise errors.BadQueryVector(
                f"{expected} 0 dimensions; vector{error}. "
                "Give one flat array, such as data[0] of an embedding"
            ) from None
        raise errors.BadBody(f"{FAILED}vector{error}") from None
    if len(numbers) != dimensions:
        raise errors.BadQueryVector(f"{expected} {len(numbers)} dimensions")
    with np.errstate(over="ignore"):
        vector = numbers.astype(np.float32)
    finite = np.isfinite(vector)
    if not finite.all():
        position = int(np.argmin(finite))
        raise errors.BadBody(f"{FAILED}vector[{position}]: {numbers[position]} is beyond float32")
    return vector


def _texts(text: str | list[str], member: str, limits: Limits) -> tuple[str, ...]:
    texts = (text,) if isinstance(text, str) else tuple(text)
    if not 1 <= len(texts) <= limits.texts_per_embedding_max:
        raise errors.BadEmbeddingInput(
            f"Error: {member}: expected 1 to {limits.texts_per_embedding_max} texts, "
            f"got {len(texts)}"
        )
    return texts
