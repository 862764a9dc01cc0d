"""What do words find that vectors do not, and what does it cost: recall and MRR of dense, keyword
and hybrid search of 100,000 short texts with known answers, beside tantivy and FTS5, and how many
bytes does it take?

The texts are those of Debian's packages, name, version and synopsis, and then the headings of
manual pages. Names are searched for by name and version; paraphrases by the first sentence of the
long description of a package that is installed, which the index does not have, without the words of
the name. The packages asked for are every second one: how scores are fused was chosen by the
others. Vectors are MiniLM's. Costs are CPU time of the whole process, rounds in turn, the median
one. Bytes are those of what words are found by, without the texts: of an index with words and of
one without, once both are merged, the difference; tantivy keeps ids beside it, FTS5 neither.
"""

import re
import shutil
import sqlite3
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import vicinal
from benchmarks import report, texts
from benchmarks.contender import Failed
from benchmarks.measure import Floats
from benchmarks.report import Mark, Report, Table
from benchmarks.side import scratch
from vicinal.binding import Columns, Vectorize
from vicinal.embeddings import models
from vicinal.embeddings.build import build_embedder
from vicinal.embeddings.pull import pull
from vicinal.engine.embedded import EmbeddedEngine
from vicinal.model import IndexAddress, IndexType

TEXTS, QUERIES, ROUNDS, TOP_K = 100_000, 500, 5, 10
_BATCH = 5_000
_ACCOUNT = "find"
_STATUS = Path("/var/lib/dpkg/status")
_WORD = re.compile(r"[^\W_]+")
_MANUAL = re.compile(r"^(\S+) \((\w+)\)\s+- (.+)$")
_SENTENCE = re.compile(r"^(.{40,300}?[.!?])(?:\s|$)", re.DOTALL)

Search = Callable[[str, Floats], list[str]]


@dataclass(frozen=True, slots=True)
class Peer:
    """A product beside this one: its search, and the bytes that all texts take in it."""

    search: Search
    byte_count: int


@dataclass(frozen=True, slots=True)
class Document:
    """A text with its id; `sentence` says the same in other words, if anything does."""

    id: str
    text: str
    sentence: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """A query, its vector, and the id that it is to find."""

    text: str
    vector: Floats
    answer: str


def run(*, is_quick: bool) -> Report:
    """Fill the indexes, ask both sets of questions, and compare costs."""
    count, asked = (600, 40) if is_quick else (TEXTS, QUERIES)
    documents = collected(count)
    with scratch() as folder:
        embed = _embedder()
        rows = embed([document.text for document in documents])
        sets = {
            name: [
                Question(text, vector, answer)
                for (text, answer), vector in zip(
                    pairs, embed([text for text, _ in pairs]), strict=True
                )
            ]
            for name, pairs in questions(documents, asked).items()
        }
        return _measured(folder, documents, rows, sets, is_quick=is_quick)


def collected(count: int) -> list[Document]:
    """Return at most `count` documents of this machine, in a fixed random order.

    Raises:
        Failed: it has no lists of packages.
    """
    if shutil.which("apt-cache") is None:
        raise Failed("there is no apt-cache: the texts are those of Debian's packages")
    lists = [_lines("apt-cache", "dumpavail")]
    if _STATUS.exists():  # alone has long descriptions
        lists.append(_STATUS.read_text(encoding="utf-8", errors="replace").splitlines())
    read = (package for lines in lists for package in read_packages(lines))
    packages = list({package.id: package for package in read}.values())
    if len(packages) < 100:
        raise Failed(f"apt-cache knows {len(packages)} packages; run apt-get update first")
    manuals = {} if shutil.which("apropos") is None else {
        each.id: each for each in read_manuals(_lines("apropos", "."))
    }  # fmt: skip
    random = np.random.default_rng(texts.SEED)
    documents = [packages[number] for number in random.permutation(len(packages))]
    documents.sort(key=lambda document: not document.sentence)  # the questions are about these
    return [*documents, *manuals.values()][:count]


def read_packages(lines: Iterable[str]) -> Iterable[Document]:
    """Yield the packages of ``apt-cache dumpavail``."""
    name = version = synopsis = ""
    long: list[str] = []
    for line in [*lines, ""]:
        if line.startswith("Package: "):
            name = line[9:].strip()
        elif line.startswith("Version: "):
            version = line[9:].strip()
        elif line.startswith(("Description: ", "Description-en: ")):
            synopsis, long = line.partition(": ")[2].strip(), []
        elif line.startswith(" ") and synopsis:
            long.append(line.strip())
        elif not line.strip():
            if name and synopsis:
                found = _SENTENCE.match(" ".join(long))
                sentence = "" if found is None else found[1]
                yield Document(name, f"{name} {version} {synopsis}", sentence)
            name = version = synopsis = ""
            long = []


