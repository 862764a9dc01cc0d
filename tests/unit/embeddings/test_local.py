"""Local embedding: lazily loaded, in turns, bounded, and under the platform's names."""

import hashlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.support.embedded_texts import TEXTS
from tests.support.model_files import DATA, TINY, tiny_folder
from vicinal.embeddings.base import Pooling
from vicinal.embeddings.encoder import Encoder, Tokens
from vicinal.embeddings.local import Fetch, LocalEmbedder
from vicinal.embeddings.models import KnownModel, SearchPaths
from vicinal.embeddings.pull import RECEIPT, Receipt
from vicinal.errors import (
    BadEmbeddingInput,
    Corruption,
    ModelNotFound,
    Overloaded,
    Unavailable,
)
from vicinal.model import Floats

BASE = "@cf/baai/bge-base-en-v1.5"
MINILM = "@hf/sentence-transformers/all-minilm-l6-v2"
REFERENCE = np.load(DATA / "reference.npz")


def embedder(
    search_paths: SearchPaths,
    *,
    threads: int = 1,
    queue_max: int = 1_000,
    fetch: Fetch | None = None,
) -> LocalEmbedder:
    return LocalEmbedder(search_paths, threads=threads, queue_max=queue_max, fetch=fetch)


@pytest.fixture
def search_paths(tmp_path: Path) -> SearchPaths:
    return SearchPaths(tmp_path / "models", tmp_path / "hub")


@pytest.fixture
def named(search_paths: SearchPaths) -> Iterator[LocalEmbedder]:
    local = embedder(
        SearchPaths(search_paths.models, search_paths.hub, {BASE: TINY}),
        threads=2,
        queue_max=10_000,
    )
    yield local
    local.close()


@pytest.mark.parametrize("pooling", [None, *Pooling])
def test_a_model_of_the_architecture_of_bge_runs_under_its_name(
    named: LocalEmbedder, pooling: Pooling | None
) -> None:
    made = named.embed(BASE, TEXTS, pooling)

    used = pooling or Pooling.MEAN
    assert made.pooling is used
    assert np.abs(made.values - REFERENCE[f"tiny_{used.value}"]).max() < 1e-6


def test_what_is_known_of_a_model_comes_from_its_folder_when_there_is_one(
    named: LocalEmbedder,
) -> None:
    infos = {each.name: each for each in named.models()}

    base, minilm = infos[BASE], infos[MINILM]
    assert (base.dimensions, base.max_tokens, base.is_available) == (32, 64, True)
    assert (minilm.dimensions, minilm.max_tokens, minilm.is_available) == (384, 256, False)
    assert {each.default_pooling for each in infos.values()} == {Pooling.MEAN}


def test_the_published_bound_holds_where_the_folder_says_none(search_paths: SearchPaths) -> None:
    folder = tiny_folder(search_paths.models / "all-minilm-l6-v2")
    config = folder / "config.json"
    config.write_text(config.read_text().replace('embeddings": 64', 'embeddings": 512'))

    info = {each.name: each for each in embedder(search_paths).models()}[MINILM]

    assert info.max_tokens == 256


def test_a_damaged_folder_is_listed_as_not_available(
    search_paths: SearchPaths, tmp_path: Path
) -> None:
    folder = tiny_folder(tmp_path / "mine")
    (folder / "config.json").write_text("{")
    local = embedder(
        SearchPaths(search_paths.models, search_paths.hub, {BASE: folder, "@mine/x": folder})
    )

    infos = {each.name: each for each in local.models()}

    assert (infos[BASE].dimensions, infos[BASE].is_available) == (768, False)
    assert (infos["@mine/x"].dimensions, infos["@mine/x"].is_available) == (None, False)
    with pytest.raises(Corruption, match=r"config\.json"):
        local.embed(BASE, ["a"])


def test_weights_that_changed_since_they_were_pulled_are_not_used(
    search_paths: SearchPaths,
) -> None:
    folder = tiny_folder(search_paths.models / "bge-base-en-v1.5")
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    files = {weights.name: hashlib.sha256(whole).hexdigest()}
    (folder / RECEIPT).write_bytes(msgspec.json.encode(Receipt(BASE, "a test", files)))
    # One bit of one weight: nothing but its checksum tells.
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))

    local = embedder(search_paths)
    with pytest.raises(Corruption, match=rf"model\.safetensors in {folder} is not what was pulled"):
        local.embed(BASE, ["a"])

    weights.write_bytes(whole)
    assert local.embed(BASE, ["a"]).values.shape == (1, 32)
    local.close()


def test_a_model_that_is_not_here_says_how_to_get_it_and_works_once_it_is(
    search_paths: SearchPaths,
) -> None:
    local = embedder(search_paths)
    with pytest.raises(ModelNotFound, match=f"`vicinal model pull {BASE}`"):
        local.embed(BASE, ["a"])

    tiny_folder(search_paths.models / "bge-base-en-v1.5")

    assert local.embed(BASE, ["a"]).values.shape == (1, 32)
    local.close()


