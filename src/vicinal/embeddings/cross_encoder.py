"""One cross-encoder out of a folder of model files: a query and a text in, a score out.

The model reads both at once, which finds what two vectors miss and takes as long as embedding the
text again. Files are those of `encoder`; the weights are ``model.safetensors`` of BERT or
(XLM-)RoBERTa with a head for one label, or an ONNX file that gives ``logits``. The score is the
logistic function of that label's logit, from 0 to 1.

    input_ids, attention_mask, token_type_ids (batch, tokens) int64 → logits (batch, 1)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vicinal.embeddings import cutting, encoder
from vicinal.embeddings.safetensors import read_tensors
from vicinal.errors import Corruption, ModelNotFound
from vicinal.model import Floats

if TYPE_CHECKING:
    import onnxruntime
    from tokenizers import Encoding, Tokenizer

_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}
_OUTPUT = "logits"


@dataclass(frozen=True, slots=True)
class CrossEncoder:
    """A loaded model. Its method may be called from any thread."""

    folder: Path
    max_tokens: int
    pad_id: int
    tokenizer: "Tokenizer"
    session: "onnxruntime.InferenceSession"

    def scores(self, query: str, texts: Sequence[str]) -> Floats:
        """Return how well each text answers a query, ``(n,)`` float32 from 0 to 1.

        Raises:
            Corruption: the model gives NaN, infinity or more than one number.
        """
        chars = cutting.SQUEEZED_CHARS_PER_TOKEN * self.max_tokens
        pairs = [(query[:chars], text[:chars]) for text in texts]
        encodings = self.tokenizer.encode_batch(pairs)
        scores = np.empty(len(texts), np.float32)
        for batch in encoder.plan_batches([len(encoding.ids) for encoding in encodings]):
            logits = self._logits([encodings[number] for number in batch])
            # Written so that no power overflows.
            scores[batch] = 0.5 * (1.0 + np.tanh(0.5 * logits))
        return scores

    def _logits(self, batch: Sequence["Encoding"]) -> NDArray[np.float64]:
        shape = (len(batch), max(len(encoding.ids) for encoding in batch))
        given = {
            "input_ids": np.full(shape, self.pad_id, np.int64),
            "attention_mask": np.zeros(shape, np.int64),
            "token_type_ids": np.zeros(shape, np.int64),
        }
        for row, encoding in enumerate(batch):
            count = len(encoding.ids)
            given["input_ids"][row, :count] = encoding.ids
            given["attention_mask"][row, :count] = 1
            given["token_type_ids"][row, :count] = encoding.type_ids
        feeds = {
            parameter.name: given[parameter.name].astype(
                np.int32 if "int32" in parameter.type else np.int64
            )
            for parameter in self.session.get_inputs()
        }
        logits = np.asarray(self.session.run([_OUTPUT], feeds)[0], np.float64)
        if logits.size != len(batch) or not np.isfinite(logits).all():
            raise Corruption(
                f"the model in {self.folder} gives {list(logits.shape)} for {len(batch)} texts, or "
                "NaN or infinity; one number each is wanted"
            )
        return logits.reshape(-1)


def load(folder: Path, *, max_tokens: int, threads: int) -> CrossEncoder:
    """Load the model in `folder`; arguments and errors are those of `encoder.load`."""
    import onnxruntime

    from vicinal.embeddings import bert, pair_graph

    config = encoder.read_json(folder / "config.json", bert.BertConfig)
    first = pair_graph.first_position(config)
    max_tokens = min(max_tokens, config.max_position_embeddings - first)
    tokenizer = encoder.load_tokenizer(folder / "tokenizer.json", max_tokens)
    weights, options = encoder.weights_in(folder), encoder.session_options(threads)
    model: bytes | str = str(weights)
    if weights.suffix != ".onnx":
        location = encoder.set_location(options, weights)
        model = pair_graph.graph(config, weights, read_tensors(weights), location=location)
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library's exceptions have no narrower common base
        raise Corruption(f"{weights} cannot be loaded: {error}") from error
    unknown = {parameter.name for parameter in session.get_inputs()} - _INPUTS
    if unknown or _OUTPUT not in {output.name for output in session.get_outputs()}:
        raise ModelNotFound(f"{weights} is of no cross-encoder: it has to give {_OUTPUT}")
    return CrossEncoder(folder, max_tokens, config.pad_token_id, tokenizer, session)
