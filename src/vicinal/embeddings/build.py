"""Choose and put together an embedding backend, from plain settings.

The clients of services are imported where a service is named: they bring an HTTP client, which
takes longer to import than all else here.
"""

from collections.abc import Mapping
from pathlib import Path

from vicinal.embeddings import models
from vicinal.embeddings.base import Embedder
from vicinal.embeddings.local import LocalEmbedder, cores
from vicinal.embeddings.pull import pull
from vicinal.embeddings.reranking import LocalReranker, Reranker


def build_embedder(
    *,
    models_folder: Path | None = None,
    model_folders: Mapping[str, Path] | None = None,
    allow_download: bool = False,
    threads: int = 0,
    queue_max: int = 1_000,
    remote_url: str | None = None,
    remote_key: str | None = None,
    remote_models: Mapping[str, str] | None = None,
) -> Embedder:
    """Return a backend; no file is opened and no request sent before its first use.

    Args:
        models_folder: Vicinal's own model folder; None for `models.models_folder`.
        model_folders: By name of model, a folder that holds that model alone.
        allow_download: Whether a known model that is not here is pulled on first use.
        threads: Number of threads that compute; 0 for one per core.
        queue_max: Number of texts that may wait; more are `Overloaded`.
        remote_url: An OpenAI-compatible service that embeds instead of this process; then only
            the next two arguments are used.
        remote_key: Bearer token for the service.
        remote_models: By name of model, its name at the service.
    """
    if remote_url:
        from vicinal.embeddings.remote import RemoteEmbedder

        return RemoteEmbedder(remote_url, key=remote_key, models=remote_models)
    rerankers = {model.name for model in models.RERANKERS}
    folders = {n: folder for n, folder in (model_folders or {}).items() if n not in rerankers}
    search_paths = _search_paths(models_folder, folders)

    def fetch(model: models.KnownModel) -> Path:
        # Nobody watches a server's first use of a model.
        return pull(model, search_paths.models, lambda _done, _total: None).folder

    return LocalEmbedder(
        search_paths, threads=threads, queue_max=queue_max, fetch=fetch if allow_download else None
    )


def build_reranker(
    *,
    models_folder: Path | None = None,
    model_folders: Mapping[str, Path] | None = None,
    threads: int = 0,
    queue_max: int = 2_000,
    remote_url: str | None = None,
    remote_key: str | None = None,
    remote_models: Mapping[str, str] | None = None,
) -> Reranker:
    """Return what ranks texts; no file is opened and no request sent before its first use.

    Arguments are those of `build_embedder`.
    """
    if remote_url:
        from vicinal.embeddings.remote_reranking import RemoteReranker

        return RemoteReranker(remote_url, key=remote_key, models_there=remote_models)
    search_paths = _search_paths(models_folder, model_folders or {})
    return LocalReranker(search_paths, threads=threads or cores(), queue_max=queue_max)


def _search_paths(models_folder: Path | None, folders: Mapping[str, Path]) -> models.SearchPaths:
    return models.SearchPaths(
        models=models_folder or models.models_folder(), hub=models.hub_folder(), folders=folders
    )
