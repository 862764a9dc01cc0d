"""The page of results: ``docs/performance.md``, written from the JSON of the last runs.

What a person writes stays; what lies between the two marks is replaced. Full runs are
taken; a quick one only where there has been no full one, and it says so.
"""

from collections.abc import Sequence
from pathlib import Path

from benchmarks import report
from benchmarks.report import RESULTS, ROOT, Report

PAGE = ROOT / "docs" / "performance.md"
BEGIN = "<!-- results: written by `python -m benchmarks --document` -->"
END = "<!-- end of results -->"


def update(page: Path = PAGE, results: Path = RESULTS) -> None:
    """Put the results that are there into the page."""
    page.write_text(
        with_results(page.read_text(encoding="utf-8"), latest(results)), encoding="utf-8"
    )


def latest(results: Path) -> list[Report]:
    """Return a report of each benchmark that has been run, by name."""
    found: dict[str, Report] = {}
    for path in sorted(results.glob("*.json")):
        each = report.load(path)
        if each.name not in found or found[each.name].is_quick:
            found[each.name] = each
    return [found[name] for name in sorted(found)]


def with_results(page: str, reports: Sequence[Report]) -> str:
    """Return the page with its results replaced.

    Raises:
        ValueError: the page lacks one of the two marks.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page must have {BEGIN!r} and after it {END!r}")
    return f"{before}{BEGIN}\n\n{markdown(reports)}\n{END}{after}"


def markdown(reports: Sequence[Report]) -> str:
    """Return all results: the marks first, then a section for each benchmark."""
    if not reports:
        return "Nothing has been run yet.\n"
    marked = [each for each in reports if each.marks]
    sections = ["## What was to be reached", "", report.marks_markdown(marked)]
    return "\n".join([*sections, *(report.markdown(each) for each in reports)])
