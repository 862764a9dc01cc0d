"""The presets are those of the platform and one of ours, with their dimensions."""

from vicinal.model import Metric
from vicinal.presets import PRESETS


def test_there_are_six_presets() -> None:
    assert {name: (each.dimensions, each.metric) for name, each in PRESETS.items()} == {
        "@cf/baai/bge-small-en-v1.5": (384, Metric.COSINE),
        "@cf/baai/bge-base-en-v1.5": (768, Metric.COSINE),
        "@cf/baai/bge-large-en-v1.5": (1024, Metric.COSINE),
        "openai/text-embedding-ada-002": (1536, Metric.COSINE),
        "@hf/sentence-transformers/all-minilm-l6-v2": (384, Metric.COSINE),
        "cohere/embed-multilingual-v2.0": (768, Metric.DOT_PRODUCT),
    }


def test_a_preset_names_itself() -> None:
    assert all(config.preset == name for name, config in PRESETS.items())
