"""The official Python SDK, unchanged but for its base URL: every method, sync and async."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from typing import Any

import cloudflare
import pytest
from cloudflare import AsyncCloudflare, Cloudflare
from cloudflare.types.vectorize import CreateIndex

from tests.clients.conftest import Served
from tests.support.embedded_texts import ROUNDING
from tests.support.waiting import wait_until

pytestmark = pytest.mark.filterwarnings(
    "ignore:Passing raw bytes as `body` is deprecated:DeprecationWarning"  # by the SDK itself
)

Indexes = Any
"""``client.vectorize.indexes``; the SDK types every result of it as optional."""

VISIBLE_WITHIN_S = 120.0

RECORDS: list[dict[str, Any]] = [
    {"id": "a", "values": [1, 0, 0], "namespace": "n", "metadata": {"k": 1, "s": "x"}},
    {"id": "b", "values": [0, 1, 0], "metadata": {"k": 2}},
]
NDJSON = "\n".join(json.dumps(record) for record in RECORDS)


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[Cloudflare]:
    with Cloudflare(
        api_token=served.running.token, base_url=served.running.base_url, max_retries=0
    ) as client:
        yield client


@pytest.fixture
def account(served: Served) -> str:
    return served.running.account


@pytest.fixture
def indexes(client: Cloudflare) -> Indexes:
    return client.vectorize.indexes


@pytest.fixture
def docs(indexes: Indexes, account: str, name: str) -> Iterator[str]:
    """An empty index of three dimensions."""
    indexes.create(account_id=account, name=name, config={"dimensions": 3, "metric": "cosine"})
    yield name
    indexes.delete(name, account_id=account)


@pytest.fixture
def filled(indexes: Indexes, account: str, docs: str) -> str:
    """An index that holds `RECORDS`."""
    answer = indexes.upsert(docs, account_id=account, body=NDJSON.encode())
    wait(indexes, account, docs, answer.mutation_id)
    return docs


def wait(indexes: Indexes, account: str, name: str, mutation_id: str | None) -> None:
    """Do what clients do: ask until the index has processed up to a mutation."""

    def is_processed() -> bool:
        info = indexes.info(name, account_id=account)
        return bool(info.processed_up_to_mutation == mutation_id)

    wait_until(is_processed, VISIBLE_WITHIN_S)


def ids(matches: list[Any]) -> list[str]:
    return [match.id for match in matches]


# Indexes


def test_a_created_index_is_typed_and_read_back_the_same(
    indexes: Indexes, account: str, name: str
) -> None:
    made = indexes.create(
        account_id=account,
        name=name,
        description="made here",
        config={"dimensions": 3, "metric": "euclidean"},
    )
    assert (made.name, made.description) == (name, "made here")
    assert (made.config.dimensions, made.config.metric) == (3, "euclidean")
    assert isinstance(made.created_on, datetime)
    assert made.created_on == made.modified_on
    assert indexes.get(name, account_id=account) == made
    assert made in list(indexes.list(account_id=account))


def test_a_preset_stands_for_dimensions_and_metric(
    indexes: Indexes, account: str, name: str
) -> None:
    made = indexes.create(
        account_id=account, name=name, config={"preset": "@cf/baai/bge-base-en-v1.5"}
    )

    assert isinstance(made, CreateIndex)
    assert made.config is not None
    assert (made.config.dimensions, made.config.metric) == (768, "cosine")
    assert made.config.preset == "@cf/baai/bge-base-en-v1.5"


def test_a_deleted_index_is_not_found_and_its_name_is_free(
    indexes: Indexes, account: str, name: str
) -> None:
    for dimensions in (3, 4):
        indexes.create(
            account_id=account, name=name, config={"dimensions": dimensions, "metric": "cosine"}
        )
        indexes.delete(name, account_id=account)
        with pytest.raises(cloudflare.NotFoundError):
            indexes.get(name, account_id=account)


def test_info_counts_vectors_and_names_the_last_mutation(
    indexes: Indexes, account: str, docs: str
) -> None:
    before = indexes.info(docs, account_id=account)
    assert (before.dimensions, before.vector_count) == (3, 0)
    assert before.processed_up_to_mutation is None
    assert before.processed_up_to_datetime is None

    answer = indexes.insert(docs, account_id=account, body=NDJSON.encode())
    wait(indexes, account, docs, answer.mutation_id)

    after = indexes.info(docs, account_id=account)
    assert after.vector_count == 2
    assert isinstance(after.processed_up_to_datetime, datetime)


# Vectors


@pytest.mark.parametrize(
    "body",
    [
        NDJSON.encode(),
        NDJSON.encode() + b"\n",
        NDJSON,
        {"vectors": RECORDS},
        RECORDS,
    ],
    ids=["bytes", "bytes with a newline", "str", "dict", "list"],
)
@pytest.mark.parametrize("method", ["insert", "upsert"])
def test_every_body_that_the_sdk_lets_through_is_stored(
    indexes: Indexes, account: str, docs: str, method: str, body: Any
) -> None:
    answer = getattr(indexes, method)(docs, account_id=account, body=body)
    wait(indexes, account, docs, answer.mutation_id)

    assert indexes.get_by_ids(docs, account_id=account, ids=["a", "b"]) == [
        {
            "id": "a",
            "values": [1.0, 0.0, 0.0],
            "namespace": "n",
            "metadata": {"k": 1, "s": "x"},
        },
        {"id": "b", "values": [0.0, 1.0, 0.0], "metadata": {"k": 2}},
    ]


def test_ndjson_can_be_labelled_as_such(indexes: Indexes, account: str, docs: str) -> None:
    answer = indexes.insert(
        docs,
        account_id=account,
        body=NDJSON.encode(),
        extra_headers={"Content-Type": "application/x-ndjson"},
    )
    wait(indexes, account, docs, answer.mutation_id)

    assert indexes.info(docs, account_id=account).vector_count == 2


def test_what_does_not_parse_is_refused_or_discarded_as_asked(
    indexes: Indexes, account: str, docs: str
) -> None:
    body = b"nonsense\n" + NDJSON.encode()

    for behavior in ({}, {"unparsable_behavior": "error"}):
        with pytest.raises(cloudflare.BadRequestError, match="40023"):
            indexes.insert(docs, account_id=account, body=body, **behavior)
    answer = indexes.insert(docs, account_id=account, body=body, unparsable_behavior="discard")
    wait(indexes, account, docs, answer.mutation_id)

    assert indexes.info(docs, account_id=account).vector_count == 2


def test_insert_keeps_and_upsert_replaces(indexes: Indexes, account: str, filled: str) -> None:
    other = b'{"id":"a","values":[0,0,1]}'

    answer = indexes.insert(filled, account_id=account, body=other)
    wait(indexes, account, filled, answer.mutation_id)
    (kept,) = indexes.get_by_ids(filled, account_id=account, ids=["a"])
    upserted = indexes.upsert(filled, account_id=account, body=other)
    wait(indexes, account, filled, upserted.mutation_id)
    (replaced,) = indexes.get_by_ids(filled, account_id=account, ids=["a"])

    assert kept["values"] == [1.0, 0.0, 0.0]
    assert replaced == {"id": "a", "values": [0.0, 0.0, 1.0]}


def test_a_query_returns_what_was_asked_for(indexes: Indexes, account: str, filled: str) -> None:
    found = indexes.query(
        filled,
        account_id=account,
        vector=[1, 0, 0],
        top_k=2,
        return_values=True,
        return_metadata="all",
    )
    assert found.count == 2
    first, second = found.matches
    assert (first.id, first.score, first.namespace) == ("a", 1.0, "n")
    assert (first.values, first.metadata) == ([1, 0, 0], {"k": 1, "s": "x"})
    assert (second.id, second.score, second.namespace) == ("b", 0.0, None)

    bare = indexes.query(filled, account_id=account, vector=[1, 0, 0])
    assert (bare.matches[0].values, bare.matches[0].metadata) == (None, None)


def test_members_beside_the_schema_go_through_extra_body(
    indexes: Indexes, account: str, filled: str
) -> None:
    named = indexes.query(
        filled, account_id=account, vector=[1, 0, 0], extra_body={"namespace": "n"}
    )
    by_id = indexes.query(
        filled, account_id=account, vector=[1, 0, 0], top_k=1, extra_body={"vectorId": "b"}
    )
    assert ids(named.matches) == ["a"]
    assert ids(by_id.matches) == ["b"]


def test_a_filter_needs_a_metadata_index_and_then_filters(
    indexes: Indexes, account: str, filled: str
) -> None:
    def found(filter_: dict[str, object]) -> list[str]:
        answer = indexes.query(filled, account_id=account, vector=[1, 0, 0], filter=filter_)
        return ids(answer.matches)

    assert found({"k": 1}) == []

    made = indexes.metadata_index.create(
        filled, account_id=account, property_name="k", index_type="number"
    )
    wait(indexes, account, filled, made.mutation_id)
    again = indexes.upsert(filled, account_id=account, body=NDJSON.encode())
    wait(indexes, account, filled, again.mutation_id)

    assert found({"k": 1}) == ["a"]
    assert found({"k": {"$gt": 1}}) == ["b"]
    assert found({"k": {"$in": [1, 2]}}) == ["a", "b"]
    assert found({"k": {"$gte": 1, "$lt": 2}}) == ["a"]


def test_metadata_indexes_are_listed_with_lower_case_types_and_deleted(
    indexes: Indexes, account: str, docs: str
) -> None:
    for kind in ("string", "number", "boolean"):
        made = indexes.metadata_index.create(
            docs, account_id=account, property_name=f"p.{kind}", index_type=kind
        )
        wait(indexes, account, docs, made.mutation_id)

    listed = indexes.metadata_index.list(docs, account_id=account)
    assert [(each.property_name, each.index_type) for each in listed.metadata_indexes] == [
        ("p.string", "string"),
        ("p.number", "number"),
        ("p.boolean", "boolean"),
    ]

    gone = indexes.metadata_index.delete(docs, account_id=account, property_name="p.number")
    wait(indexes, account, docs, gone.mutation_id)
    left = indexes.metadata_index.list(docs, account_id=account)
    assert [each.property_name for each in left.metadata_indexes] == ["p.string", "p.boolean"]


def test_vectors_are_listed_page_by_page(indexes: Indexes, account: str, docs: str) -> None:
    body = b"\n".join(b'{"id":"v%02d","values":[1,0,0]}' % number for number in range(25))
    wait(indexes, account, docs, indexes.upsert(docs, account_id=account, body=body).mutation_id)

    seen: list[str] = []
    page = indexes.list_vectors(docs, account_id=account, count=10)
    while True:
        seen += [vector.id for vector in page.vectors]
        assert (page.count, page.total_count) == (len(page.vectors), 25)
        if not page.is_truncated:
            break
        assert isinstance(page.cursor_expiration_timestamp, datetime)
        page = indexes.list_vectors(docs, account_id=account, count=10, cursor=page.next_cursor)

    assert sorted(seen) == [f"v{number:02}" for number in range(25)]
    assert page.next_cursor is None


def test_deleted_vectors_are_gone(indexes: Indexes, account: str, filled: str) -> None:
    answer = indexes.delete_by_ids(filled, account_id=account, ids=["b", "never"])
    wait(indexes, account, filled, answer.mutation_id)

    assert indexes.get_by_ids(filled, account_id=account, ids=["b"]) == []
    assert indexes.info(filled, account_id=account).vector_count == 1


# Errors


def test_errors_are_the_classes_that_their_status_stands_for(
    served: Served, indexes: Indexes, account: str, docs: str
) -> None:
    with pytest.raises(cloudflare.NotFoundError, match="3000") as missing:
        indexes.query(f"{docs}-not", account_id=account, vector=[1, 0, 0])
    assert missing.value.status_code == 404
    assert missing.value.errors[0].code == 3000
    with pytest.raises(cloudflare.BadRequestError, match="duplicate_name"):
        indexes.create(account_id=account, name=docs, config={"dimensions": 3, "metric": "cosine"})
    with pytest.raises(cloudflare.BadRequestError, match="expected 3 dimensions, and got 1"):
        indexes.query(docs, account_id=account, vector=[1])
    with pytest.raises(cloudflare.BadRequestError, match="max id count is 20, got 21"):
        indexes.get_by_ids(docs, account_id=account, ids=[str(i) for i in range(21)])


def test_a_bad_token_and_a_read_token_are_told_apart(
    served: Served, account: str, name: str
) -> None:
    def indexes(token: str) -> Indexes:
        return Cloudflare(
            api_token=token, base_url=served.running.base_url, max_retries=0
        ).vectorize.indexes

    with pytest.raises(cloudflare.AuthenticationError):
        indexes("nope").list(account_id=account)
    assert indexes(served.reader).list(account_id=account).result is not None
    with pytest.raises(cloudflare.PermissionDeniedError):
        indexes(served.reader).create(
            account_id=account, name=name, config={"dimensions": 3, "metric": "cosine"}
        )


def test_an_api_key_beside_an_address_works_as_a_token(served: Served, account: str) -> None:
    client = Cloudflare(
        api_key=served.reader,
        api_email="me@example.com",
        base_url=served.running.base_url,
        max_retries=0,
    )

    assert client.vectorize.indexes.list(account_id=account).result is not None


# Embeddings, accounts


def test_a_model_embeds_one_text_or_several(
    served: Served, client: Cloudflare, account: str
) -> None:
    several = client.ai.run(served.model, account_id=account, text=["hello", "worlds"])
    one = client.ai.run(served.model, account_id=account, text="hello")

    assert isinstance(several, dict)
    assert isinstance(one, dict)
    assert several["shape"] == [2, served.model_dimensions]
    assert [len(row) for row in several["data"]] == [served.model_dimensions] * 2
    assert one["shape"] == [1, served.model_dimensions]
    assert one["data"][0] == pytest.approx(several["data"][0], abs=ROUNDING)
    assert one["pooling"] == "mean"


def test_an_unknown_model_is_a_bad_request(client: Cloudflare, account: str) -> None:
    with pytest.raises(cloudflare.BadRequestError, match="5007"):
        client.ai.run("@cf/none/such-model", account_id=account, text="hello")


def test_models_are_listed_once_and_described(
    served: Served, client: Cloudflare, account: str
) -> None:
    models: list[Any] = list(client.ai.models.list(account_id=account))
    schema: Any = client.ai.models.schema.get(account_id=account, model=served.model)

    names = [model["name"] for model in models]
    assert names.count(served.model) == 1
    assert "text" in schema.to_dict()["input"]["properties"]


def test_the_account_the_user_and_the_token_are_known(client: Cloudflare) -> None:
    assert [account.id for account in client.accounts.list()] == ["local"]
    assert len(list(client.memberships.list())) == 1
    assert client.user.get() is not None
    verified = client.user.tokens.verify()
    assert verified is not None
    assert verified.status == "active"


# The async client


def with_client(served: Served, work: Callable[[AsyncCloudflare], Awaitable[None]]) -> None:
    async def main() -> None:
        async with AsyncCloudflare(
            api_token=served.running.token, base_url=served.running.base_url, max_retries=0
        ) as client:
            await work(client)

    asyncio.run(main())


def test_sql_databases_are_used_listed_and_told_of(
    client: Cloudflare, account: str, name: str
) -> None:
    databases = client.d1.database
    with pytest.raises(cloudflare.NotFoundError):
        databases.get(name, account_id=account)

    (made,) = databases.query(
        name,
        account_id=account,
        sql="create virtual table texts using fts5(text); insert into texts values ('hello')",
    ).result[:1]
    assert made.success is True
    (found,) = databases.raw(
        name, account_id=account, sql="select text from texts where texts match ?", params=["hello"]
    ).result
    assert found.results is not None
    assert (found.results.columns, found.results.rows) == (["text"], [["hello"]])

    (listed,) = databases.list(account_id=account, name=name)
    told = databases.get(name, account_id=account)
    assert (listed.uuid, listed.name, listed.version) == (name, name, "production")
    assert (told.uuid, told.created_at) == (name, listed.created_at)
    assert isinstance(told.created_at, datetime)
    assert told.file_size


def test_the_async_client_does_the_same(served: Served, account: str, name: str) -> None:
    async def work(client: AsyncCloudflare) -> None:
        indexes: Indexes = client.vectorize.indexes
        in_account = {"account_id": account}
        await indexes.create(name=name, config={"dimensions": 3, "metric": "cosine"}, **in_account)
        assert name in [each.name async for each in indexes.list(**in_account)]
        last = None
        for body in (NDJSON.encode(), NDJSON):
            last = (await indexes.upsert(name, body=body, **in_account)).mutation_id
        end = time.monotonic() + VISIBLE_WITHIN_S
        while (await indexes.info(name, **in_account)).processed_up_to_mutation != last:
            assert time.monotonic() < end
            await asyncio.sleep(0.01)
        found = await indexes.query(name, vector=[1, 0, 0], **in_account)
        assert ids(found.matches) == ["a", "b"]
        assert len(await indexes.get_by_ids(name, ids=["a"], **in_account)) == 1
        assert (await indexes.list_vectors(name, **in_account)).total_count == 2
        assert (await indexes.delete_by_ids(name, ids=["a"], **in_account)).mutation_id
        await indexes.delete(name, **in_account)
        with pytest.raises(cloudflare.NotFoundError):
            await indexes.get(name, **in_account)
        embedded = await client.ai.run(served.model, text="hello", account_id=account)
        assert isinstance(embedded, dict)
        assert embedded["shape"] == [1, served.model_dimensions]

    with_client(served, work)


def test_many_requests_at_once_are_all_answered(served: Served, account: str, filled: str) -> None:
    async def work(client: AsyncCloudflare) -> None:
        indexes: Indexes = client.vectorize.indexes
        answers = await asyncio.gather(
            *(indexes.query(filled, account_id=account, vector=[1, i / 50, 0]) for i in range(50))
        )
        assert [ids(each.matches) for each in answers] == [["a", "b"]] * 50

    with_client(served, work)
