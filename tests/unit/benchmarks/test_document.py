"""The page of results and its plots show the committed data files, and nothing else."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import msgspec
import pytest

from benchmarks import document, report, worse
from benchmarks.__main__ import NAMES
from benchmarks.report import RESULTS, Cell, Report, Table, rows_of

REPORTS = document.latest(RESULTS)
PAGE = document.PAGE.read_text(encoding="utf-8")
AGAIN = "run: python -m benchmarks --document"


def test_every_benchmark_has_a_committed_data_file_that_says_where_it_was_measured() -> None:
    assert sorted(REPORTS) == sorted(NAMES)
    for found in REPORTS.values():
        assert {"date", "machine", "system", "versions", "commit"} <= set(found.setup)
        assert all(len(row) == len(table.columns) for table in found.tables for row in table.rows)


def test_the_page_is_that_of_the_data_files() -> None:
    assert document.with_results(PAGE, REPORTS) == PAGE, AGAIN


@pytest.mark.parametrize("name", sorted(document.drawings(REPORTS)))
def test_a_plot_is_that_of_the_data_files_and_stands_on_the_page(name: str) -> None:
    drawing = (document.PAGE.parent / document.PLOTS / name).read_text(encoding="utf-8")

    assert drawing == document.drawings(REPORTS)[name], AGAIN
    assert ElementTree.fromstring(drawing).tag.endswith("svg")
    assert f"]({document.PLOTS}/{name})" in PAGE


def cells(line: str) -> list[str]:
    return line.strip("| ").split(" | ")


def test_the_ratios_of_the_page_are_quotients_of_one_run() -> None:
    lines = re.findall(r"^\| ([0-9,]+ rows, recall .*) \|$", PAGE, re.MULTILINE)
    assert len(lines) == 4
    for line in lines:
        what, recall, cpu, p50, peer, _, _, _, cpu_ratio, p50_ratio = cells(line)
        size, wanted = re.findall(r"([0-9,]+) rows, recall ([0-9.]+) wanted", what)[0]
        rows = rows_of(REPORTS["query"], f"{size} x 768 at recall {wanted}")
        ours = next(row for row in rows if row["contender"] == "vicinal")
        theirs = next(row for row in rows if row["contender"] == peer)
        assert [recall, cpu, p50] == [ours.text(each) for each in ("recall@10", "CPU ms", "p50 ms")]
        for ratio, column in ((cpu_ratio, "CPU ms"), (p50_ratio, "p50 ms")):
            assert float(ratio) == pytest.approx(
                theirs.number(column) / ours.number(column), rel=0.05
            )


def test_another_number_in_a_data_file_changes_page_and_plot() -> None:
    query = REPORTS["query"]
    ours = rows_of(query, "100,000 x 768 at recall 0.99")[0]["CPU ms"]

    def slower(cell: Cell) -> Cell:
        return 0.77 if cell == ours else cell

    tables = tuple(
        msgspec.structs.replace(table, rows=tuple(tuple(map(slower, row)) for row in table.rows))
        for table in query.tables
    )
    changed = {**REPORTS, "query": msgspec.structs.replace(query, tables=tables)}

    assert document.with_results(PAGE, changed) != PAGE
    assert document.drawings(changed)["query.svg"] != document.drawings(REPORTS)["query.svg"]


def test_results_replace_what_lies_between_the_marks_and_nothing_else() -> None:
    page = f"# Title\n\n{document.BEGIN}\nold\n{document.END}\nafter\n"

    once = document.with_results(page, REPORTS)
    twice = document.with_results(once, REPORTS)

    assert once.startswith("# Title\n")
    assert once.endswith(f"{document.END}\nafter\n")
    assert "old\n" not in once
    assert once == twice


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="end of results"):
        document.with_results(f"# Title\n{document.BEGIN}\n", REPORTS)


def test_a_missing_report_is_named() -> None:
    with pytest.raises(KeyError, match="query"):
        document.with_results(PAGE, {})


def test_a_quick_run_never_comes_on_the_page(tmp_path: Path) -> None:
    full = Report("query", "How fast?", False, {}, ())
    report.save(msgspec.structs.replace(full, is_quick=True), tmp_path)
    report.save(msgspec.structs.replace(full, is_quick=True, name="filters"), tmp_path)
    report.save(full, tmp_path)

    assert document.latest(tmp_path) == {"query": full}


def test_page_and_plots_are_written_from_files(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"{document.BEGIN}\n{document.END}\n", encoding="utf-8")

    document.update(page, RESULTS)

    assert "| 100,000 rows, recall 0.99 wanted |" in page.read_text(encoding="utf-8")
    assert {path.name for path in (tmp_path / "plots").iterdir()} == set(document.drawings(REPORTS))


COMPARED = Table(
    "a size",
    ("contender", "recall@10", "p50 ms", "queries/s"),
    (("vicinal", 0.99, 2.0, 10), ("fast", 0.98, 1.0, 5), ("many", 1.0, 3.0, 20)),
)


def test_what_a_peer_does_better_is_found_whichever_way_is_better() -> None:
    found = Report("query", "How fast?", False, {}, (COMPARED,))

    assert list(worse.better(found)) == [
        ("a size", "p50 ms", 2.0, "fast: 1", 0.98),
        ("a size", "queries/s", 10, "many: 20", 1.0),
    ]


def test_every_target_that_is_missed_stands_on_the_page_with_what_was_measured() -> None:
    missed = {
        f"| {name} | {mark.claim} | {report.shown(mark.measured)} |"
        for name, result in REPORTS.items()
        for mark in result.marks
        if not mark.is_met
    }

    assert all(line in PAGE for line in missed)
    assert PAGE.count("| ≤ ") + PAGE.count("| ≥ ") == len(missed)


def test_targets_that_are_all_met_are_only_counted() -> None:
    met = {
        name: msgspec.structs.replace(
            result, marks=tuple(mark for mark in result.marks if mark.is_met)
        )
        for name, result in REPORTS.items()
    }

    page = document.with_results(PAGE, met)

    count = sum(len(result.marks) for result in met.values())
    assert f"Of {count} targets that the benchmarks set {count} are met." in page
