"""The real embedding model that tests of meaning use."""

from vicinal.embeddings import models
from vicinal.embeddings.pull import pull

MINILM = "@hf/sentence-transformers/all-minilm-l6-v2"


def pull_minilm() -> None:
    """Bring the model to this machine if it is not here.

    Raises:
        Unavailable: it cannot be had.
    """
    pull(models.known(MINILM), models.models_folder(), lambda _done, _total: None)
