"""The named index configurations: which dimensions and metric an embedding model wants.

Dimensions are from the platform's page on creating indexes. It does not print the metrics:
cosine is what every guide uses for the first four, dot-product is what the vendor of the
last trained it for.
"""

from collections.abc import Mapping
from types import MappingProxyType

from vicinal.model import IndexConfig, Metric

PRESETS: Mapping[str, IndexConfig] = MappingProxyType(
    {
        name: IndexConfig(dimensions, metric, preset=name)
        for name, dimensions, metric in (
            ("@cf/baai/bge-small-en-v1.5", 384, Metric.COSINE),
            ("@cf/baai/bge-base-en-v1.5", 768, Metric.COSINE),
            ("@cf/baai/bge-large-en-v1.5", 1024, Metric.COSINE),
            ("openai/text-embedding-ada-002", 1536, Metric.COSINE),
            ("cohere/embed-multilingual-v2.0", 768, Metric.DOT_PRODUCT),
        )
    }
)
