"""The named index configurations: the dimensions and the metric of an embedding model.

Dimensions are from the platform's page on creating indexes. Metrics are not on that page: all
guides use cosine for the first four models, and the vendor of the last trained it for dot-product.
One preset is ours: of the model that comes with this package.
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
            ("@hf/sentence-transformers/all-minilm-l6-v2", 384, Metric.COSINE),  # ours
            ("cohere/embed-multilingual-v2.0", 768, Metric.DOT_PRODUCT),
        )
    }
)
