"""One sentence encoder out of a folder of model files: tokens in, vectors out.

A folder holds ``config.json``, ``tokenizer.json`` and the weights: ``model.safetensors``
(run through the graph of `bert.py`), else ``onnx/model.onnx`` or ``model.onnx``. When both
are there the safetensors file is taken: its graph is known to us, an ONNX file may have
been quantised or cut by its exporter. ``sentence_bert_config.json`` may lower the
number of tokens.

Vectors are made in float32: last hidden states, pooled over the tokens that are not
padding, scaled to length 1. A text's vector does not depend on the other texts of its
batch but for rounding, less than 2e-6 a number (`base`; seen: 3e-8 to 3e-7): the sums of one
row and of many are computed by different code on some processors. The same batch gives the
same bits. A model whose activations are rounded by a scale that is found in them (an ONNX file of
dynamic quantization) would depend on its batch, and is given one text at a time.

This module knows no names of models, no search paths and no queues.
"""

import mmap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from vicinal.embeddings import cutting
from vicinal.embeddings.base import Pooling, unit_rows
from vicinal.embeddings.safetensors import read_tensors
from vicinal.errors import Corruption, ModelNotFound
from vicinal.model import Floats

if TYPE_CHECKING:  # both take a quarter of a second to import, so only when a model is loaded
    import onnxruntime
    from tokenizers import Tokenizer

Tokens = NDArray[np.int64]
_T = TypeVar("_T")

BATCH_TOKENS_MAX = 1_024
"""Padded tokens in one run of the model. Ours: from 512 to 2,048 all are equally fast per
token here; larger batches leave the cache (15 % slower at 8,192) and make others wait."""

TEXTS_SPLIT_AT_ONCE = 16
"""Ours: the tokenizer's memory is used again for the next 16 texts."""

_WEIGHTS = ("model.safetensors", "onnx/model.onnx", "model.onnx")
_QUANTIZING = (b"DynamicQuantizeLinear", b"DynamicQuantizeMatMul")
_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}
_OUTPUTS = ("last_hidden_state", "token_embeddings")


class Shape(msgspec.Struct, frozen=True):
    """Sizes in every model's ``config.json``."""

    hidden_size: Annotated[int, msgspec.Meta(ge=1)]
    max_position_embeddings: Annotated[int, msgspec.Meta(ge=3)]
    vocab_size: Annotated[int, msgspec.Meta(ge=1)]


class _SentenceConfig(msgspec.Struct, frozen=True):
    max_seq_length: Annotated[int, msgspec.Meta(ge=3)] | None = None


def missing_files(folder: Path) -> list[str]:
    """Return the names of a model's files that `folder` lacks."""
    missing = [name for name in ("config.json", "tokenizer.json") if not (folder / name).is_file()]
    if not any((folder / name).is_file() for name in _WEIGHTS):
        missing.append(" or ".join(_WEIGHTS))
    return missing


def read_shape(folder: Path) -> tuple[int, int]:
    """Return ``(dimensions, max_tokens)`` of the model in `folder`, without loading it.

    Raises:
        Corruption: a configuration file is damaged.
    """
    shape = read_json(folder / "config.json", Shape)
    sentence = folder / "sentence_bert_config.json"
    bound = read_json(sentence, _SentenceConfig).max_seq_length if sentence.is_file() else None
    return shape.hidden_size, min(shape.max_position_embeddings, bound or 512)


def plan_batches(lengths: Sequence[int], tokens_max: int = BATCH_TOKENS_MAX) -> list[list[int]]:
    """Return batches: the numbers of their texts, counted from 0.

    Texts of similar length go together, so that little is padding; a batch is at most
    `tokens_max` padded tokens, or one text. The longest come first, so that memory is allocated
    once for all.
    """
    batches: list[list[int]] = []
    width = 0
    for number in sorted(range(len(lengths)), key=lambda text: -lengths[text]):
        if batches and (len(batches[-1]) + 1) * width <= tokens_max:
            batches[-1].append(number)
        else:
            batches.append([number])
            width = lengths[number]
    return batches


