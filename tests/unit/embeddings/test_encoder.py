"""The encoder makes the vectors that another implementation makes.

The reference numbers were computed by torch and transformers in float64, each text alone
(``tests/support/make_reference_embeddings.py``). Ours are made in float32, in batches.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.embedded_texts import ROUNDING, TEXTS
from tests.support.model_files import DATA, TINY, read_arrays, tiny_folder, write_tensors
from vicinal.embeddings import encoder
from vicinal.embeddings.base import Pooling
from vicinal.embeddings.encoder import Encoder
from vicinal.errors import Corruption, ModelNotFound
from vicinal.model import Floats

REFERENCE = np.load(DATA / "reference.npz")
AGREEMENT = ROUNDING / 2  # of ours with float64; seen: 3e-7
TINY_TOKENS = 64


def load_tiny(folder: Path) -> Encoder:
    return encoder.load(folder, max_tokens=TINY_TOKENS, threads=1)


def encode(loaded: Encoder, texts: Sequence[str], pooling: Pooling) -> Floats:
    """Embed `texts` as one batch."""
    return loaded.encode(loaded.tokenize(texts), pooling)


@pytest.fixture(scope="module")
def tiny() -> Encoder:
    return load_tiny(TINY)


@pytest.mark.parametrize("pooling", Pooling)
@pytest.mark.parametrize("weights", ["model.safetensors", "onnx/model.onnx", "model.onnx"])
def test_vectors_are_those_of_the_reference(tmp_path: Path, weights: str, pooling: Pooling) -> None:
    loaded = load_tiny(tiny_folder(tmp_path, weights))

    vectors = encode(loaded, TEXTS, pooling)

    assert vectors.dtype == np.float32
    assert np.abs(vectors - REFERENCE[f"tiny_{pooling.value}"]).max() < AGREEMENT


def test_the_poolings_give_different_vectors() -> None:
    difference = np.abs(REFERENCE["tiny_mean"] - REFERENCE["tiny_cls"])

    assert difference.max(axis=1).min() > 0.01


def test_the_safetensors_file_is_taken_when_an_onnx_file_is_there_too(tmp_path: Path) -> None:
    tiny_folder(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"not looked at")

    load_tiny(tmp_path)


def test_weights_reached_through_a_link_work(tmp_path: Path) -> None:
    blob = tmp_path / "blobs" / "0123abcd"
    blob.parent.mkdir()
    snapshot = tiny_folder(tmp_path / "snapshots" / "commit")
    (snapshot / "model.safetensors").rename(blob)
    (snapshot / "model.safetensors").symlink_to("../../blobs/0123abcd")

    vectors = encode(load_tiny(snapshot), TEXTS, Pooling.MEAN)

    assert np.abs(vectors - REFERENCE["tiny_mean"]).max() < AGREEMENT


@pytest.mark.parametrize("kind", ["F16", "BF16"])
def test_weights_of_16_bits_are_widened(tmp_path: Path, kind: str) -> None:
    tiny_folder(tmp_path)
    path = tmp_path / "model.safetensors"
    arrays = read_arrays(path)
    narrow = {
        name: array.astype(np.float16)
        if kind == "F16"
        else (array.view(np.uint32) >> 16).astype(np.uint16)
        for name, array in arrays.items()
    }
    write_tensors(path, narrow, dict.fromkeys(narrow, kind))

    vectors = encode(load_tiny(tmp_path), TEXTS, Pooling.MEAN)

    difference = np.abs(vectors - REFERENCE["tiny_mean"]).max()
    assert 1e-5 < difference < (2e-3 if kind == "F16" else 3e-2)


def test_names_with_the_prefix_of_a_larger_model_are_understood(tmp_path: Path) -> None:
    tiny_folder(tmp_path)
    path = tmp_path / "model.safetensors"
    write_tensors(path, {f"bert.{name}": array for name, array in read_arrays(path).items()})

    vectors = encode(load_tiny(tmp_path), TEXTS, Pooling.CLS)

    assert np.abs(vectors - REFERENCE["tiny_cls"]).max() < AGREEMENT


@given(st.lists(st.integers(0, len(TEXTS) - 1), min_size=1, max_size=30), st.sampled_from(Pooling))
def test_a_text_has_the_same_vector_in_any_company(
    tiny: Encoder, search_paths: list[int], pooling: Pooling
) -> None:
    together = encode(tiny, [TEXTS[place] for place in search_paths], pooling)

    alone = np.concatenate([encode(tiny, [TEXTS[place]], pooling) for place in search_paths])
    assert np.abs(together - alone).max() < ROUNDING


def test_the_same_batch_gives_the_same_bits(tiny: Encoder) -> None:
    once, again = (encode(tiny, TEXTS, Pooling.MEAN) for _ in range(2))

    assert (once == again).all()


def test_all_vectors_have_length_1(tiny: Encoder) -> None:
    lengths = np.linalg.norm(encode(tiny, TEXTS, Pooling.MEAN), axis=1)

    assert lengths == pytest.approx(1.0, abs=1e-6)


def test_a_text_is_cut_to_the_bound_and_what_follows_does_not_count(tiny: Encoder) -> None:
    start = "a b " * 31  # with two special tokens, exactly the bound
    tokens = tiny.tokenize([start, start + "c " * 100, start[:-2], "cat " * 10_000])

    assert [len(each) for each in tokens] == [64, 64, 63, 64]
    assert (tokens[0] == tokens[1]).all()
    assert tokens[3][-1] == tiny.tokenizer.token_to_id("[SEP]")


@given(
    st.lists(
        st.one_of(
            st.sampled_from(["a", "story", " ", "\t", "x" * 120, "é", "漢", "\u0301", "Σ", "!"]),
            st.text(max_size=5),
        ),
        max_size=40,
    ),
    st.integers(1, 60),
)
def test_cutting_a_long_text_before_it_is_split_changes_nothing(
    tiny: Encoder, parts: list[str], times: int
) -> None:
    text = "".join(parts).encode(errors="replace").decode() * times

    assert tiny.tokenize([text])[0].tolist() == tiny.tokenizer.encode(text).ids


@given(st.lists(st.integers(2, 512), max_size=200), st.integers(1, 2_000))
def test_batches_hold_every_text_once_within_the_bound(lengths: list[int], bound: int) -> None:
    batches = encoder.plan_batches(lengths, bound)

    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    for batch in batches:
        widest = max(lengths[place] for place in batch)
        assert len(batch) == 1 or len(batch) * widest <= bound
    widths = [max(lengths[place] for place in batch) for batch in batches]
    assert widths == sorted(widths, reverse=True)


def test_texts_of_like_length_go_together() -> None:
    batches = encoder.plan_batches([10, 500, 11, 501, 9], 1_024)

    assert [sorted(batch) for batch in batches] == [[1, 3], [0, 2, 4]]


def test_the_files_that_are_missing_are_named(tmp_path: Path) -> None:
    assert encoder.missing_files(TINY) == []
    assert encoder.missing_files(tmp_path / "nowhere") == [
        "config.json",
        "tokenizer.json",
        "model.safetensors or onnx/model.onnx or model.onnx",
    ]


def test_dimensions_and_bound_come_from_the_folder(tmp_path: Path) -> None:
    tiny_folder(tmp_path)
    assert encoder.read_shape(tmp_path) == (32, 64)

    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 20}')
    assert encoder.read_shape(tmp_path) == (32, 20)

    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 512}')
    assert encoder.read_shape(tmp_path) == (32, 64)  # there are no more positions

    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 0}')
    with pytest.raises(Corruption, match=r"sentence_bert_config\.json"):
        encoder.read_shape(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize("content", [b"", b"{", b'{"a": 1}', b"\xff\xfe\x00"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    tiny_folder(tmp_path)
    (tmp_path / name).write_bytes(content)

    with pytest.raises(Corruption, match=name.replace(".", r"\.")):
        load_tiny(tmp_path)


def test_a_damaged_onnx_file_is_named(tmp_path: Path) -> None:
    tiny_folder(tmp_path, "model.onnx")
    path = tmp_path / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1_000])

    with pytest.raises(Corruption, match=r"model\.onnx cannot be loaded"):
        load_tiny(tmp_path)


def test_a_tensor_that_is_missing_or_misshapen_is_named(tmp_path: Path) -> None:
    tiny_folder(tmp_path)
    path = tmp_path / "model.safetensors"
    arrays = read_arrays(path)
    name = "encoder.layer.1.attention.self.key.weight"

    write_tensors(path, {each: array for each, array in arrays.items() if each != name})
    with pytest.raises(Corruption, match=f"no tensor {name}"):
        load_tiny(tmp_path)

    write_tensors(path, {**arrays, name: arrays[name][:16]})
    with pytest.raises(Corruption, match=rf"{name} .*\[16, 32\].*\[32, 32\]"):
        load_tiny(tmp_path)

    write_tensors(path, {**arrays, name: np.zeros((32, 32), dtype=np.int64)})
    with pytest.raises(Corruption, match=f"{name} .*I64"):
        load_tiny(tmp_path)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("model_type", "roberta"),
        ("hidden_act", "relu"),
        ("position_embedding_type", "relative_key"),
    ],
)
def test_another_architecture_is_refused_and_says_what_would_work(
    tmp_path: Path, member: str, value: str
) -> None:
    configure(tiny_folder(tmp_path), **{member: value})

    with pytest.raises(ModelNotFound, match=f"{member} is '{value}'.*ONNX"):
        load_tiny(tmp_path)


def test_heads_that_do_not_divide_the_width_are_refused(tmp_path: Path) -> None:
    configure(tiny_folder(tmp_path), num_attention_heads=5)

    with pytest.raises(Corruption, match="32 among 5 heads"):
        load_tiny(tmp_path)


def test_the_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    configure(tiny_folder(tmp_path), vocab_size=106)

    with pytest.raises(Corruption, match=r"tokenizer\.json.*up to 106.*106 words"):
        load_tiny(tmp_path)


def test_an_onnx_file_of_another_width_than_its_config_is_refused(tmp_path: Path) -> None:
    configure(tiny_folder(tmp_path, "model.onnx"), hidden_size=16)

    with pytest.raises(Corruption, match=r"\[1, 3, 32\].*\[1, 3, 16\]"):
        encode(load_tiny(tmp_path), ["a"], Pooling.MEAN)


def test_an_onnx_file_with_other_inputs_or_outputs_is_refused(tmp_path: Path) -> None:
    tiny_folder(tmp_path, "model.onnx")
    path = tmp_path / "model.onnx"
    text = path.read_bytes()

    rename(path, "token_type_ids", "pixel_values")
    with pytest.raises(ModelNotFound, match="'pixel_values'"):
        load_tiny(tmp_path)

    path.write_bytes(text)
    rename(path, "last_hidden_state", "logits")
    with pytest.raises(ModelNotFound, match="last_hidden_state"):
        load_tiny(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_noticed(tmp_path: Path, value: float) -> None:
    tiny_folder(tmp_path)
    path = tmp_path / "model.safetensors"
    arrays = read_arrays(path)
    bias = arrays["encoder.layer.1.output.LayerNorm.bias"].copy()
    bias[3] = value
    write_tensors(path, {**arrays, "encoder.layer.1.output.LayerNorm.bias": bias})

    with pytest.raises(Corruption, match=f"{tmp_path} gives NaN or infinity"):
        encode(load_tiny(tmp_path), ["a"], Pooling.MEAN)


def test_a_folder_can_be_used_after_it_was_moved_away(tmp_path: Path) -> None:
    """The weights are mapped, and a pull replaces a folder while a server uses it."""
    loaded = load_tiny(tiny_folder(tmp_path / "model"))
    shutil.move(tmp_path / "model", tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "elsewhere")

    vectors = encode(loaded, TEXTS, Pooling.MEAN)

    assert np.abs(vectors - REFERENCE["tiny_mean"]).max() < AGREEMENT


def configure(folder: Path, **changed: str | int) -> None:
    path = folder / "config.json"
    config = msgspec.json.decode(path.read_bytes(), type=dict[str, object])
    path.write_bytes(msgspec.json.encode({**config, **changed}))


def rename(path: Path, old: str, new: str) -> None:
    """Rename an input or output of an ONNX file."""
    model = onnx.load(path)
    for each in (*model.graph.input, *model.graph.output):
        each.name = new if each.name == old else each.name
    for node in model.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
    onnx.save(model, path)
