"""``vicinal query``: search an index by text, by vector or by the id of a stored vector."""

import math
from typing import Any

import click
import msgspec

from vicinal.cli import show
from vicinal.cli.client import (
    Client,
    IndexResponse,
    QueryResponse,
    StepResponse,
    Target,
    target_options,
)
from vicinal.cli.completion import index_argument
from vicinal.cli.scopes import json_option_value
from vicinal.cli.vector_table import form_options, print_vectors, table_form
from vicinal.model import Effort
from vicinal.wire.schemas import EmbeddingSchema

MODEL_OF_DIMENSIONS = {
    384: "@hf/sentence-transformers/all-minilm-l6-v2",
    768: "@cf/baai/bge-base-en-v1.5",
    1024: "@cf/baai/bge-large-en-v1.5",
}
"""The model that is asked when neither the index nor the caller names one."""


class _Share(click.FloatRange):
    """A number of a range, which NaN is not."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is not in the range {self._describe_range()}.", param, ctx)
        return number


@click.command("query")
@index_argument
@click.option("--text", help="Search for what is like this text, embedded by a model.")
@click.option("--vector", help="Search for this vector: a JSON array, or numbers with commas.")
@click.option("--id", "vector_id", help="Search for what is like this stored vector.")
@click.option("--keywords", help="Search for the words of this text, alone or beside the others.")
@click.option("--hybrid", is_flag=True, help="Search for the words of --text, too.")
@click.option(
    "--mmr",
    type=_Share(0, 1),
    metavar="LAMBDA",
    help="Matches unlike each other: 1 is by the query alone, 0 by the other matches alone.",
)
@click.option("--group-by", metavar="PROPERTY", help="One match of each value of this property.")
@click.option("--model", help="Embeds --text; must be the one that embedded the vectors.")
@click.option("--top-k", type=int, default=5, show_default=True)
@click.option("--namespace", help="Search in this namespace only.")
@click.option("--filter", "filter_", metavar="JSON", help='Like {"year": {"$gte": 1960}}.')
@click.option("--values", "return_values", is_flag=True, help="Return the vectors, too.")
@click.option(
    "--metadata",
    type=click.Choice(["none", "indexed", "all"]),
    default="all",
    show_default=True,
    help="How much metadata to return.",
)
@click.option(
    "--effort",
    type=click.Choice([effort.value for effort in Effort]),
    help="How hard to look; the index's effort if not given.",
)
@click.option("--explain", is_flag=True, help="Show how each part of the index was searched.")
@form_options
@click.option("--json", "as_json", is_flag=True, help="Print the server's JSON.")
@target_options
def command(
    target: Target,
    index: str,
    text: str | None,
    vector: str | None,
    vector_id: str | None,
    keywords: str | None,
    hybrid: bool,
    mmr: float | None,
    group_by: str | None,
    model: str | None,
    top_k: int,
    namespace: str | None,
    filter_: str | None,
    return_values: bool,
    metadata: str,
    effort: str | None,
    explain: bool,
    columns: tuple[str, ...],
    full: bool,
    as_json: bool,
) -> None:
    """Search INDEX; give one of --text, --vector and --id, or --keywords, alone or beside it."""
    given_count = sum(given is not None for given in (text, vector, vector_id))
    if given_count > 1 or (given_count == 0 and keywords is None):
        raise click.UsageError("give one of --text, --vector and --id, or --keywords")
    if hybrid and (text is None or keywords is not None):
        raise click.UsageError("--hybrid is for the words of --text; --keywords gives others")
    form = table_form(columns, full=full, as_json=as_json)
    body: dict[str, Any] = {
        "topK": top_k,
        "returnValues": return_values or form.wants("values"),
        "returnMetadata": metadata,
    }
    if namespace:
        body["namespace"] = namespace
    if filter_ is not None:
        body["filter"] = json_option_value(filter_, "--filter")
    words = text if hybrid else keywords
    body |= {"text": words} if words is not None else {}
    body |= {"mmr": {"lambda": mmr}} if mmr is not None else {}
    body |= {"groupBy": {"property": group_by}} if group_by is not None else {}
    headers = {"vicinal-filter": "extended"} if filter_ else {}
    headers |= {"vicinal-effort": effort} if effort else {}
    headers |= {"vicinal-explain": "true"} if explain else {}
    with target.connect() as client:
        if text is not None:
            body["vector"] = embed(client, model or _model(client, index), [text])[0]
        elif vector is not None:
            body["vector"] = _vector(vector)
        elif vector_id is not None:
            body["vectorId"] = vector_id
        answer = client.post(client.indexes(index, "query"), body, headers)
        result = answer.decode(QueryResponse)
        if vector_id is not None and not result.matches and not _is_there(client, index, vector_id):
            raise click.ClickException(f"no vector of {index} has the id {vector_id!r}")
    for remark in answer.remarks:
        show.note(f"note: {remark}")
    if as_json:
        show.json(answer.result)
        return
    if result.matches:
        print_vectors(result.matches, form)
    else:
        show.note("nothing matches")
    if explain:
        _print_explanation(result.explain)


def _is_there(client: Client, index: str, vector_id: str) -> bool:
    answer = client.post(client.indexes(index, "get_by_ids"), {"ids": [vector_id]})
    return bool(answer.decode(list[msgspec.Raw]))


def embed(client: Client, model: str, texts: list[str]) -> list[list[float]]:
    """Return one vector a text."""
    return client.post(client.model(model), {"text": texts}).decode(EmbeddingSchema).data


def _print_explanation(parts: list[StepResponse]) -> None:
    click.echo()
    numbers = ["vectors", "selected", "scored", "rescored", "select ms", "candidates ms",
               "rescore ms"]  # fmt: skip
    headings = ["part", *numbers[:2], "candidates by", *numbers[2:]]
    has_words = any(part.words for part in parts)
    words = ["scored by words", "postings read", "words ms"] if has_words else []
    show.table(
        (*headings, *words), [(*_step(part), *_words_step(part)) for part in parts],
        right=(*numbers, *words), keeps_empty=True,
    )  # fmt: skip


def _step(part: StepResponse) -> tuple[str, ...]:
    return (
        part.part,
        f"{part.vector_count:,}",
        f"{part.selected_count:,}",
        part.method,
        f"{part.scored_count:,}",
        f"{part.rescored_count:,}",
        f"{part.select_ms:.3f}",
        f"{part.candidates_ms:.3f}",
        f"{part.rescore_ms:.3f}",
    )


def _words_step(part: StepResponse) -> tuple[str, ...]:
    words = part.words
    if words is None:
        return ()
    return f"{words.scored_count:,}", f"{words.posting_count:,}", f"{words.search_ms:.3f}"


def _model(client: Client, index: str) -> str:
    """Return the model whose vectors an index most likely holds."""
    config = client.get(client.indexes(index)).decode(IndexResponse).config
    if config.text_model is not None:
        return config.text_model
    model = MODEL_OF_DIMENSIONS.get(config.dimensions)
    if model is None:
        raise click.UsageError(
            f"no known model makes {config.dimensions} dimensions; name one with --model"
        )
    show.note(f"embedding with {model}; --model names another")
    return model


def _vector(text: str) -> object:
    inner = text.strip()
    return json_option_value(inner if inner.startswith("[") else f"[{inner}]", "--vector")
