"""``vicinal query``: search an index by text, by vector or by the id of a stored vector."""

from typing import Any

import click
import msgspec

from vicinal.cli import show
from vicinal.cli.client import (
    Client,
    IndexResponse,
    MatchResponse,
    QueryResponse,
    Target,
    target_options,
)
from vicinal.model import Effort
from vicinal.wire.schemas import EmbeddingSchema

MODEL_OF_DIMENSIONS = {
    384: "@hf/sentence-transformers/all-minilm-l6-v2",
    768: "@cf/baai/bge-base-en-v1.5",
    1024: "@cf/baai/bge-large-en-v1.5",
}
"""The model that is asked when neither the index nor the caller names one."""


@click.command("query")
@click.argument("index")
@click.option("--text", help="Search for what is like this text, embedded by a model.")
@click.option("--vector", help="Search for this vector: a JSON array, or numbers with commas.")
@click.option("--id", "vector_id", help="Search for what is like this stored vector.")
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
@click.option("--json", "as_json", is_flag=True, help="Print the server's JSON.")
@target_options
def command(
    target: Target,
    index: str,
    text: str | None,
    vector: str | None,
    vector_id: str | None,
    model: str | None,
    top_k: int,
    namespace: str | None,
    filter_: str | None,
    return_values: bool,
    metadata: str,
    effort: str | None,
    as_json: bool,
) -> None:
    """Search INDEX; give one of --text, --vector and --id."""
    if sum(given is not None for given in (text, vector, vector_id)) != 1:
        raise click.UsageError("give one of --text, --vector and --id")
    body: dict[str, Any] = {"topK": top_k, "returnValues": return_values}
    body["returnMetadata"] = metadata
    if namespace:
        body["namespace"] = namespace
    if filter_ is not None:
        body["filter"] = _json(filter_, "--filter")
    with target.connect() as client:
        if text is not None:
            body["vector"] = embed(client, model or _model(client, index), [text])[0]
        elif vector is not None:
            body["vector"] = _vector(vector)
        else:
            body["vectorId"] = vector_id
        headers = {"vicinal-filter": "extended"} if filter_ else {}
        if effort:
            headers["vicinal-effort"] = effort
        answer = client.post(client.indexes(index, "query"), body, headers)
        matches = answer.decode(QueryResponse).matches
        if vector_id is not None and not matches and not _is_there(client, index, vector_id):
            raise click.ClickException(f"no vector of {index} has the id {vector_id!r}")
    for remark in answer.remarks:
        show.note(f"note: {remark}")
    if as_json:
        show.json(answer.result)
    else:
        print_matches(matches)


def _is_there(client: Client, index: str, vector_id: str) -> bool:
    answer = client.post(client.indexes(index, "get_by_ids"), {"ids": [vector_id]})
    return bool(answer.decode(list[msgspec.Raw]))


def embed(client: Client, model: str, texts: list[str]) -> list[list[float]]:
    """Return one vector a text."""
    return client.post(client.model(model), {"text": texts}).decode(EmbeddingSchema).data


def print_matches(matches: list[MatchResponse]) -> None:
    """Print matches as a table, best first."""
    if not matches:
        show.note("nothing matches")
        return
    show.table(
        ("score", "id", "namespace", "metadata", "values"),
        [
            (
                f"{match.score:.6f}",
                match.id,
                match.namespace or "",
                _compact(match.metadata),
                _compact(match.values),
            )
            for match in matches
        ],
        right=("score",),
    )


def _compact(value: object) -> str:
    return msgspec.json.encode(value).decode() if value else ""


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
    return _json(inner if inner.startswith("[") else f"[{inner}]", "--vector")


def _json(text: str, option: str) -> object:
    try:
        return msgspec.json.decode(text)
    except msgspec.MsgspecError as error:
        raise click.UsageError(f"{option} is not JSON: {error}") from error