def read_manuals(lines: Iterable[str]) -> Iterable[Document]:
    """Yield the headings of manual pages, as ``apropos`` prints them."""
    for line in lines:
        heading = _MANUAL.match(line)
        if heading is not None:
            yield Document(f"{heading[1]}({heading[2]})", f"{heading[1]} {heading[3]}")


def questions(documents: Sequence[Document], count: int) -> dict[str, list[tuple[str, str]]]:
    """Return both sets of questions with the ids that answer them."""
    names = [each for each in documents if each.sentence][1::2]  # the held-out half
    chosen = names[:count]
    paraphrases = []
    for document in names[-count:]:
        own = set(_words(document.id))
        left = [word for word in _WORD.findall(document.sentence) if word.lower() not in own]
        paraphrases.append((" ".join(left) or document.sentence, document.id))
    return {
        "names": [(" ".join(each.text.split()[:2]), each.id) for each in chosen],
        "paraphrases": paraphrases,
    }


def quality(search: Search, asked: Sequence[Question]) -> tuple[float, float]:
    """Return recall@10 and the mean reciprocal rank of a search."""
    ranks = []
    for question in asked:
        matches = search(question.text, question.vector)
        ranks.append(matches.index(question.answer) + 1 if question.answer in matches else 0)
    hits = [1.0 / rank if rank else 0.0 for rank in ranks]
    return statistics.fmean(map(bool, ranks)), statistics.fmean(hits)


def _measured(
    folder: Path,
    documents: Sequence[Document],
    rows: Floats,
    sets: dict[str, list[Question]],
    *,
    is_quick: bool,
) -> Report:
    notes: list[str] = []
    with vicinal.open(folder / "data", account=_ACCOUNT) as database:
        plain, _ = _filled(database, "plain", documents, rows, has_words=False)
        words, index = _filled(database, "words", documents, rows, has_words=True)
        searches = _searches(index)
        products = _peers(folder, documents, notes)
        peers = {name: peer.search for name, peer in products.items()}
        found = {
            (name, kind): quality(search, asked)
            for name, asked in {**sets, "both": [q for s in sets.values() for q in s]}.items()
            for kind, search in {**searches, **peers}.items()
        }
        everything = [question for asked in sets.values() for question in asked]
        cpu = _cpu({**searches, **peers}, everything)
    stored = {"keyword": _text_bytes(folder / "data")}
    stored |= {name: peer.byte_count for name, peer in products.items()}
    return Report(
        "find", report.question(__doc__), is_quick,
        report.setup(data=f"{len(documents):,} packages and manuals", model=texts.MODEL),
        (
            Table("what is found", ("queries", "search", "recall@10", "MRR"),
                  tuple((*key, *value) for key, value in found.items())),
            Table("a query", ("search", "CPU us"), tuple((k, 1e6 * s) for k, s in cpu.items())),
            Table("ingest", ("index", "texts/s", "CPU us a text"),
                  (("without words", *plain), ("with words", *words))),
            Table("what words take", ("index", "bytes a text"),
                  tuple((name, count / len(documents)) for name, count in stored.items())),
        ),
        tuple(_marks(found, cpu, words)),
        tuple(notes),
    )  # fmt: skip


def _marks(
    found: dict[tuple[str, str], tuple[float, float]],
    cpu: dict[str, float],
    ingest: tuple[float, float],
) -> Iterable[Mark]:
    for name in ("names", "paraphrases", "both"):
        best = max(found[name, "dense"][0], found[name, "keyword"][0])
        share = 0.98 if name != "both" else 1.0
        yield report.at_least(f"hybrid recall@10 of {name}", found[name, "hybrid"][0], best * share)
    if "tantivy" in cpu:
        yield report.at_most("keyword CPU to tantivy", cpu["keyword"] / cpu["tantivy"], 1.5)
    yield report.at_most(
        "hybrid CPU to dense and keyword", cpu["hybrid"] / (cpu["dense"] + cpu["keyword"]), 1.1
    )
    yield report.at_least("texts/s with words", ingest[0], 20_000)


def _filled(
    database: vicinal.binding.Database,
    name: str,
    documents: Sequence[Document],
    rows: Floats,
    *,
    has_words: bool,
) -> tuple[tuple[float, float], Vectorize]:
    """Fill an index; return texts a second, CPU microseconds a text, and the index."""
    index = database.create_index(name, dimensions=rows.shape[1], metric="cosine")
    if has_words:
        index.create_metadata_index("text", IndexType.TEXT, language="english", wait=True)
    start, cpu = time.perf_counter(), time.process_time()
    for first in range(0, len(documents), _BATCH):
        part = documents[first : first + _BATCH]
        columns = Columns(
            [each.id for each in part],
            rows[first : first + _BATCH],
            metadata=[{"text": each.text} for each in part],
        )
        index.upsert(columns, wait=first + _BATCH >= len(documents))
    seconds, used = time.perf_counter() - start, time.process_time() - cpu
    return (len(documents) / seconds, 1e6 * used / len(documents)), index


