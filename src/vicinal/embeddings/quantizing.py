"""The int8 form of a model, made once from its float32 files by onnxruntime's dynamic quantization.

Weights are rounded to 7 bits, each output of a layer with a scale of its own: 8 bits would overflow
the sums of processors that have no instructions for int8, and gave no nearer vectors. Activations
are rounded when a text is embedded, with a scale that is found in them then.

Over 300 short English texts the cosine of a vector to that of float32 was 0.993 in the middle and
0.98 at least; `benchmarks.embedding_peers` has more, and the speed.
"""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vicinal.embeddings import encoder
from vicinal.embeddings.safetensors import read_tensors

WEIGHTS = "model.onnx"

_OTHERS = ("config.json", "tokenizer.json", "sentence_bert_config.json")
_ADVICE = "pre-processing before quantization"


def quantize(folder: Path, to: Path) -> None:
    """Write the int8 form of the model in `folder` into the folder `to`, which is there.

    Raises:
        ModelNotFound: the model is of another architecture than those that are built here.
        Corruption: a file is damaged.
        OSError: a file cannot be written.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    from vicinal.embeddings import bert

    weights = folder / "model.safetensors"
    config = encoder.read_json(folder / "config.json", bert.BertConfig)
    graph = bert.graph(config, weights, read_tensors(weights), location=weights.name)
    model = onnx.load_from_string(graph)
    onnx.external_data_helper.load_external_data_for_model(model, str(folder))
    for initializer in model.graph.initializer:
        initializer.data_location = onnx.TensorProto.DEFAULT
    with _without_advice():
        quantize_dynamic(
            model,
            str(to / WEIGHTS),
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )
    for name in _OTHERS:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, to / name)


@contextmanager
def _without_advice() -> Iterator[None]:
    """Leave out the advice to optimise the graph first: it has nothing to optimise."""

    def is_other(record: logging.LogRecord) -> bool:
        return _ADVICE not in record.getMessage()

    logging.getLogger().addFilter(is_other)
    try:
        yield
    finally:
        logging.getLogger().removeFilter(is_other)
