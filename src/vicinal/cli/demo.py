"""``vicinal demo``: the tutorial's three stories, and a few hundred facts to filter.

The stories and the question are those of the platform's tutorial on embeddings: "orange
cloud" must find story 1. The facts have metadata of every kind that can be indexed: a
string, a number that not all of them have, a boolean and a nested string.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import click
import msgspec

from vicinal.cli import show
from vicinal.cli.client import ApiError, Client, QueryResponse, Target, target_options
from vicinal.cli.index import add_metadata_index
from vicinal.cli.query import embed
from vicinal.model import IndexType, MetadataIndex
from vicinal.wire.schemas import IndexInfoSchema

MODEL = "@hf/sentence-transformers/all-minilm-l6-v2"
STORIES_INDEX = "demo-stories"
FACTS_INDEX = "demo-facts"
STORIES = (
    "This is a story about an orange cloud",
    "This is a story about a llama",
    "This is a story about a hugging emoji",
)
QUESTION = "orange cloud"

_METADATA_INDEXES = (
    ("topic", "string"),
    ("year", "number"),
    ("natural", "boolean"),
    ("place.continent", "string"),
)
_TEXTS_PER_CALL = 100
_WAIT_S = 60.0
_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Example:
    """A question to the facts."""

    text: str
    filter: dict[str, Any] | None = None


EXAMPLES = (
    Example("machines that play games"),
    Example("machines that play games", {"year": {"$lt": 1980}}),
    Example("surviving the cold"),
    Example("surviving the cold", {"natural": True, "place.continent": {"$ne": "Antarctica"}}),
    Example("something sour to eat", {"topic": {"$in": ["cooking", "plants"]}}),
)


class Fact(msgspec.Struct, omit_defaults=True):
    """A line of the data file, and the metadata of the vector that is made of it."""

    id: str
    text: str
    topic: str
    natural: bool
    year: int | None = None
    location: dict[str, str] | None = msgspec.field(default=None, name="place")


@click.command("demo")
@click.option("--model", default=MODEL, show_default=True, help="Embeds the texts.")
@target_options
def command(target: Target, model: str) -> None:
    """Load the tutorial's stories and some facts into a running server, and query them."""
    with target.connect(patience_s=_PATIENCE_S) as client:
        load(client, model)
        answer_question(client, model)
        for example in EXAMPLES:
            answer_example(client, model, example)
    click.echo(f'\nask your own: {target.command("query", FACTS_INDEX)} --text "..."')


def load(client: Client, model: str = MODEL) -> None:
    """Create both indexes and store their vectors, unless they are there."""
    stories = [
        Record(str(number), text, {"text": text}) for number, text in enumerate(STORIES, start=1)
    ]
    facts = [Record(fact.id, fact.text, _metadata(fact)) for fact in read_facts()]
    _fill(client, model, STORIES_INDEX, stories, ())
    _fill(client, model, FACTS_INDEX, facts, _METADATA_INDEXES)


def read_facts() -> list[Fact]:
    """Return the facts that come with this package."""
    data = resources.files("vicinal.cli").joinpath("data", "facts.ndjson").read_bytes()
    return msgspec.json.Decoder(Fact).decode_lines(data)


def answer_question(client: Client, model: str = MODEL) -> None:
    """Ask the tutorial's question and print its answer."""
    body = {"vector": embed(client, model, [QUESTION])[0], "topK": 1, "returnMetadata": "all"}
    answer = client.post(client.indexes(STORIES_INDEX, "query"), body)
    for match in answer.decode(QueryResponse).matches:
        text = (match.metadata or {}).get("text")
        click.echo(f'"{QUESTION}" finds story {match.id}, "{text}" (score {match.score:.6f})')


def answer_example(client: Client, model: str, example: Example) -> None:
    """Ask one question of the facts and print its answers."""
    body: dict[str, Any] = {
        "vector": embed(client, model, [example.text])[0],
        "topK": 3,
        "returnMetadata": "all",
    }
    narrowed = ""
    if example.filter is not None:
        body["filter"] = example.filter
        narrowed = f" with filter {msgspec.json.encode(example.filter).decode()}"
    answer = client.post(client.indexes(FACTS_INDEX, "query"), body)
    click.echo(f'\n"{example.text}"{narrowed}')
    facts = [(match.score, match.metadata or {}) for match in answer.decode(QueryResponse).matches]
    show.table(
        ("score", "topic", "year", "continent", "text"),
        [
            (
                f"{score:.4f}",
                str(fact["topic"]),
                str(fact.get("year", "")),
                str(fact.get("place", {}).get("continent", "")),
                str(fact["text"]),
            )
            for score, fact in facts
        ],
    )


@dataclass(frozen=True, slots=True)
class Record:
    """A text to embed and store."""

    id: str
    text: str
    metadata: dict[str, Any]


def _fill(
    client: Client,
    model: str,
    index: str,
    records: Sequence[Record],
    metadata_indexes: Sequence[tuple[str, str]],
) -> None:
    """Create an index with these records in it, unless it holds as many already."""
    try:
        info = client.get(client.indexes(index, "info")).decode(IndexInfoSchema)
        if info.vector_count >= len(records):
            return
    except ApiError as refused:
        if refused.status != 404:
            raise
        dimensions = len(embed(client, model, [records[0].text])[0])
        config = {"dimensions": dimensions, "metric": "cosine", "model": model}
        client.post(client.indexes(), {"name": index, "config": config})
    for property_name, index_type in metadata_indexes:
        add_metadata_index(client, index, MetadataIndex(property_name, IndexType(index_type)))
    show.note(f"embedding {len(records)} texts into {index}")
    for start in range(0, len(records), _TEXTS_PER_CALL):
        chunk = records[start : start + _TEXTS_PER_CALL]
        vectors = embed(client, model, [record.text for record in chunk])
        lines = [
            {"id": record.id, "values": values, "metadata": record.metadata}
            for record, values in zip(chunk, vectors, strict=True)
        ]
        body = b"\n".join(msgspec.json.encode(line) for line in lines)
        client.write(client.indexes(index, "upsert"), body, wait_s=_WAIT_S)


def _metadata(fact: Fact) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(fact)
    del document["id"]
    return document
