"""Sections and tables are Markdown that a code host renders."""

from benchmarks.markdown import piped, section


def test_a_bar_in_a_cell_does_not_split_a_table() -> None:
    table = piped(("name", "count", "ms"), [("a|b", 12_345, 0.123456), ("c", None, 2.0)])

    assert table.splitlines() == [
        "| name | count | ms |",
        "| --- | --- | --- |",
        "| a\\|b | 12,345 | 0.1235 |",
        "| c | - | 2 |",
    ]


def test_text_is_wrapped_and_a_table_is_not() -> None:
    words = "word " * 30

    text = section("Heading", words.strip(), f"* {words}".strip(), f"| {words} |")

    head, paragraph, item, table = text.split("\n\n")
    assert head == "## Heading"
    assert [len(line) <= 100 for line in paragraph.splitlines()] == [True, True]
    assert item.splitlines()[1].startswith("  word")
    assert table == f"| {words} |"


def test_an_empty_paragraph_leaves_no_gap() -> None:
    assert section("Heading", "", "Text.") == "## Heading\n\nText."
