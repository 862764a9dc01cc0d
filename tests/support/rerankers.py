"""Folders of small cross-encoders, made of the tiny model."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.model_files import read_arrays, tiny_folder, write_tensors
from vicinal.embeddings import encoder
from vicinal.embeddings.encoder import Encoder

SEED = 20_241_128


def pair_folder(folder: Path, model_type: str) -> tuple[Encoder, Any]:
    """Make a cross-encoder of the tiny model; return that model, and the head as a function."""
    folder.mkdir()
    plain = tiny_folder(folder.parent / "plain")
    tiny_folder(folder)
    config = json.loads((folder / "config.json").read_text())
    tensors = {
        name.removeprefix("bert."): array
        for name, array in read_arrays(folder / "model.safetensors").items()
    }
    random, hidden = np.random.default_rng(SEED), config["hidden_size"]
    inner = random.standard_normal((hidden, hidden)).astype(np.float32)
    outer = random.standard_normal((1, hidden)).astype(np.float32)
    offset = np.array([0.25], np.float32)
    types = tensors["embeddings.token_type_embeddings.weight"]
    # Both texts have one type, so that the plain model has the same states.
    tensors["embeddings.token_type_embeddings.weight"] = np.repeat(types[:1], len(types), axis=0)
    tensors = {name: array for name, array in tensors.items() if not name.startswith("pooler")}
    zeros = np.zeros(hidden, np.float32)
    if model_type == "bert":
        named = {"bert." + name: array for name, array in tensors.items()}
        named |= {"bert.pooler.dense.weight": inner, "bert.pooler.dense.bias": zeros}
        named |= {"classifier.weight": outer, "classifier.bias": offset}
    else:
        pad = 1
        positions = tensors["embeddings.position_embeddings.weight"]
        unused = np.full((pad + 1, hidden), 1e3, np.float32)
        tensors["embeddings.position_embeddings.weight"] = np.concatenate([unused, positions])
        tensors["embeddings.token_type_embeddings.weight"] = types[:1]
        named = {"roberta." + name: array for name, array in tensors.items()}
        named |= {"classifier.dense.weight": inner, "classifier.dense.bias": zeros}
        named |= {"classifier.out_proj.weight": outer, "classifier.out_proj.bias": offset}
        config |= {"pad_token_id": pad, "type_vocab_size": 1}
        config["max_position_embeddings"] += pad + 1
    config["model_type"] = model_type
    (folder / "config.json").write_text(json.dumps(config))
    write_tensors(folder / "model.safetensors", named)

    def head(states: Any) -> Any:
        return np.tanh(states[:, 0] @ inner.T) @ outer.T + offset

    return encoder.load(plain, max_tokens=64, threads=1), head
