"""An embedder whose answers can be worked out by hand."""

from collections.abc import Sequence

import numpy as np

from vicinal.embeddings.base import Embedding, ModelInfo, Pooling, check_texts
from vicinal.errors import ModelNotFound

TINY = "@cf/test/tiny-4d"
DIMENSIONS = 4


class TinyEmbedder:
    """Embeds a text as the unit vector along the axis ``len(text) % 4``, backwards for cls."""

    def models(self) -> Sequence[ModelInfo]:
        return (ModelInfo(TINY, DIMENSIONS, 16, Pooling.MEAN, is_available=True),)

    def names(self) -> Sequence[str]:
        return (TINY,)

    def embed(self, model: str, texts: Sequence[str], pooling: Pooling | None = None) -> Embedding:
        if model != TINY:
            raise ModelNotFound(f"no model is named {model!r}")
        check_texts(texts)
        axes = np.array([len(text) % DIMENSIONS for text in texts])
        rows = np.eye(DIMENSIONS, dtype=np.float32)[axes]
        used = pooling or Pooling.MEAN
        tokens = sum(len(text.split()) + 2 for text in texts)
        return Embedding(-rows if used is Pooling.CLS else rows, used, tokens)

    def preload(self, model: str) -> None:
        self.embed(model, ["x"])

    def close(self) -> None:
        """Nothing to release."""
