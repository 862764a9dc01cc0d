"""Settings choose the backend, and building one opens and asks nothing."""

from pathlib import Path

import pytest

from tests.support.hub import hub
from tests.support.model_files import TINY, TINY_FILES
from vicinal.embeddings.build import build_embedder
from vicinal.embeddings.local import LocalEmbedder
from vicinal.embeddings.remote import RemoteEmbedder
from vicinal.errors import ModelNotFound, Overloaded, Unavailable

BASE = "@cf/baai/bge-base-en-v1.5"


def test_a_url_makes_a_remote_one_with_its_models() -> None:
    built = build_embedder(remote_url="http://127.0.0.1:9/v1", remote_models={"@mine/x": "x"})

    assert isinstance(built, RemoteEmbedder)
    assert [each.name for each in built.models()] == ["@mine/x"]


def test_folders_of_single_models_are_used(tmp_path: Path) -> None:
    built = build_embedder(models_folder=tmp_path, model_folders={BASE: TINY})

    assert isinstance(built, LocalEmbedder)
    assert built.embed(BASE, ["a"]).values.shape == (1, 32)


def test_the_model_folder_of_the_environment_is_used_when_none_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VICINAL_MODELS", str(tmp_path))
    (tmp_path / "bge-base-en-v1.5").symlink_to(TINY)

    assert build_embedder().embed(BASE, ["a"]).values.shape == (1, 32)


def test_a_model_is_downloaded_on_first_use_only_where_that_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))
    files = {name: (TINY / name).read_bytes() for name in TINY_FILES}
    with hub("BAAI/bge-base-en-v1.5", files) as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        with pytest.raises(ModelNotFound):
            build_embedder(models_folder=tmp_path).embed(BASE, ["a"])
        allowed = build_embedder(models_folder=tmp_path, allow_download=True)
        assert allowed.embed(BASE, ["a"]).values.shape == (1, 32)

    assert build_embedder(models_folder=tmp_path).embed(BASE, ["a"]).values.shape == (1, 32)


def test_the_bound_of_the_queue_is_passed_on(tmp_path: Path) -> None:
    built = build_embedder(models_folder=tmp_path, model_folders={BASE: TINY}, queue_max=1)
    assert isinstance(built, LocalEmbedder)

    built._texts.acquire(1)  # noqa: SLF001  # what a call under way holds

    with pytest.raises(Overloaded, match="bound of 1"):
        built.embed(BASE, ["a"])


def test_a_service_that_is_not_there_is_noticed_when_asked() -> None:
    built = build_embedder(remote_url="ftp://127.0.0.1")

    with pytest.raises(Unavailable):
        built.embed(BASE, ["a"])
