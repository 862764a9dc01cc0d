"""Pages are asked for by numbers with a bound, however they are written."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.asgi import application, call
from tests.support.embedder import TinyEmbedder
from vicinal.embeddings.base import ModelInfo, Pooling

ROUTES = ("accounts", "memberships", "accounts/acme/ai/models/search")


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(("name", "most"), [("page", 1_000_000), ("per_page", 1_000)])
@pytest.mark.parametrize(
    "value", ["0", "-1", "1.5", "x", "\u0663", "1" * 5_000, "0" * 5_000 + "1", "1001001"]
)
def test_a_page_that_cannot_be_is_a_400_that_names_the_bound(
    tmp_path: Path, route: str, name: str, most: int, value: str
) -> None:
    from urllib.parse import quote

    answer = call(application(tmp_path), "GET", f"/client/v4/{route}?{name}={quote(value)}")

    assert answer.error[0] == 400
    assert f"{name} is" in answer.error[2]
    assert f"from 1 to {most}" in answer.error[2]


@pytest.mark.parametrize("route", ROUTES)
def test_pages_up_to_the_bound_are_answered(tmp_path: Path, route: str) -> None:
    target = f"/client/v4/{route}?page=1000000&per_page=1000"

    assert call(application(tmp_path), "GET", target).result == []


class PartlyFetched(TinyEmbedder):
    def models(self) -> Sequence[ModelInfo]:
        return [
            ModelInfo(name, 4, 16, Pooling.MEAN, is_available=is_available)
            for name, is_available in (("a", False), ("b", True), ("c", False), ("d", True))
        ]


def test_models_that_are_here_are_listed_first(tmp_path: Path) -> None:
    app = application(tmp_path, embedder=PartlyFetched())

    listed = call(app, "GET", f"/client/v4/{ROUTES[2]}").result

    assert [model["name"] for model in listed] == ["b", "d", "a", "c"]
