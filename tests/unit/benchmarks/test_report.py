"""A report says everything it holds, in each of its forms."""

from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.report import Cell, Report, Table, at_least, at_most

TABLE = Table("sizes", ("name", "count", "ms"), (("a|b", 12_345, 0.123456), ("c", None, 2.0)))


def made(name: str = "query", *, is_quick: bool = False, measured: float | None = 0.5) -> Report:
    return Report(
        name, "How fast?", is_quick, {"machine": "a good one"}, (TABLE,),
        (at_most("ratio", measured, 0.7), at_least("recall", 0.98, 0.99)), ("One is missing.",),
    )  # fmt: skip


def test_a_report_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    path = report.save(made(), tmp_path)

    assert report.load(path) == made()


def test_a_quick_run_does_not_replace_a_full_one(tmp_path: Path) -> None:
    full = report.save(made(), tmp_path)

    quick = report.save(made(is_quick=True), tmp_path)

    assert full != quick
    assert report.load(full) == made()


@pytest.mark.parametrize(
    ("measured", "bound", "is_met"), [(0.7, 0.7, True), (0.71, 0.7, False), (None, 0.7, False)]
)
def test_a_most_is_met_up_to_its_bound(measured: float | None, bound: float, is_met: bool) -> None:
    assert at_most("ratio", measured, bound).is_met is is_met


@pytest.mark.parametrize(
    ("measured", "bound", "is_met"), [(0.7, 0.7, True), (0.69, 0.7, False), (None, 0.7, False)]
)
def test_a_least_is_met_from_its_bound_on(
    measured: float | None, bound: float, is_met: bool
) -> None:
    assert at_least("recall", measured, bound).is_met is is_met


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        (None, "-"), ("text", "text"), (1_234_567, "1,234,567"), (0.123456, "0.1235"),
        (12_345.6, "12,346"), (0.0, "0"), (1.0, "1"), (float("inf"), "inf"),
    ],
)  # fmt: skip
def test_a_cell_is_shown_with_as_many_digits_as_a_reader_needs(cell: Cell, shown: str) -> None:
    assert report.shown(cell) == shown


def test_text_holds_question_circumstances_numbers_notes_and_what_was_missed() -> None:
    text = report.text(made())

    for part in ("How fast?", "machine: a good one", "12,345", "0.1235", "One is missing."):
        assert part in text
    met = [line.split()[-1] for line in text.splitlines() if line.startswith("  query")]
    assert met == ["yes", "NO"]


def test_columns_of_text_stand_under_each_other() -> None:
    lines = report.text(made()).splitlines()
    header = next(line for line in lines if line.split() == ["name", "count", "ms"])
    row = next(line for line in lines if "a|b" in line)

    assert header.index("count") + len("count") == row.index("12,345") + len("12,345")


def test_a_cell_of_a_row_is_found_by_its_column() -> None:
    first, second = report.rows_of(made(), "sizes")

    assert (first["name"], first.number("count"), first.text("ms")) == ("a|b", 12_345, "0.1235")
    assert second["count"] is None
    with pytest.raises(TypeError, match="'count' of 'c' is None"):
        second.number("count")
    with pytest.raises(KeyError, match="'seconds' is not among"):
        first["seconds"]
    with pytest.raises(KeyError, match="no table 'weights'"):
        report.rows_of(made(), "weights")


def test_the_question_is_the_first_paragraph_of_a_docstring_on_one_line() -> None:
    assert report.question("What is\nit?\n\nMore.") == "What is it?"


def test_circumstances_name_machine_versions_and_what_is_added() -> None:
    found = report.setup(seed="7")

    assert found["seed"] == "7"
    assert "numpy" in found["versions"]
    assert "cores" in found["machine"]


def test_a_processor_is_told_from_others_of_its_name(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\ncpu family\t: 25\nmodel\t\t: 1\nmodel name\t: AMD EPYC\n\n")

    assert report.cpu_model(cpuinfo) == "AMD EPYC (family 25, model 1)"


def test_a_processor_that_has_a_name_alone_is_told_by_it(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("model name\t: ARM\n")

    assert report.cpu_model(cpuinfo) == "ARM"
    assert report.cpu_model(tmp_path / "none")


def test_a_report_tells_the_load_and_the_speed_that_its_benchmark_began_with() -> None:
    ran = Report("one", "How fast?", False, {"seed": "7"}, (TABLE,))

    told = report.started(ran, report.Start(load=1.5, adding_ms=12.34))

    assert told.setup["seed"] == "7"
    assert told.setup["load at start"] == "1.50"
    assert told.setup["300,000 additions"].startswith("12.3 ms at the start, ")
    assert report.Start.now().adding_ms > 0
