"""Choose and put together an embedding backend, from plain settings."""

from collections.abc import Mapping
from pathlib import Path

from vicinal.embeddings import models
from vicinal.embeddings.base import Embedder
from vicinal.embeddings.local import LocalEmbedder
from vicinal.embeddings.pull import pull
from vicinal.embeddings.remote import RemoteEmbedder


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
    """Return a backend; no file is opened and nothing is asked before it is used.

    Args:
        models_folder: Vicinal's own model folder; None for `models.models_folder`.
        model_folders: By name of model, a folder that holds just that one.
        allow_download: Whether a known model that is not here is pulled on first use.
        threads: How many compute; 0 for one per core.
        queue_max: Texts that may wait; more are `Overloaded`.
        remote_url: An OpenAI-compatible service that embeds instead of this process. The
            other arguments, but for the next two, are then of no account.
        remote_key: Bearer token for it.
        remote_models: By name of model, its name there.
    """
    if remote_url:
        return RemoteEmbedder(remote_url, key=remote_key, models=remote_models)
    places = models.Places(
        models=models_folder or models.models_folder(),
        hub=models.hub_folder(),
        folders=model_folders or {},
    )

    def fetch(model: models.KnownModel) -> Path:
        return pull(model, places.models, _in_silence).folder

    return LocalEmbedder(
        places, threads=threads, queue_max=queue_max, fetch=fetch if allow_download else None
    )


def _in_silence(_done: int, _total: int | None) -> None:
    """Show no progress: nobody watches a server's first use of a model."""
