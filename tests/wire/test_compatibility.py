"""docs/compatibility.md says what the golden exchanges say, all of it."""

from tests.wire import compatibility


def test_the_page_has_a_row_for_every_exchange_as_it_is() -> None:
    text = compatibility.PAGE.read_text(encoding="utf-8")

    assert text == compatibility.page(text), "run python -m tests.wire.compatibility"