def _searches(index: Vectorize) -> dict[str, Search]:
    def ids(matches: Any) -> list[str]:
        return [match.id for match in matches.matches]

    return {
        "dense": lambda _, vector: ids(index.query(vector, top_k=TOP_K)),
        "keyword": lambda text, _: ids(index.search(text, top_k=TOP_K)),
        "hybrid": lambda text, vector: ids(index.search(text, vector=vector, top_k=TOP_K)),
    }


def _text_bytes(folder: Path) -> int:
    """Return how many bytes the index with words takes more, both sealed and merged."""
    engine = EmbeddedEngine.open(folder)
    try:
        plain, words = (IndexAddress(_ACCOUNT, name) for name in ("plain", "words"))
        for address in (plain, words):
            engine.compact(address)
        return engine.storage(words).byte_count - engine.storage(plain).byte_count
    finally:
        engine.close()


def _peers(folder: Path, documents: Sequence[Document], notes: list[str]) -> dict[str, Peer]:
    """Return the products beside this one that are there, with all texts in them."""
    peers = {"FTS5": _fts5(documents)}
    try:
        peers["tantivy"] = _tantivy(folder / "tantivy", documents)
    except ModuleNotFoundError:
        notes.append("tantivy is not installed: pip install tantivy")
    return peers


def _tantivy(folder: Path, documents: Sequence[Document]) -> Peer:
    import tantivy

    schema = tantivy.SchemaBuilder()
    schema.add_text_field("id", stored=True, tokenizer_name="raw")
    schema.add_text_field("text", tokenizer_name="en_stem")
    folder.mkdir()
    index = tantivy.Index(schema.build(), path=str(folder))
    writer = index.writer(heap_size=100_000_000, num_threads=1)
    for document in documents:
        writer.add_document(tantivy.Document(id=document.id, text=document.text))
    writer.commit()
    writer.wait_merging_threads()
    index.reload()
    searcher = index.searcher()

    def search(text: str, _: Floats) -> list[str]:
        query = index.parse_query(" ".join(_words(text)), ["text"])
        hits = searcher.search(query, TOP_K).hits
        return [str(searcher.doc(address)["id"][0]) for _, address in hits]

    return Peer(search, sum(file.stat().st_size for file in folder.iterdir()))


def _fts5(documents: Sequence[Document]) -> Peer:
    database = sqlite3.connect(":memory:")
    database.execute(
        "CREATE VIRTUAL TABLE texts USING fts5(text, content='', tokenize='porter unicode61')"
    )
    database.executemany(
        "INSERT INTO texts(rowid, text) VALUES (?, ?)",
        ((number, each.text) for number, each in enumerate(documents)),
    )
    database.execute("INSERT INTO texts(texts) VALUES ('optimize')")
    pages, free, size = (
        database.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )

    def search(text: str, _: Floats) -> list[str]:
        query = " OR ".join(f'"{word}"' for word in _words(text))
        statement = "SELECT rowid FROM texts WHERE texts MATCH ? ORDER BY rank LIMIT ?"
        return [documents[row].id for (row,) in database.execute(statement, (query, TOP_K))]

    return Peer(search, (pages - free) * size)


def _cpu(searches: dict[str, Search], asked: Sequence[Question]) -> dict[str, float]:
    """Return CPU seconds a query of each search, the median of rounds in turn."""
    spent: dict[str, list[float]] = {name: [] for name in searches}
    for _ in range(ROUNDS):
        for name, search in searches.items():
            start = time.process_time()
            for question in asked:
                search(question.text, question.vector)
            spent[name].append((time.process_time() - start) / len(asked))
    return {name: statistics.median(seconds) for name, seconds in spent.items()}


def _embedder() -> Callable[[Sequence[str]], Floats]:
    pull(models.known(texts.MODEL), models.models_folder(), lambda _done, _total: None)
    embedder = build_embedder(queue_max=10_000)

    def embed(wanted: Sequence[str]) -> Floats:
        parts = [
            embedder.embed(texts.MODEL, wanted[first : first + 1_024]).values
            for first in range(0, len(wanted), 1_024)
        ]
        return np.concatenate(parts)

    return embed


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def _lines(*command: str) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    return done.stdout.splitlines()
