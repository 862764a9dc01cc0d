"""Where a peer did better than Vicinal in the same run: found in the data, not chosen by us."""

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.markdown import piped, section
from benchmarks.report import Cell, Report, Row, rows_of

_LESS_IS_BETTER = (
    "CPU ms", "p50 ms", "p99 ms", "p99 ms, 2 threads", "load s", "insert s", "CPU µs/vector",
    "private bytes/vector",
)  # fmt: skip
_MORE_IS_BETTER = ("queries/s", "queries/s, 2 threads", "vectors/s")
_OURS = "vicinal"


def markdown(reports: Mapping[str, Report]) -> str:
    """Return the section of the page."""
    lines = [line for name in ("query", "filters", "http_ingest") for line in better(reports[name])]
    columns = ("where", "what", "Vicinal", "better", "at recall")
    return section(
        "What is slower",
        "Every number of these runs in which a peer did better, and the best one of them:",
        piped(columns, lines),
        "\n".join(_besides(reports)),
    )


def better(result: Report) -> Iterator[tuple[Cell, ...]]:
    """Yield where, what, our number, the best peer and its number, and its recall."""
    for table in result.tables:
        if table.columns[0] != "contender":
            continue
        rows = rows_of(result, table.title)
        ours = next(row for row in rows if row["contender"] == _OURS)
        for column in table.columns:
            best = _best(rows, column)
            if best is not None and best[column] != ours[column]:
                recall = best["recall@10"] if "recall@10" in table.columns else None
                theirs = f"{best.text('contender')}: {best.text(column)}"
                yield table.title, column, ours[column], theirs, recall


def _best(rows: Sequence[Row], column: str) -> Row | None:
    counted = [row for row in rows if column in row.columns and row[column] is not None]
    if column in _LESS_IS_BETTER:
        return min(counted, key=lambda row: row.number(column))
    if column in _MORE_IS_BETTER:
        return max(counted, key=lambda row: row.number(column))
    return None


def _besides(reports: Mapping[str, Report]) -> Iterator[str]:
    """Yield what costs more than a bare machine or an idle one, where there is no peer."""
    scale = {
        row.text("query"): row
        for row in rows_of(reports["scale"], "1,000,000 x 768: in process")
        if row["query"] in ("all rows, idle", "all rows, merging")
    }
    idle, merging = scale["all rows, idle"], scale["all rows, merging"]
    yield (
        f"* While a million vectors are merged, a query's p50 is {merging.text('p50 ms')} ms "
        f"instead of {idle.text('p50 ms')}, its p99 {merging.text('p99 ms')} instead of "
        f"{idle.text('p99 ms')}."
    )
    [table] = reports["durable_writes"].tables
    floor, single = rows_of(reports["durable_writes"], table.title)[:2]
    yield (
        f"* One client that writes one vector at a time gets {single.text('acknowledged/s')} "
        f"acknowledgements a second, p99 {single.text('p99 ms')} ms; bare append and fdatasync "
        f"{floor.text('acknowledged/s')}, p99 {floor.text('p99 ms')} ms."
    )
    rows = rows_of(reports["http_ingest"], "50,000 x 768 as NDJSON, 439 MB")
    short = next(row for row in rows if row["server"] == _OURS)
    yield (
        f"* Short requests cost more: {short.text('CPU µs/vector')} µs of CPU a vector at "
        f"{short.text('vectors/request')} vectors a request over "
        f"{short.text('connections')} connection."
    )
