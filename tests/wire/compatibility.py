"""docs/compatibility.md holds one row for each golden exchange; this makes the rows.

``python -m tests.wire.compatibility`` writes them into the page, and a test fails when
the page is behind.
"""

import json
from pathlib import Path

from tests.wire.golden import exchanges

PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"
BEGIN = "<!-- rows: made from tests/wire/golden by python -m tests.wire.compatibility -->\n"
END = "<!-- end of rows -->\n"


def rows() -> str:
    """Return the table of all exchanges, by path and method."""
    lines = []
    for path in exchanges():
        exchange = json.loads(path.read_text(encoding="utf-8"))
        request, response = exchange["request"], exchange["response"]
        place = request["path"].partition("?")[0].replace("{indexes}", "…/indexes")
        place = place.replace("{account}", "…").replace("{api}", "")
        answer = str(response["status"])
        errors = (response.get("body") or {}).get("errors") if "body" in response else None
        if isinstance(errors, list) and errors:
            answer += f" · {errors[0]['code']}"
        cells = (
            f"`{request['method']} {place}`",
            exchange["why"],
            answer,
            exchange["source"],
            f"`{path.stem}`",
        )
        lines.append((place, request["method"], path.stem, cells))
    table = ["| Request | What holds | Answer | Known from | Exchange |", "|---|---|---|---|---|"]
    table += [
        "| " + " | ".join(_escaped(cell) for cell in cells) + " |" for *_, cells in sorted(lines)
    ]
    return "\n".join(table) + "\n"


def page(text: str) -> str:
    """Return the page with its rows as they should be."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + rows() + END + after


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
