"""A cross-encoder as an ONNX graph over weights that stay in their safetensors file (`bert`).

The encoder is BERT's, or (XLM-)RoBERTa's, which counts positions from behind its padding token. Its
first state goes through the head that such models are published with: a dense layer, tanh, and a
dense layer of one number.
"""

from collections.abc import Mapping
from pathlib import Path

import onnx
from onnx import helper

from vicinal.embeddings.bert import BertConfig, GraphBuilder, check_architecture
from vicinal.embeddings.safetensors import Tensor

_ROBERTA = ("xlm-roberta", "roberta")


def first_position(config: BertConfig) -> int:
    """Return the number of the first token's position."""
    return config.pad_token_id + 1 if config.model_type in _ROBERTA else 0


def graph(
    config: BertConfig, weights: Path, tensors: Mapping[str, Tensor], *, location: str
) -> bytes:
    """Return the serialized model; arguments and errors are those of `bert.graph`."""
    check_architecture(config, weights, "bert", *_ROBERTA)
    named = {name.removeprefix("roberta."): tensor for name, tensor in tensors.items()}
    serialized: bytes = _PairBuilder(config, weights, named, location).model().SerializeToString()
    return serialized


class _PairBuilder(GraphBuilder):
    """Builds the head on the encoder, and the encoder for two texts in a row."""

    def finished(self) -> onnx.ModelProto:
        hidden = self.config.hidden_size
        first = self.op("Gather", "last_hidden_state", self.ints(0), axis=1)
        first = self.op("Reshape", first, self.ints(-1, hidden))
        is_roberta = self.config.model_type in _ROBERTA
        inner, outer = ("pooler.dense", "classifier")
        if is_roberta:
            inner, outer = ("classifier.dense", "classifier.out_proj")
        inner_states = self.op("Tanh", self.dense(first, inner, hidden, hidden))
        logits = self.dense(inner_states, outer, 1, hidden)
        self.nodes.append(helper.make_node("Identity", [logits], ["logits"]))
        inputs = ["input_ids", "attention_mask"]
        return self.made(inputs if is_roberta else [*inputs, "token_type_ids"], "logits",
                         ["batch", 1])  # fmt: skip

    def position_bounds(self, count: str) -> tuple[str, str]:
        first = self.ints(first_position(self.config))
        return first, self.op("Add", count, first)

    def token_types(self) -> str:
        is_roberta = self.config.model_type in _ROBERTA
        return self.ints(0) if is_roberta else "token_type_ids"
