"""The page of results: ``docs/performance.md`` and its plots, from the committed data files.

Text of a person stays; the lines between the two marks are replaced, and every number there
is one of ``benchmarks/results``. Each ratio is of two numbers of one report, so of one run on one
machine. Quick runs prove no speed and are left out.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import plots, report, worse
from benchmarks.markdown import piped, section
from benchmarks.plots import Bar, Group, Line
from benchmarks.report import RESULTS, ROOT, Cell, Report, Row, rows_of, shown

PAGE = ROOT / "docs" / "performance.md"
BEGIN = "<!-- results: written by `python -m benchmarks --document` -->"
END = "<!-- end of results -->"
PLOTS = "plots"
"""Where the plots lie, beside the page."""

_QUERY = {(size, recall): f"{size:,} x 768 at recall {recall}"
          for size in (50_000, 100_000) for recall in (0.99, 0.999)}  # fmt: skip
_INSERT = "50,000 x 768 in process, until indexed"
_UPLOAD = "50,000 x 768 as NDJSON, 439 MB"
_HTTP = "100,000 x 768, top 10"
_MILLION = "1,000,000 x 768"
_GROWING = {size: f"{size:,} x 384 at recall 0.99" for size in (100_000, 300_000, 1_000_000)}
_SINGLE = "single-vector upserts of 768 dimensions"
_OURS = "vicinal"
_NO_INDEX = "sqlite-vec"  # reads every row

_MISSED = re.compile(r"^100,000 rows: (.+) does not reach recall (.+)\.$", re.MULTILINE)

Reports = Mapping[str, Report]


def update(page: Path = PAGE, results: Path = RESULTS) -> None:
    """Put the results that are there into the page, and draw its plots."""
    reports = latest(results)
    text = with_results(page.read_text(encoding="utf-8"), reports)
    (page.parent / PLOTS).mkdir(exist_ok=True)
    for name, drawing in drawings(reports).items():
        (page.parent / PLOTS / name).write_text(drawing, encoding="utf-8")
    page.write_text(text, encoding="utf-8")


def latest(results: Path) -> dict[str, Report]:
    """Return the report of the last full run of each benchmark, by name."""
    reports = [report.load(path) for path in sorted(results.glob("*.json"))]
    return {result.name: result for result in reports if not result.is_quick}


def with_results(page: str, reports: Reports) -> str:
    """Return the page with its results replaced.

    Raises:
        ValueError: the page lacks one of the two marks.
        KeyError: a report, table or row that the page shows is missing.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page must have {BEGIN!r} and after it {END!r}")
    return f"{before}{BEGIN}\n\n{markdown(reports)}\n{END}{after}"


def markdown(reports: Reports) -> str:
    """Return all that the page says of results."""
    sections = [
        _short(reports), _queries(reports["query"]), _filters(),
        _growth(reports["growth"]), _over_http(reports["http_query"]),
        _ingest(reports["http_ingest"]), _alone(reports), worse.markdown(reports), _runs(reports),
    ]  # fmt: skip
    return "\n\n".join(sections) + "\n"


def drawings(reports: Reports) -> dict[str, str]:
    """Return the plots by file name."""
    return {
        "query.svg": _query_plot(reports["query"]),
        "filters.svg": _filter_plot(reports["filters"]),
        "ingest.svg": _ingest_plot(reports["http_ingest"]),
    }


def against(row: Row, other: Row, column: str) -> str:
    """Return how many times the other's number a row's is: two digits, or a whole number."""
    times = row.number(column) / other.number(column)
    return f"{times:.2g}" if times < 99.5 else f"{times:,.0f}"


def _best(rows: Sequence[Row]) -> Row:
    return next(row for row in rows if row["to best peer"] == 1)


def _ours(rows: Sequence[Row]) -> Row:
    return next(row for row in rows if row["contender"] == _OURS)


def _plot(name: str, title: str) -> str:
    return f"![{title}]({PLOTS}/{name}.svg)"


