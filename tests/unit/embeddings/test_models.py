"""A model's folder is found where the user says, then in our folder, then in the hub's cache."""

import os
from pathlib import Path

import pytest

from tests.support.homes import without_home
from tests.support.model_files import tiny_folder
from vicinal.embeddings import models
from vicinal.embeddings.models import ModelFolder, SearchPaths, Source
from vicinal.errors import ModelNotFound

BASE = "@cf/baai/bge-base-en-v1.5"
REPOSITORY = "models--BAAI--bge-base-en-v1.5"


@pytest.fixture
def search_paths(tmp_path: Path) -> SearchPaths:
    return SearchPaths(tmp_path / "models", tmp_path / "hub")


def snapshot(search_paths: SearchPaths, commit: str) -> Path:
    return tiny_folder(search_paths.hub / REPOSITORY / "snapshots" / commit)


def test_what_is_nowhere_is_not_found(search_paths: SearchPaths) -> None:
    assert models.locate(BASE, search_paths) is None


def test_the_user_comes_before_our_folder_and_that_before_the_cache(
    search_paths: SearchPaths,
) -> None:
    cached = snapshot(search_paths, "c0ffee")
    assert models.locate(BASE, search_paths) == ModelFolder(cached, Source.HUB)

    own = tiny_folder(search_paths.models / "bge-base-en-v1.5")
    assert models.locate(BASE, search_paths) == ModelFolder(own, Source.VICINAL)

    named = tiny_folder(search_paths.models.parent / "mine", "onnx/model.onnx")
    search_paths = SearchPaths(search_paths.models, search_paths.hub, {BASE: named})
    assert models.locate(BASE, search_paths) == ModelFolder(named, Source.USER)


def test_a_folder_that_is_not_whole_is_passed_over_unless_the_user_named_it(
    search_paths: SearchPaths,
) -> None:
    cached = snapshot(search_paths, "c0ffee")
    own = tiny_folder(search_paths.models / "bge-base-en-v1.5")
    (own / "tokenizer.json").unlink()

    assert models.locate(BASE, search_paths) == ModelFolder(cached, Source.HUB)
    with pytest.raises(ModelNotFound, match=rf"{own}, named for {BASE}, lacks tokenizer\.json"):
        models.locate(BASE, SearchPaths(search_paths.models, search_paths.hub, {BASE: own}))
    with pytest.raises(ModelNotFound, match="does not exist"):
        models.locate(BASE, SearchPaths(search_paths.models, search_paths.hub, {BASE: own / "no"}))


def test_the_snapshot_of_the_main_branch_is_taken(search_paths: SearchPaths) -> None:
    older, newer = snapshot(search_paths, "aaaa"), snapshot(search_paths, "bbbb")
    os.utime(older, (1_000, 1_000))
    os.utime(newer, (2_000, 2_000))
    assert models.locate(BASE, search_paths) == ModelFolder(newer, Source.HUB)

    head = search_paths.hub / REPOSITORY / "refs" / "main"
    head.parent.mkdir()
    head.write_text("aaaa")
    assert models.locate(BASE, search_paths) == ModelFolder(older, Source.HUB)

    (older / "config.json").unlink()
    assert models.locate(BASE, search_paths) == ModelFolder(newer, Source.HUB)


def test_a_name_of_the_users_own_needs_a_folder(search_paths: SearchPaths) -> None:
    folder = tiny_folder(search_paths.models.parent / "mine")

    with pytest.raises(ModelNotFound, match="'@mine/x'"):
        models.locate("@mine/x", search_paths)
    own = SearchPaths(search_paths.models, search_paths.hub, {"@mine/x": folder})
    assert models.locate("@mine/x", own) == ModelFolder(folder, Source.USER)


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


def test_a_user_without_a_home_has_a_cache_at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    without_home(monkeypatch)

    assert models.models_folder({}) == Path("/.cache/vicinal/models")
    assert models.hub_folder({}) == Path("/.cache/huggingface/hub")


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


def test_the_end_of_a_name_is_not_that_of_its_int8_form() -> None:
    assert models.matching("all-minilm-l6-v2").name.endswith("all-minilm-l6-v2")
    assert models.matching("all-MiniLM-L6-v2-int8").name.endswith("-int8")
    assert models.matching("int8").float32 == models.matching("all-minilm-l6-v2").name


def test_the_int8_form_is_not_found_in_the_cache_of_its_model(tmp_path: Path) -> None:
    int8 = models.matching("int8")
    published = models.known(int8.float32 or "")
    repository = f"models--{published.repository.replace('/', '--')}"
    tiny_folder(tmp_path / "hub" / repository / "snapshots" / "abc")
    tiny_folder(tmp_path / "hub" / "models--" / "snapshots" / "abc")
    paths = models.SearchPaths(tmp_path / "models", tmp_path / "hub")

    assert models.locate(published.name, paths) is not None
    assert models.locate(int8.name, paths) is None


def test_the_known_models_are_those_of_the_platform() -> None:
    assert [(model.name, model.dimensions, model.max_tokens) for model in models.KNOWN] == [
        ("@cf/baai/bge-small-en-v1.5", 384, 512),
        ("@cf/baai/bge-base-en-v1.5", 768, 512),
        ("@cf/baai/bge-large-en-v1.5", 1024, 512),
        ("@hf/sentence-transformers/all-minilm-l6-v2", 384, 256),
        ("@hf/sentence-transformers/all-minilm-l6-v2-int8", 384, 256),  # ours
    ]
