"""Texts of an import: the model that embeds them, and the index for their vectors.

A server embeds; texts go to it in calls of as many as every profile allows, two at a time so that
it has the next when one is done. Chunks are measured with the model's own tokenizer where its files
are on this machine, else by an estimate that is on the safe side.

A text that has become shorter since an earlier import leaves chunks beyond its new end, which are
deleted. Their ids follow from path and position, so it is asked for the next ones until none of
`_PROBED` in a row is there.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import click
import msgspec
import numpy as np

from vicinal.cli import show
from vicinal.cli.client import ApiError, Client, IndexResponse
from vicinal.cli.query import MODEL_OF_DIMENSIONS, embed
from vicinal.embeddings import encoder, models
from vicinal.errors import Corruption, ModelNotFound
from vicinal.limits import PROFILES
from vicinal.readers.base import RowBatch
from vicinal.readers.texts import TextCounter, chunk_id

PACKAGED_MODEL = MODEL_OF_DIMENSIONS[384]

BATCH_TEXTS = 500
"""Ours: texts that are embedded and then stored at a time; what an interruption repeats."""

TOKENS_WITHOUT_FILES = 256
"""Ours: for a model whose files are elsewhere."""

_TEXTS_PER_CALL = min(limits.texts_per_embedding_max for limits in PROFILES.values())
_SPECIAL_TOKENS = 2
_CHARS_PER_TOKEN = 3  # English has 4 to 5
_COUNTED_CHARS_MAX = 1 << 14  # a tokenizer takes 60 bytes of memory for each byte
_CALLS = 2
_PROBED = min(limits.get_ids_max for limits in PROFILES.values())
_DELETED_PER_CALL = min(limits.delete_ids_max for limits in PROFILES.values())


class _StoredVector(msgspec.Struct):
    id: str


@dataclass(frozen=True, slots=True)
class TextEmbedder:
    """Makes vectors of texts with one model of a server."""

    client: Client
    model: str

    def with_vectors(self, batch: RowBatch) -> RowBatch:
        """Return a batch of texts with their vectors."""
        texts = batch.texts
        parts = [
            list(texts[start : start + _TEXTS_PER_CALL])
            for start in range(0, len(texts), _TEXTS_PER_CALL)
        ]
        with ThreadPoolExecutor(_CALLS, thread_name_prefix="embed") as threads:
            answers = list(threads.map(lambda part: embed(self.client, self.model, part), parts))
        rows = np.array([row for answer in answers for row in answer], np.float32)
        return replace(batch, vectors=replace(batch.vectors, values=rows))


@dataclass(frozen=True, slots=True)
class StaleChunks:
    """Deletes what earlier imports of texts have left in an index beyond the texts' new ends."""

    client: Client
    index: str

    def delete(self, documents: Sequence[tuple[str, int]]) -> bool:
        """Delete the chunks of each path from a position on; return whether there were any.

        The last ones go first, so that an interrupted deletion leaves none that is not found again.
        """
        is_any = False
        for path, count in documents:
            ids = self._stored_ids(path, count)
            for end in range(len(ids), 0, -_DELETED_PER_CALL):
                part = ids[max(end - _DELETED_PER_CALL, 0) : end]
                self.client.post(self.client.indexes(self.index, "delete_by_ids"), {"ids": part})
            if ids:
                is_any = True
                show.note(f"{path} has become shorter: {len(ids):,} chunks beyond its end deleted")
        return is_any

    def _stored_ids(self, path: str, count: int) -> list[str]:
        stored: list[str] = []
        while True:
            ids = [chunk_id(path, position) for position in range(count, count + _PROBED)]
            answer = self.client.post(self.client.indexes(self.index, "get_by_ids"), {"ids": ids})
            there = {vector.id for vector in answer.decode(list[_StoredVector])}
            stored += [vector_id for vector_id in ids if vector_id in there]
            if not there:
                return stored
            count += _PROBED


def index_for_texts(client: Client, name: str, model: str | None) -> tuple[IndexResponse, str]:
    """Return an index, made if it is missing, and the model for its texts.

    Raises:
        click.ClickException: the index holds the vectors of another model.
    """
    try:
        index = client.get(client.indexes(name)).decode(IndexResponse)
    except ApiError as refused:
        if refused.status != 404:
            raise
        chosen = model or PACKAGED_MODEL
        dimensions = len(embed(client, chosen, ["x"])[0])
        config = {"dimensions": dimensions, "metric": "cosine", "model": chosen}
        made = client.post(client.indexes(), {"name": name, "config": config})
        show.note(f"made the index {name}: {dimensions} dimensions, cosine, texts by {chosen}")
        return made.decode(IndexResponse), chosen
    remembered = index.config.text_model
    if model is not None and remembered is not None and model != remembered:
        raise click.ClickException(
            f"index {name} holds vectors of {remembered}; those of {model} do not mix with them"
        )
    known = model or remembered or MODEL_OF_DIMENSIONS.get(index.config.dimensions)
    if known is None:
        raise click.UsageError(
            f"no known model makes {index.config.dimensions} dimensions; name one with --model"
        )
    dimensions = len(embed(client, known, ["x"])[0])
    if dimensions != index.config.dimensions:
        raise click.ClickException(
            f"{known} makes {dimensions} dimensions, and index {name} has {index.config.dimensions}"
        )
    if remembered is None:
        show.note(f"embedding with {known}, which the index does not remember")
    return index, known


def chunk_bounds(model: str) -> tuple[TextCounter, int]:
    """Return how the tokens of texts are counted, and the most that a chunk may have."""
    paths = models.SearchPaths(models.models_folder(), models.hub_folder())
    try:
        located = models.locate(model, paths)
    except ModelNotFound:
        located = None
    if located is None:
        show.note(f"the files of {model} are not here: the length of chunks is an estimate")
        return _estimate, TOKENS_WITHOUT_FILES - _SPECIAL_TOKENS
    try:
        _, tokens_max = encoder.read_shape(located.folder)
        counter = _tokenizer_counter(encoder.token_counter(located.folder / "tokenizer.json"))
    except Corruption as error:
        raise click.ClickException(str(error)) from error
    known = models.BY_NAME.get(model)
    bound = min(tokens_max, known.max_tokens) if known is not None else tokens_max
    return counter, bound - _SPECIAL_TOKENS


def _tokenizer_counter(count_one: Callable[[Sequence[str]], list[int]]) -> TextCounter:
    def count(texts: Sequence[str]) -> list[int]:
        pieces = [
            [text[at : at + _COUNTED_CHARS_MAX] for at in range(0, len(text), _COUNTED_CHARS_MAX)]
            for text in texts
        ]
        counts = iter(count_one([piece for parts in pieces for piece in parts]))
        return [sum(next(counts) for _ in parts) for parts in pieces]

    return count


def _estimate(texts: Sequence[str]) -> list[int]:
    return [len(text) // _CHARS_PER_TOKEN + 1 for text in texts]
