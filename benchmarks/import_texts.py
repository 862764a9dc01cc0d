"""How long does it take from a folder of texts to an answer: ``vicinal import --text`` of 20,000
chunks, and a query?

The texts are manual pages as they are printed, else the long descriptions of Debian's packages,
else the docstrings of what is installed, in files of a folder. The command cuts them into chunks,
has the packaged model embed them on the server, makes the index, and goes on until queries see
every vector; `vicinal query --text` then asks for something that one of the texts is about.
"""

import gzip
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import report, serving, texts
from benchmarks.contender import Failed
from benchmarks.report import Cell, Report, Table
from benchmarks.serving import Client
from benchmarks.side import scratch
from vicinal.embeddings import models
from vicinal.embeddings.pull import pull

MODEL = texts.MODEL
CHUNKS = 20_000
INDEX = "notes"
QUESTION = "compress files so that they take less room"
_CHARS_PER_CHUNK = 1_100  # of these texts 970: rather too many files are written than too few
_MANUALS = Path("/usr/share/man")
_OVERSTRUCK = re.compile(r".\x08")
_SUMMARY = re.compile(r"([\d,]+) vectors into \S+ in ([\d.,]+) s \(([\d,]+)/s\)")
_COLUMNS = ("what", "value")
_LAST_WORDS = 2_000


@dataclass(frozen=True, slots=True)
class Document:
    """A text with the name of its file."""

    name: str
    text: str


def run(*, is_quick: bool) -> Report:
    """Write the texts, import them, ask."""
    wanted = 60 if is_quick else CHUNKS
    pull(models.known(MODEL), models.models_folder(), lambda _done, _total: None)
    with scratch() as folder, serving.vicinal(folder / "data") as server:
        source, files = written(folder / "texts", wanted)
        start = time.perf_counter()
        cpu, server_cpu = _children_cpu(), server.cpu_seconds()
        import_ = ("import", "texts", INDEX, "--keep-text", "--wait", "--text")
        printed = _command(folder, server.origin, *import_)
        seconds = time.perf_counter() - start
        cpu, server_cpu = _children_cpu() - cpu, server.cpu_seconds() - server_cpu
        summary = _SUMMARY.search(printed)
        if summary is None:
            raise Failed(f"vicinal import printed: {printed}")
        chunks = int(summary[1].replace(",", ""))
        start = time.perf_counter()
        answer = _command(folder, server.origin, "query", INDEX, "--text", QUESTION, "--top-k", "3")
        query_s = time.perf_counter() - start
        with Client(server.port) as client:
            path = f"/client/v4/accounts/local/vectorize/v2/indexes/{INDEX}/info"
            stored = client.result("GET", path)["vectorCount"]
    rows: tuple[tuple[Cell, ...], ...] = (
        ("files", files),
        ("chunks", chunks),
        ("import, s", seconds),
        ("chunks/s", chunks / seconds),
        ("command CPU, s", cpu),
        ("server CPU, s", server_cpu),
        ("query by its command, s", query_s),
    )
    return Report(
        "import_texts", report.question(__doc__), is_quick,
        report.setup(data=source, model=MODEL, cores=str(len(os.sched_getaffinity(0)))),
        (Table("from texts to an answer", _COLUMNS, rows),),
        (
            report.at_least("chunks", float(chunks), wanted),
            report.at_most("chunks that are not in the index", float(chunks - stored), 0),
        ),
        (f"{QUESTION!r} finds: {' | '.join(answer.split())[:_LAST_WORDS]}",),
    )  # fmt: skip


def written(folder: Path, chunks: int) -> tuple[str, int]:
    """Write texts that make about this many chunks; return where they are from, and the files."""
    for source, found in (
        ("manual pages of this machine", manuals()),
        ("descriptions of Debian packages (apt-cache dumpavail)", descriptions()),
        ("docstrings of the standard library and installed packages", docstrings()),
    ):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        chars = 0
        for files, document in enumerate(found, start=1):
            (folder / f"{document.name}.txt").write_text(document.text, encoding="utf-8")
            chars += len(document.text)
            if chars >= chunks * _CHARS_PER_CHUNK:
                return source, files
    raise Failed(f"this machine has too few texts for {chunks:,} chunks")


def manuals() -> Iterator[Document]:
    """Yield the manual pages of this machine in English, as they are printed."""
    if shutil.which("man") is None:
        return
    for path in sorted(_MANUALS.glob("man*/*.gz")):
        if path.is_symlink():
            continue  # the page has another name, too
        with gzip.open(path) as file:
            if file.read(4).startswith(b".so "):
                continue  # stands for another page
        ran = subprocess.run(
            ["man", "--local-file", str(path)],
            env={**os.environ, "MANWIDTH": "100", "MANPAGER": "cat", "LC_ALL": "C.UTF-8"},
            capture_output=True, check=False,
        )  # fmt: skip
        text = _OVERSTRUCK.sub("", ran.stdout.decode(errors="replace"))
        if text.strip():
            yield Document(path.name.removesuffix(".gz"), text)


def descriptions() -> Iterator[Document]:
    """Yield files with the whole descriptions of Debian's packages, a hundred in each."""
    if shutil.which("apt-cache") is None:
        return
    ran = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, text=True, check=False)
    parts: list[str] = []
    count = 0
    for stanza in ran.stdout.split("\n\n"):
        name = re.search(r"^Package: (.+)$", stanza, re.MULTILINE)
        described = re.search(r"^Description(?:-en)?: (.+(?:\n .+)*)", stanza, re.MULTILINE)
        if name is None or described is None:
            continue
        text = re.sub(r"^ \.?", "", described[1], flags=re.MULTILINE)
        parts.append(f"# {name[1]}\n\n{text}\n")
        if len(parts) == 100:
            yield Document(f"packages-{count:04}", "\n".join(parts))
            parts, count = [], count + 1


def docstrings() -> Iterator[Document]:
    """Yield files with the docstrings of the Python code of this environment."""
    parts: list[str] = []
    count = 0
    for found in texts.docstrings():
        parts.append(found.text)
        if len(parts) == 200:
            yield Document(f"docstrings-{count:04}", "\n\n".join(parts))
            parts, count = [], count + 1


def _command(folder: Path, origin: str, *words: str) -> str:
    """Run the command in a folder; return what it prints.

    Raises:
        Failed: it failed; says its last words.
    """
    ran = subprocess.run(
        [sys.executable, "-m", "vicinal", *words, "--url", origin],
        env=serving.environment(), cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if ran.returncode:
        raise Failed(f"vicinal {words[0]}: {ran.stderr[-_LAST_WORDS:]}")
    return ran.stdout


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
