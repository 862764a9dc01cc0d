"""The benchmark of exports measures what it says, at a small size."""

import pytest

from benchmarks import export


@pytest.mark.slow
def test_a_small_run_exports_imports_and_finds_the_same_lines() -> None:
    ran = export.measure(600, is_quick=True)

    (table,) = ran.tables
    assert [row[0] for row in table.rows] == [
        *("export 1", "export 2", "export 3"),
        *("import", "export of the import"),
    ]
    _, lines, definitions = ran.marks
    assert lines.is_met
    assert definitions.is_met


def test_lines_of_one_file_alone_are_counted(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("lines")
    first, second = folder / "a", folder / "b"
    first.write_bytes(b"1\n2\n3\n")
    second.write_bytes(b"3\n1\n4\n")

    assert export._differing(first, second) == 2  # noqa: SLF001  # what the marks rest on