def test_a_model_is_fetched_once_however_many_ask_at_first(search_paths: SearchPaths) -> None:
    fetched: list[str] = []

    def fetch(model: KnownModel) -> Path:
        fetched.append(model.name)
        return TINY

    local = embedder(search_paths, fetch=fetch)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda text: local.embed(BASE, [text]).values[0], TEXTS))

    assert fetched == [BASE]
    assert np.abs(np.stack(made) - REFERENCE["tiny_mean"]).max() < 1e-6
    local.close()


def test_a_fetch_that_fails_is_tried_again(search_paths: SearchPaths) -> None:
    outcomes: list[Exception | Path] = [Unavailable("no network"), TINY]

    def fetch(_model: KnownModel) -> Path:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    local = embedder(search_paths, fetch=fetch)
    with pytest.raises(Unavailable, match="no network"):
        local.embed(BASE, ["a"])

    assert local.embed(BASE, ["a"]).values.shape == (1, 32)
    local.close()


def test_texts_over_the_bound_of_the_queue_are_refused_until_there_is_room(
    search_paths: SearchPaths,
) -> None:
    is_fetching, may_go_on = threading.Event(), threading.Event()

    def fetch(_model: KnownModel) -> Path:
        is_fetching.set()
        assert may_go_on.wait(60)
        return TINY

    local = embedder(
        SearchPaths(search_paths.models, search_paths.hub, {"@test/tiny": TINY}),
        queue_max=10,
        fetch=fetch,
    )
    with ThreadPoolExecutor(1) as pool:
        # A call is taken when nothing waits, even one that is larger than the bound.
        slow = pool.submit(local.embed, BASE, ["a"] * 9)
        assert is_fetching.wait(60)
        assert local.embed("@test/tiny", ["b"]).values.shape == (1, 32)
        with pytest.raises(Overloaded, match=r"9 texts wait .* 2 more .* bound of 10") as caught:
            local.embed("@test/tiny", ["b", "c"])
        may_go_on.set()
        assert slow.result(60).values.shape == (9, 32)

    assert caught.value.retry_after is not None
    assert caught.value.retry_after >= 1.0
    assert local.embed("@test/tiny", ["b"] * 11).values.shape == (11, 32)
    local.close()


def test_texts_that_fail_leave_the_queue(search_paths: SearchPaths) -> None:
    local = embedder(search_paths, queue_max=2)
    for _ in range(3):
        with pytest.raises(ModelNotFound):
            local.embed(BASE, ["a", "b"])

    tiny_folder(search_paths.models / "bge-base-en-v1.5")

    assert local.embed(BASE, ["a", "b"]).values.shape == (2, 32)
    local.close()


def test_a_short_call_does_not_wait_for_all_of_a_long_one(
    named: LocalEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []
    has_begun = threading.Event()
    encode = Encoder.encode

    def recorded(self: Encoder, batch: Sequence[Tokens], pooling: Pooling) -> Floats:
        ran.append(len(batch))
        has_begun.set()
        return encode(self, batch, pooling)

    monkeypatch.setattr(Encoder, "encode", recorded)
    named.preload(BASE)
    with ThreadPoolExecutor(1) as pool:
        long = pool.submit(named.embed, BASE, [TEXTS[-1]] * 3_200)  # 200 batches of 16
        assert has_begun.wait(60)
        named.embed(BASE, ["orange cloud"])
        assert not long.done()
        long.result(60)

    assert len(ran) == 201
    assert ran.index(1) < 200


def test_a_closed_embedder_says_so(named: LocalEmbedder) -> None:
    named.preload(BASE)
    named.close()

    with pytest.raises(Unavailable, match="closed"):
        named.embed(BASE, ["a"])


@pytest.mark.parametrize("step", ["tokenize", "batches", "encode"])
def test_no_text_waits_after_a_call_that_failed(
    named: LocalEmbedder, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    budget = named._texts  # noqa: SLF001  # nothing else tells that no text is left
    seen: list[int] = []

    def fail(*_: object, **__: object) -> None:
        seen.append(budget.used)
        raise MemoryError

    monkeypatch.setattr(Encoder, step, fail)
    with pytest.raises(MemoryError):
        named.embed(BASE, ["a", "b"])

    assert seen[0] == 2
    assert budget.used == 0


def test_no_text_waits_after_a_call_that_was_refused(search_paths: SearchPaths) -> None:
    local = embedder(search_paths, queue_max=1)
    budget = local._texts  # noqa: SLF001  # as above

    for model, texts in ((BASE, ["a", "\ud800"]), ("none", ["a"]), (BASE, ["a"])):
        with pytest.raises((BadEmbeddingInput, ModelNotFound)):
            local.embed(model, texts)
        assert budget.used == 0
    assert budget.acquire(1)
    with pytest.raises(Overloaded):
        local.embed(BASE, ["a"])
    assert budget.used == 1
    local.close()
