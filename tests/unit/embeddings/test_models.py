"""A model's folder is found where the user says, then in our folder, then in the hub's cache."""

import os
from pathlib import Path

import pytest

from tests.support.model_files import tiny_folder
from vicinal.embeddings import models
from vicinal.embeddings.models import Found, Places, Source
from vicinal.errors import ModelNotFound

BASE = "@cf/baai/bge-base-en-v1.5"
REPOSITORY = "models--BAAI--bge-base-en-v1.5"


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path / "models", tmp_path / "hub")


def snapshot(places: Places, commit: str) -> Path:
    return tiny_folder(places.hub / REPOSITORY / "snapshots" / commit)


def test_what_is_nowhere_is_not_found(places: Places) -> None:
    assert models.find(BASE, places) is None


def test_the_user_comes_before_our_folder_and_that_before_the_cache(places: Places) -> None:
    cached = snapshot(places, "c0ffee")
    assert models.find(BASE, places) == Found(cached, Source.HUB)

    own = tiny_folder(places.models / "bge-base-en-v1.5")
    assert models.find(BASE, places) == Found(own, Source.VICINAL)

    named = tiny_folder(places.models.parent / "mine", "onnx/model.onnx")
    places = Places(places.models, places.hub, {BASE: named})
    assert models.find(BASE, places) == Found(named, Source.USER)


def test_a_folder_that_is_not_whole_is_passed_over_unless_the_user_named_it(
    places: Places,
) -> None:
    cached = snapshot(places, "c0ffee")
    own = tiny_folder(places.models / "bge-base-en-v1.5")
    (own / "tokenizer.json").unlink()

    assert models.find(BASE, places) == Found(cached, Source.HUB)
    with pytest.raises(ModelNotFound, match=rf"{own}, named for {BASE}, lacks tokenizer\.json"):
        models.find(BASE, Places(places.models, places.hub, {BASE: own}))
    with pytest.raises(ModelNotFound, match="does not exist"):
        models.find(BASE, Places(places.models, places.hub, {BASE: own / "no"}))


def test_the_snapshot_of_the_main_branch_is_taken(places: Places) -> None:
    older, newer = snapshot(places, "aaaa"), snapshot(places, "bbbb")
    os.utime(older, (1_000, 1_000))
    os.utime(newer, (2_000, 2_000))
    assert models.find(BASE, places) == Found(newer, Source.HUB)

    head = places.hub / REPOSITORY / "refs" / "main"
    head.parent.mkdir()
    head.write_text("aaaa")
    assert models.find(BASE, places) == Found(older, Source.HUB)

    (older / "config.json").unlink()
    assert models.find(BASE, places) == Found(newer, Source.HUB)


def test_a_name_of_the_users_own_needs_a_folder(places: Places) -> None:
    folder = tiny_folder(places.models.parent / "mine")

    with pytest.raises(ModelNotFound, match="'@mine/x'"):
        models.find("@mine/x", places)
    own = Places(places.models, places.hub, {"@mine/x": folder})
    assert models.find("@mine/x", own) == Found(folder, Source.USER)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "HOME/.cache/vicinal/models"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/vicinal/models"),
        ({"XDG_CACHE_HOME": ""}, "HOME/.cache/vicinal/models"),
        ({"XDG_CACHE_HOME": "/xdg", "VICINAL_MODELS": "/mine"}, "/mine"),
    ],
)
def test_our_folder_is_in_the_users_cache_unless_named(
    environment: dict[str, str], expected: str
) -> None:
    assert models.models_folder(environment) == Path(expected.replace("HOME", str(Path.home())))


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "HOME/.cache/huggingface/hub"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/huggingface/hub"),
        ({"XDG_CACHE_HOME": "/xdg", "HF_HOME": "~/hf"}, "HOME/hf/hub"),
        ({"HF_HOME": "/hf", "HF_HUB_CACHE": "/hub"}, "/hub"),
    ],
)
def test_the_cache_is_where_its_own_tools_look(environment: dict[str, str], expected: str) -> None:
    assert models.hub_folder(environment) == Path(expected.replace("HOME", str(Path.home())))


@pytest.mark.parametrize(
    "text",
    [
        BASE,
        "bge-base-en-v1.5",
        "BGE-Base-EN-v1.5",
        "BAAI/bge-base-en-v1.5",
        "base-en-v1.5",
    ],
)
def test_the_end_of_a_name_is_enough(text: str) -> None:
    assert models.matching(text).name == BASE


def test_an_ambiguous_or_unknown_end_lists_the_names() -> None:
    with pytest.raises(ModelNotFound, match=f"any of .*bge-small.*{BASE}.*bge-large") as caught:
        models.matching("en-v1.5")
    assert "minilm" not in str(caught.value)
    for text in ("", "nope"):
        with pytest.raises(ModelNotFound, match=f"{text!r}; known are .*{BASE}.*minilm"):
            models.matching(text)


def test_the_known_models_are_those_of_the_platform() -> None:
    assert [(model.name, model.dimensions, model.max_tokens) for model in models.KNOWN] == [
        ("@cf/baai/bge-small-en-v1.5", 384, 512),
        ("@cf/baai/bge-base-en-v1.5", 768, 512),
        ("@cf/baai/bge-large-en-v1.5", 1024, 512),
        ("@hf/sentence-transformers/all-minilm-l6-v2", 384, 256),
    ]