def _short(reports: Reports) -> str:
    query, filters, ingest = reports["query"], reports["filters"], reports["http_ingest"]
    lines = [
        _beside_the_best(f"{size:,} rows, recall {recall} wanted", rows_of(query, title))
        for (size, recall), title in _QUERY.items()
    ]
    lines += [
        _beside_the_best(_passing(table.title), rows_of(filters, table.title))
        for table in filters.tables
    ]
    columns = (
        "top 10 of 768 dimensions, in process", "recall", "CPU ms", "p50 ms", "best peer",
        "recall ", "CPU ms ", "p50 ms ", "CPU, times ours", "p50, times ours",
    )  # fmt: skip
    return section(
        "In short",
        "The best peer is the product that takes the least CPU at the recall; settings are the "
        "cheapest that reach it. Above 1 it takes more than Vicinal, below 1 less.",
        piped(columns, lines),
        f"{_http_in_short(reports['http_query'])}\n{_ingest_in_short(ingest)}",
    )


def _beside_the_best(label: str, rows: Sequence[Row]) -> tuple[Cell, ...]:
    ours, best = _ours(rows), _best(rows)
    return (
        label, ours["recall@10"], ours["CPU ms"], ours["p50 ms"],
        best["contender"], best["recall@10"], best["CPU ms"], best["p50 ms"],
        against(best, ours, "CPU ms"), against(best, ours, "p50 ms"),
    )  # fmt: skip


def _passing(title: str) -> str:
    """Return which rows pass a filter, from the title of its table."""
    return f"filter: {title.partition(': ')[2].replace('.0%', ' %').replace('0.1%', '0.1 %')}"


def _http_in_short(over_http: Report) -> str:
    ours, theirs = _fastest(over_http, "vicinal"), _fastest(over_http, "chromadb")
    return (
        f"* Over HTTP Vicinal answers {ours.text('requests/s')} queries a second at recall "
        f"{ours.text('recall@10')}, Chroma's server {theirs.text('requests/s')} at "
        f"{theirs.text('recall@10')}: {against(ours, theirs, 'requests/s')} times as many."
    )


def _ingest_in_short(ingest: Report) -> str:
    rows = rows_of(ingest, _INSERT)
    ours = _ours(rows)
    indexed = [row for row in rows if row["contender"] not in (_OURS, _NO_INDEX)]
    graph = max(indexed, key=lambda row: row.number("vectors/s"))
    visible = _fastest_upload(ingest)
    times = visible.number("vectors/s visible") / graph.number("vectors/s")
    return (
        f"* Over HTTP {visible.text('vectors/s visible')} vectors a second go in until queries see "
        f"them: {times:.2g} times what {graph.text('contender')}, the fastest peer with an index, "
        f"inserts and indexes in process ({graph.text('vectors/s')}). In process Vicinal inserts "
        f"and indexes {ours.text('vectors/s')}, {against(ours, graph, 'vectors/s')} times as many."
    )


def _fastest(over_http: Report, server: str) -> Row:
    """Return the run of a server that answered the most requests a second."""
    return max(
        (row for row in rows_of(over_http, _HTTP) if row.text("server").startswith(server)),
        key=lambda row: row.number("requests/s"),
    )


def _fastest_upload(ingest: Report) -> Row:
    return max(
        (row for row in rows_of(ingest, _UPLOAD) if row["server"] == _OURS),
        key=lambda row: row.number("vectors/s visible"),
    )


def _queries(query: Report) -> str:
    columns = ["100,000 x 768"]
    both = [rows_of(query, _QUERY[100_000, recall]) for recall in (0.99, 0.999)]
    for recall in (0.99, 0.999):
        columns += [f"recall, {recall} wanted", "p50 ms", "p99 ms", "CPU ms", "CPU, times ours"]
    lines = []
    for pair in zip(*both, strict=True):
        line = [pair[0]["contender"]]
        for row, rows in zip(pair, both, strict=True):
            line += [row[column] for column in ("recall@10", "p50 ms", "p99 ms", "CPU ms")]
            line.append(against(row, _ours(rows), "CPU ms"))
        lines.append(line)
    missed: dict[str, list[str]] = {}
    for name, recall in _MISSED.findall("\n".join(query.notes)):
        missed.setdefault(recall, []).append(name)
    sentences = [
        f"Recall {recall} is not reached by {', '.join(names)}." for recall, names in missed.items()
    ]
    return section(
        "Queries in process",
        _plot("query", "CPU of a query at equal recall"),
        piped(columns, lines),
        " ".join(sentences),
    )