@dataclass(frozen=True, slots=True)
class Encoder:
    """A loaded model. Its methods may be called from any thread.

    Attributes:
        is_batched: Whether a text's vector does not depend on others of its batch.
    """

    folder: Path
    dimensions: int
    max_tokens: int
    tokenizer: "Tokenizer"
    squeezer: cutting.Squeezer
    session: "onnxruntime.InferenceSession"
    is_batched: bool = True

    def batches(self, tokens: Sequence[Tokens]) -> list[list[int]]:
        """Return the batches of texts to encode, see `plan_batches`."""
        bound = BATCH_TOKENS_MAX if self.is_batched else 0
        return plan_batches([len(ids) for ids in tokens], bound)

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Return each text's token ids, special tokens included, cut to `max_tokens`."""
        tokens: list[Tokens] = []
        for first in range(0, len(texts), TEXTS_SPLIT_AT_ONCE):
            tokens += self._split(texts[first : first + TEXTS_SPLIT_AT_ONCE])
        return tokens

    def _split(self, texts: Sequence[str]) -> list[Tokens]:
        starts = [cutting.start(text, cutting.CHARS_PER_TOKEN * self.max_tokens) for text in texts]
        encodings = self.tokenizer.encode_batch_fast(starts)
        return [
            np.array(
                encoding.ids
                if len(encoding.ids) == self.max_tokens or start == text
                else self._split_more(text),
                dtype=np.int64,
            )
            for text, start, encoding in zip(texts, starts, encodings, strict=True)
        ]

    def _split_more(self, text: str) -> list[int]:
        """Return the ids of a text whose first characters have too few tokens."""
        chars = cutting.SQUEEZED_CHARS_PER_TOKEN * self.max_tokens
        ids: list[int] = self.tokenizer.encode(self.squeezer.squeezed(text, chars)).ids
        return ids

    def encode(self, batch: Sequence[Tokens], pooling: Pooling) -> Floats:
        """Return the vectors of one batch, ``(n, dimensions)`` float32 of length 1.

        Raises:
            Corruption: the model gives NaN or infinity, or an array of another shape.
        """
        ids = np.zeros((len(batch), max(map(len, batch))), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        pooled = _pooled(self._hidden_states(ids, mask), mask, pooling)
        if not np.isfinite(pooled).all():
            raise Corruption(f"the model in {self.folder} gives NaN or infinity: damaged weights")
        return unit_rows(pooled)

    def _hidden_states(self, ids: Tokens, mask: Tokens) -> Floats:
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        feeds = {
            parameter.name: given[parameter.name].astype(
                np.int32 if "int32" in parameter.type else np.int64
            )
            for parameter in self.session.get_inputs()
        }
        states: Floats = self.session.run([_output_name(self.session)], feeds)[0]
        expected = (*ids.shape, self.dimensions)
        if states.shape != expected:
            raise Corruption(
                f"the model in {self.folder} gives states of {list(states.shape)} for "
                f"{list(expected)}, which its config.json asks for"
            )
        return states.astype(np.float32, copy=False)


def load(folder: Path, *, max_tokens: int, threads: int) -> Encoder:
    """Load the model in `folder`.

    Args:
        folder: Folder with all files of a model, see `missing_files`.
        max_tokens: Texts are cut to this, special tokens included; at most that of
            `read_shape`.
        threads: Number of threads that compute a batch, at least 1.

    Raises:
        ModelNotFound: the model is of a kind that cannot be run here.
        Corruption: a file is damaged; the message names it.
    """
    shape = read_json(folder / "config.json", Shape)
    tokenizer = load_tokenizer(folder / "tokenizer.json", max_tokens)
    highest = max(tokenizer.get_vocab().values(), default=0)
    if highest >= shape.vocab_size:
        raise Corruption(
            f"{folder / 'tokenizer.json'} is of another model: its ids go up to {highest}, "
            f"config.json has {shape.vocab_size} words"
        )
    session = _load_session(folder, threads)
    squeezer = cutting.Squeezer(word_chars_max(tokenizer, max_tokens))
    is_batched = not _is_quantized(weights_in(folder))
    return Encoder(folder, shape.hidden_size, max_tokens, tokenizer, squeezer, session, is_batched)


def load_tokenizer(path: Path, max_tokens: int) -> "Tokenizer":
    """Load a tokenizer that cuts what it is given to `max_tokens`.

    Raises:
        Corruption: the file is damaged.
    """
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise Corruption(f"{path} is damaged: {error}") from error
    # The file may carry settings of its own: MiniLM's pads every text to 128 tokens.
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer


def token_counter(path: Path) -> Callable[[Sequence[str]], list[int]]:
    """Return a function that counts the tokens of texts, without special ones and uncut.

    Raises:
        Corruption: the tokenizer's file is damaged.
    """
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise Corruption(f"{path} is damaged: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()

    def count(texts: Sequence[str]) -> list[int]:
        counts: list[int] = []
        for first in range(0, len(texts), TEXTS_SPLIT_AT_ONCE):
            part = list(texts[first : first + TEXTS_SPLIT_AT_ONCE])
            encodings = tokenizer.encode_batch_fast(part, add_special_tokens=False)
            counts += [len(encoding.ids) for encoding in encodings]
        return counts

    return count


def word_chars_max(tokenizer: "Tokenizer", max_tokens: int) -> int:
    """Return the number of characters above which a word is one unknown token.

    Other tokenizers than BERT's split words of any length; for those the number is more than the
    model reads.
    """
    bound: int = getattr(
        tokenizer.model, "max_input_chars_per_word", cutting.CHARS_PER_TOKEN * max_tokens
    )
    return bound


def _load_session(folder: Path, threads: int) -> "onnxruntime.InferenceSession":
    import onnxruntime

    weights = weights_in(folder)
    options = session_options(threads)
    model = _model(weights, folder, options)
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library's exceptions have no narrower common base
        raise Corruption(f"{weights} cannot be loaded: {error}") from error
    unknown = {parameter.name for parameter in session.get_inputs()} - _INPUTS
    if unknown:
        raise ModelNotFound(f"{weights} takes inputs that are not known here: {sorted(unknown)}")
    if _output_name(session) is None:
        raise ModelNotFound(f"{weights} gives none of {', '.join(_OUTPUTS)}")
    return session


def weights_in(folder: Path) -> Path:
    """Return the file of the weights of the model in a folder."""
    return next(folder / name for name in _WEIGHTS if (folder / name).is_file())


def session_options(threads: int) -> "onnxruntime.SessionOptions":
    """Return the options of a session that computes with a number of threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # fatal only: errors are raised as well, warnings are style
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that wait for the next step of a batch spin, which is quicker than being woken;
    # between two batches spinning ones would take the cores from searches.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def _is_quantized(weights: Path) -> bool:
    """Tell whether an ONNX file has an operator of dynamic quantization."""
    if weights.suffix != ".onnx":
        return False
    with (
        weights.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        return any(content.find(operator) >= 0 for operator in _QUANTIZING)


def _model(weights: Path, folder: Path, options: "onnxruntime.SessionOptions") -> bytes | str:
    """Return the model for a session: a path, or a graph that refers to `weights`."""
    if weights.suffix == ".onnx":
        return str(weights)
    from vicinal.embeddings import bert

    config = read_json(folder / "config.json", bert.BertConfig)
    location = set_location(options, weights)
    return bert.graph(config, weights, read_tensors(weights), location=location)


def set_location(options: "onnxruntime.SessionOptions", weights: Path) -> str:
    """Tell a session where weights are; return the name of the file there."""
    # In the Hugging Face cache the file is a link, and onnxruntime refuses to follow one
    # out of the folder that it is given.
    target = weights.resolve()
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(target.parent)
    )
    return target.name


def _output_name(session: "onnxruntime.InferenceSession") -> str | None:
    names = {output.name for output in session.get_outputs()}
    return next((name for name in _OUTPUTS if name in names), None)


def _pooled(states: Floats, mask: Tokens, pooling: Pooling) -> Floats:
    if pooling is Pooling.CLS:
        return states[:, 0]
    weights = (mask / mask.sum(axis=1, keepdims=True)).astype(np.float32)
    pooled: Floats = np.matmul(weights[:, np.newaxis, :], states)[:, 0]
    return pooled


def read_json(path: Path, kind: type[_T]) -> _T:
    """Read a file of this shape.

    Raises:
        Corruption: the file is damaged.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except msgspec.MsgspecError as error:
        raise Corruption(f"{path} is damaged: {error}") from error
