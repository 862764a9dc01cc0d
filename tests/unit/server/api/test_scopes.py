"""Exports are streams of what an upsert takes, no faster than they are read."""

import json
import threading
from collections.abc import Iterator, Sequence
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.support.asgi import INDEXES, Received, application, call
from tests.support.engines import DOCS, Record, create, insert
from tests.support.model_engine import ModelEngine
from tests.support.server import in_thread
from tests.support.waiting import wait_until
from vicinal.errors import Corruption
from vicinal.limits import Limits
from vicinal.model import IndexAddress, ListedVector, Scan, Scope

EXPORT = f"{INDEXES}/docs/vectors/export"
LIMITS = Limits()
RECORDS = [
    Record("a", [1.5, -2], "n", {"k": ["x", 1], "ü": None}),
    Record("b", [0.1, 3e38]),
    Record("c", [0, 1], "m", {}),
]


@pytest.fixture
def engine() -> ModelEngine:
    engine = ModelEngine()
    create(engine)
    insert(engine, *RECORDS)
    return engine


def post(port: int, path: str, body: object) -> tuple[int, str, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", path, json.dumps(body))
        response = connection.getresponse()
        return response.status, response.headers["content-type"], response.read()
    finally:
        connection.close()


def test_an_export_is_what_an_upsert_takes(tmp_path: Path, engine: ModelEngine) -> None:
    with in_thread(application(tmp_path, engine=engine)) as running:
        status, content_type, text = post(running.port, EXPORT, {})
        other = f"{INDEXES}/other"
        post(
            running.port,
            INDEXES,
            {"name": "other", "config": {"dimensions": 2, "metric": "cosine"}},
        )
        connection = HTTPConnection("127.0.0.1", running.port, timeout=60)
        connection.request("POST", f"{other}/upsert", text)
        assert connection.getresponse().status == 200
        connection.close()

    def read(name: str) -> list[tuple[object, ...]]:
        stored = engine.get(IndexAddress(DOCS.account, name), ["a", "b", "c"])
        return [(v.id, v.values.tobytes(), v.namespace, v.metadata) for v in stored]

    assert (status, content_type) == (200, "application/x-ndjson")
    assert [json.loads(line)["id"] for line in text.splitlines()] == ["a", "b", "c"]
    assert read("other") == read("docs")


def test_an_export_leaves_out_what_is_not_wanted(tmp_path: Path, engine: ModelEngine) -> None:
    with in_thread(application(tmp_path, engine=engine)) as running:
        _, _, text = post(
            running.port,
            EXPORT,
            {"namespace": "n", "returnValues": False, "returnMetadata": False},
        )
        empty = post(running.port, EXPORT, {"idPrefix": "none"})

    assert json.loads(text) == {"id": "a", "namespace": "n"}
    assert empty[::2] == (200, b"")


class EndlessEngine(ModelEngine):
    """Lists the same vectors for ever, counting how often it was asked."""

    part_count = 0

    def stream_vectors(
        self, address: IndexAddress, scan: Scan, count: int
    ) -> Iterator[Sequence[ListedVector]]:
        while True:
            self.part_count += 1
            yield [ListedVector(f"{n:05}" * 100, "") for n in range(100)]


def test_an_export_waits_for_its_reader_and_ends_with_it(tmp_path: Path) -> None:
    engine = EndlessEngine()
    create(engine)
    with in_thread(application(tmp_path, engine=engine)) as running:
        connection = HTTPConnection("127.0.0.1", running.port, timeout=60)
        connection.request("POST", EXPORT, "{}")
        response = connection.getresponse()
        assert len(response.read(1_000)) == 1_000
        seen = 0

        def is_still() -> bool:
            nonlocal seen
            before, seen = seen, engine.part_count
            settled.wait(0.2)
            return before == engine.part_count

        settled = threading.Event()
        wait_until(is_still)
        # What sockets and buffers take: megabytes, of a stream without an end.
        assert engine.part_count * 50_000 < 100e6
        stopped_at = engine.part_count
        assert len(response.read(20_000_000)) == 20_000_000
        assert engine.part_count > stopped_at
        response.close()
        connection.close()
        wait_until(is_still)


class BreakingEngine(ModelEngine):
    """Fails after the first part."""

    def stream_vectors(
        self, address: IndexAddress, scan: Scan, count: int
    ) -> Iterator[Sequence[ListedVector]]:
        assert scan.scope == Scope()
        yield [ListedVector("a", "")]
        raise Corruption("a file is damaged")


def test_an_export_that_fails_breaks_off_without_its_end(tmp_path: Path) -> None:
    engine = BreakingEngine()
    create(engine)
    with in_thread(application(tmp_path, engine=engine)) as running:
        connection = HTTPConnection("127.0.0.1", running.port, timeout=60)
        connection.request("POST", EXPORT, "{}")
        response = connection.getresponse()
        with pytest.raises(Exception, match=r"IncompleteRead|reset|closed") as caught:
            response.read()
        connection.close()

    assert response.status == 200
    partial = getattr(caught.value, "partial", b"")
    assert not partial or b"40098" in partial


def test_an_export_goes_on_with_a_listing_after_any_number_of_its_vectors(
    tmp_path: Path, engine: ModelEngine
) -> None:
    with in_thread(application(tmp_path, engine=engine)) as running:
        _, _, whole = post(running.port, EXPORT, {})
        _, _, answer = post(
            running.port,
            EXPORT.replace("export", "list"),
            {"count": 1, "returnValues": True, "returnMetadata": True},
        )
        page = json.loads(answer)["result"]
        first = json.dumps(page["vectors"][0], separators=(",", ":"), ensure_ascii=False).encode()
        rests = []
        for skip in range(3):
            body = {"cursor": page["nextCursor"], "skip": skip}
            rests.append(post(running.port, EXPORT, body))
        beyond = post(running.port, EXPORT, {"cursor": page["nextCursor"], "skip": 3})

    lines = whole.splitlines(keepends=True)
    assert first + b"\n" == lines[0]
    assert [text for _, _, text in rests] == [b"".join(lines[1 + skip :]) for skip in range(3)]
    assert {status for status, _, _ in rests} == {200}
    assert beyond[0] == 400
    assert "only 2 vectors are after the cursor" in json.loads(beyond[2])["errors"][0]["message"]


@pytest.mark.parametrize(
    ("ids", "count"), [(["a", "none"], 1), (["none"], 0), (["a", "a", "b", "none", "b"], 2)]
)
def test_a_dry_run_by_ids_counts_each_vector_that_there_is_once_and_changes_none(
    tmp_path: Path, engine: ModelEngine, ids: list[str], count: int
) -> None:
    app = application(tmp_path, engine=engine)
    body = {"ids": ids, "metadata": {"k": 1}}
    before = engine.get(DOCS, ["a", "b", "c"])

    counted = call(app, "POST", f"{INDEXES}/docs/vectors/patch", body | {"dryRun": True})

    assert counted.result == {"count": count}
    assert engine.get(DOCS, ["a", "b", "c"]) == before
    patched = call(app, "POST", f"{INDEXES}/docs/vectors/patch", body)
    assert patched.result["count"] == count


def test_as_many_ids_are_patched_as_the_limit_and_no_more(
    tmp_path: Path, engine: ModelEngine
) -> None:
    app = application(tmp_path, engine=engine)
    ids = [f"v{number}" for number in range(LIMITS.delete_ids_max + 1)]

    def patch(ids: list[str]) -> Received:
        body = {"ids": ids, "metadata": {"k": 1}}
        return call(app, "POST", f"{INDEXES}/docs/vectors/patch", body)

    assert patch(ids[1:]).result["count"] == 0
    status, _, message = patch(ids).error
    assert (status, message) == (
        400,
        f"too many ids in payload; max id count is {len(ids) - 1}, got {len(ids)}",
    )