def _filters() -> str:
    return section(
        "Under filters",
        _plot("filters", "CPU of a query under filters"),
        "100,000 x 768, recall 0.99 wanted, each at its cheapest setting under that filter.",
    )


def _growth(growth: Report) -> str:
    columns = ["384 dimensions, recall 0.99 wanted"]
    for size in _GROWING:
        columns += [f"{size:,} rows: recall", "CPU ms"]
    columns += ["to the fewest rows", "load and index, CPU s"]
    lines = []
    for rows in zip(*(rows_of(growth, title) for title in _GROWING.values()), strict=True):
        line = [rows[0]["contender"]]
        for row in rows:
            line += [row["recall@10"], row["CPU ms"]]
        line += [rows[-1]["to the least size"], rows[-1]["load CPU s"]]
        lines.append(line)
    return section(
        "From 100,000 rows to a million",
        piped(columns, lines),
        "Settings are the cheapest that reach the recall with these rows, or the dearest tried. "
        "The indexes of faiss are bare: without ids, metadata, filters or durability.",
    )


def _over_http(over_http: Report) -> str:
    columns = ("server", "recall@10", "connections", "requests/s", "p50 ms", "p99 ms")
    lines = [
        [row[column] for column in columns]
        for row in rows_of(over_http, _HTTP)
        if row["connections"] != 8
    ]
    return section(
        "Queries over HTTP",
        "100,000 x 768. The floor is a server that only parses and answers.",
        piped(columns, lines),
    )


def _ingest(ingest: Report) -> str:
    fastest = _fastest_upload(ingest)
    uploads = [row for row in rows_of(ingest, _UPLOAD) if row["server"] == _OURS]
    memory = max(uploads, key=lambda row: row.number("private bytes/vector"))
    return section(
        "Ingest",
        _plot("ingest", "Vectors a second, and private memory"),
        f"Over HTTP, {fastest.text('vectors/request')} vectors a request over "
        f"{fastest.text('connections')} connections, a vector takes "
        f"{fastest.text('CPU µs/vector')} µs of the server's CPU until queries see it and "
        f"{fastest.text('CPU µs/vector, settled')} with the sealing and merging that "
        f"follow; at most {memory.text('private bytes/vector')} bytes of private memory stay.",
    )


def _alone(reports: Reports) -> str:
    [texts] = reports["embedding_rate"].tables
    rates = [
        f"{row.text('texts/s per core')} texts a second of {row.text('tokens')} tokens"
        for row in rows_of(reports["embedding_rate"], texts.title)
    ]
    return section(
        "Without a peer",
        "\n".join(
            [
                _a_million(reports["scale"]),
                _single_writes(reports["durable_writes"]),
                _churn(reports["churn"]),
                f"* **Embedding** by MiniLM on one core: {', '.join(rates)}.",
            ]
        ),
    )  # fmt: skip


def _churn(churn: Report) -> str:
    lost = next(mark for mark in churn.marks if mark.claim.startswith("recall lost"))
    return (
        "* **Churn**: when a third has been deleted and written again, recall is "
        f"{shown(lost.measured)} less than that of an index built afresh."
    )


def _a_million(scale: Report) -> str:
    took = {row.text("what"): row for row in rows_of(scale, f"{_MILLION}: what it takes")}
    inside = {
        (row.text("query"), row.text("effort")): row
        for row in rows_of(scale, f"{_MILLION}: in process")
    }
    every = inside["all rows", "standard"]
    few = inside["thousandth: 0.1% of rows", "standard"]
    return (
        f"* **A million vectors**: opened cold and asked after "
        f"{took['cold: open and first query, s'].text('value')} s; the server has "
        f"{took['server: private bytes, MB'].text('value')} MB of its own. "
        f"A query takes {every.text('CPU ms')} ms of CPU (p50 {every.text('p50 ms')}, p99 "
        f"{every.text('p99 ms')}) at recall {every.text('recall@10')}; "
        f"under a filter of 0.1 %, {few.text('CPU ms')} ms at {few.text('recall@10')}."
    )


def _single_writes(durable: Report) -> str:
    busiest = max(rows_of(durable, _SINGLE), key=lambda row: row.number("connections"))
    return (
        f"* **Single writes, fsynced**: {busiest.text('acknowledged/s')} a second from "
        f"{busiest.text('connections')} connections, p50 {busiest.text('p50 ms')} ms. "
        f"Of {busiest.text('acknowledged')} acknowledged ones {busiest.text('of those missing')} "
        "are missing."
    )


