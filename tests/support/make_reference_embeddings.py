"""Writes ``tests/data/embeddings``: a tiny model, and vectors by another implementation.

Not run by the tests. The numbers come from torch and transformers, which are not among
the project's dependencies, in float64, each text alone, so that they hold neither our
graph, our batches, our padding nor our rounding. In an environment of its own:

    pip install torch transformers onnx
    PYTHONPATH=. python tests/support/make_reference_embeddings.py ~/.cache/vicinal/models/...

The argument is the folder of all-minilm-l6-v2, as ``vicinal model pull`` leaves it.

The tiny model has the architecture of the bge models: BERT with a WordPiece vocabulary, 2
layers of 32 instead of 12 of 768. Its weights are random, large enough for attention,
layer norms and biases all to matter. ``exported.onnx`` is torch's own export of it.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.embedded_texts import TEXTS

DATA = Path(__file__).parents[1] / "data" / "embeddings"
WORDS = "story cloud orange about this is an llama quick brown fox the dog lorem ipsum ##ing ##s"
SEED = 20261121


def main(minilm: Path) -> None:
    tiny = DATA / "tiny"
    make_tiny(tiny)
    np.savez_compressed(
        DATA / "reference.npz",
        **{
            f"{name}_{pooling}": vectors.astype(np.float32)
            for name, folder, max_tokens in (("minilm", minilm, 256), ("tiny", tiny, 64))
            for pooling, vectors in reference(folder, max_tokens).items()
        },
    )


def reference(folder: Path, max_tokens: int) -> dict[str, Any]:
    import torch  # type: ignore[import-not-found]  # see above: not a dependency
    import transformers  # type: ignore[import-not-found]  # the same

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager")
    model = model.double().eval()
    rows: dict[str, list[Any]] = {"mean": [], "cls": []}
    with torch.no_grad():
        for text in TEXTS:
            tokens = tokenizer(
                text, truncation=True, max_length=max_tokens, return_tensors="pt", padding=False
            )
            states = model(**tokens).last_hidden_state[0]
            for pooling, row in (("mean", states.mean(0)), ("cls", states[0])):
                rows[pooling].append((row / row.norm()).numpy())
    return {pooling: np.stack(vectors) for pooling, vectors in rows.items()}


def make_tiny(folder: Path) -> None:
    import torch
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = make_tokenizer(folder / "tokenizer.json")
    torch.manual_seed(SEED)
    config = transformers.BertConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        attn_implementation="eager",
    )
    model = transformers.BertModel(config, add_pooling_layer=False).eval()
    with torch.no_grad():
        for name, weights in model.named_parameters():
            centre = 1.0 if name.endswith("LayerNorm.weight") else 0.0
            weights.copy_(centre + 0.25 * torch.randn_like(weights))
    model.save_pretrained(folder)
    (folder / "config.json").write_text(config.to_json_string())
    export(model, folder / "exported.onnx")


def export(model: Any, path: Path) -> None:
    import torch

    class States(torch.nn.Module):  # type: ignore[misc]  # torch is not there for mypy
        """Takes its inputs by place and gives one tensor, as the exporter wants it."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: Any, mask: Any, types: Any) -> Any:
            return self.model(input_ids=ids, attention_mask=mask, token_type_ids=types)[0]

    ids = torch.tensor([[2, 7, 3], [2, 3, 0]])
    inputs = ["input_ids", "attention_mask", "token_type_ids"]
    torch.onnx.export(
        States().eval(),
        (ids, (ids != 0).long(), torch.zeros_like(ids)),
        path,
        input_names=inputs,
        output_names=["last_hidden_state"],
        dynamic_axes={name: {0: "batch", 1: "tokens"} for name in (*inputs, "last_hidden_state")},
        dynamo=False,
    )


def make_tokenizer(path: Path) -> int:
    """Write a tokenizer with a vocabulary of letters and a few words; return its size."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *".,;:!?()-$%&'", *letters]
    words += [f"##{letter}" for letter in letters] + WORDS.split()
    special = [
        {"id": number, "content": word, "special": True, "normalized": False,
         "single_word": False, "lstrip": False, "rstrip": False}
        for number, word in enumerate(words[:5])
    ]  # fmt: skip
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": {
            "type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
            "strip_accents": None, "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
            ],
            "pair": [
                {"Sequence": {"id": "A", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 1}},
            ],
            "special_tokens": {
                word: {"id": word, "ids": [words.index(word)], "tokens": [word]}
                for word in ("[CLS]", "[SEP]")
            },
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {word: number for number, word in enumerate(words)},
        },
    }  # fmt: skip
    path.write_text(json.dumps(document, indent=1))
    return len(words)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
