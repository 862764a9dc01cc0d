"""The real embedding model that tests of meaning use."""

import os

from vicinal.embeddings import models
from vicinal.embeddings.encoder import missing_files
from vicinal.embeddings.pull import pull
from vicinal.errors import Unavailable

MINILM = "@hf/sentence-transformers/all-minilm-l6-v2"


def pull_minilm() -> None:
    """Bring the model to this machine if it is not here.

    Raises:
        Unavailable: it cannot be had, or ``PULL_NO_MODELS`` is set and it is not here.
    """
    model, folder = models.known(MINILM), models.models_folder()
    if os.environ.get("PULL_NO_MODELS") and missing_files(folder / model.folder_name):
        raise Unavailable(f"{MINILM} is not here, and PULL_NO_MODELS is set")
    pull(model, folder, lambda _done, _total: None)