def _runs(reports: Reports) -> str:
    machines = sorted({result.setup["machine"] for result in reports.values()})
    marks = [mark for result in reports.values() for mark in result.marks]
    met = sum(mark.is_met for mark in marks)
    lines = []
    for name, result in sorted(reports.items()):
        link = f"[{name}](../benchmarks/results/{name}.json)"
        commit = f"`{result.setup['commit']}`"
        machine = str(1 + machines.index(result.setup["machine"]))
        lines.append((link, result.setup["date"], commit, result.setup["load at start"], machine))
    return section(
        "The machines and the runs",
        f"Machines: {'; '.join(f'{at}: {each}' for at, each in enumerate(machines, 1))}. Times of "
        "one cannot be compared with those of another. The data files have every row of every "
        "table, with the data, the method and the versions of the run.",
        f"Of {len(marks)} targets that the benchmarks set {met} are met"
        + ("." if met == len(marks) else "; these are not:"),
        *([_missed(reports)] if met < len(marks) else []),
        piped(("data file", "run", "commit", "load at start", "machine"), lines),
    )


def _missed(reports: Reports) -> str:
    """Return a table of the targets that are not met, or could not be measured."""
    return piped(
        ("data file", "what", "measured", "target"),
        [
            (
                name, mark.claim, mark.measured,
                f"{'≤' if mark.is_most else '≥'} {shown(mark.bound)}",
            )
            for name, result in sorted(reports.items())
            for mark in result.marks
            if not mark.is_met
        ],
    )  # fmt: skip


def _series(filters: Report) -> dict[str, list[Row]]:
    """Return the rows of each contender, in the order of the filters."""
    series: dict[str, list[Row]] = {}
    for table in filters.tables:
        for row in rows_of(filters, table.title):
            series.setdefault(row.text("contender"), []).append(row)
    return series


def _recalls(rows: Sequence[Row]) -> str:
    recalls = [row.number("recall@10") for row in rows]
    return f"{min(recalls):.3f} to {max(recalls):.3g}"


def _query_plot(query: Report) -> str:
    groups = [
        Group(
            f"recall {recall} wanted",
            [
                Bar(
                    row.text("contender"), row.number("CPU ms"),
                    _with_recall(row),
                    row["contender"] == _OURS,
                )
                for row in rows_of(query, _QUERY[100_000, recall])
            ],
        )
        for recall in (0.99, 0.999)
    ]  # fmt: skip
    return plots.bars(
        "CPU of a query, ms, logarithmic: 100,000 x 768, top 10, in process", groups, is_log=True
    )


def _filter_plot(filters: Report) -> str:
    passing = [_passing(table.title) for table in filters.tables]
    places = [title.removeprefix("filter: ").replace(" of rows", "") for title in passing]
    return plots.lines(
        "CPU of a query, ms, logarithmic, by the rows that a filter lets pass",
        places,
        [
            Line(
                f"{name}, recall {_recalls(rows)}",
                [row.number("CPU ms") for row in rows],
                name == _OURS,
            )
            for name, rows in _series(filters).items()
        ],
    )


def _ingest_plot(ingest: Report) -> str:
    fastest = _fastest_upload(ingest)
    over_http = Bar(
        _OURS,
        fastest.number("vectors/s visible"),
        _with_memory(fastest, "vectors/s visible"),
        is_ours=True,
    )
    in_process = [
        Bar(
            row.text("contender"),
            row.number("vectors/s"),
            _with_memory(row, "vectors/s"),
            is_ours=row["contender"] == _OURS,
        )
        for row in rows_of(ingest, _INSERT)
    ]
    return plots.bars(
        "Vectors a second, and private memory: 50,000 x 768",
        [
            Group("over HTTP, until queries see them", [over_http]),
            Group("in process, until indexed", in_process),
        ],
        is_log=False,
    )


def _with_recall(row: Row) -> str:
    return f"{row.text('CPU ms')}, p50 {row.text('p50 ms')}, recall {row.text('recall@10')}"


def _with_memory(row: Row, column: str) -> str:
    return f"{row.text(column)}, {row.text('private bytes/vector')} bytes a vector"
