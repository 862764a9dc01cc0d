"""Arguments of a search that ranks by words, by both, diverse or in groups."""

from collections.abc import Mapping
from typing import Any, TypedDict

import msgspec

from vicinal.binding import arguments
from vicinal.binding.records import plain
from vicinal.errors import BadBody
from vicinal.ranking import Fusion
from vicinal.wire import reasons, schemas


class RankingOptions(TypedDict, total=False):
    """Options of a search.

    Attributes:
        weights: Properties with a text index and how much each counts, 1e-6 to 1e6; all alike if
            not given.
        fusion: ``ranks`` or ``scores``: how a text and a vector make one score.
        text_share: The weight of the text beside a vector, 0 to 1; a half if not given.
        mmr: ``{"lambda": 0.5, "fetchK": 50}``: matches unlike each other.
        group_by: ``{"property": "url", "count": 1}``: at most `count` of each value.
        return_scores: Whether matches have the scores and ranks of both searches.
        return_highlights: Whether matches say where the words are.
    """

    weights: Mapping[str, float] | None
    fusion: Fusion | str | None
    text_share: float | None
    mmr: Mapping[str, Any] | None
    group_by: Mapping[str, Any] | None
    return_scores: bool
    return_highlights: bool


def requested(
    text: str | None, vector_id: str | None, options: RankingOptions
) -> schemas.QueryRequest:
    """Return the request for a search, without the arguments that every query has.

    Raises:
        InvalidInput: an argument is of a wrong type, or no option is called so.
    """
    unknown = set(options) - RankingOptions.__optional_keys__
    if unknown:
        raise TypeError(f"search() has no argument {min(unknown)!r}")
    members: dict[str, Any] = {
        "text": arguments.optional_text(text, "text"),
        "vectorId": arguments.optional_text(vector_id, "vector_id"),
        "returnScores": arguments.boolean(options.get("return_scores", False), "return_scores"),
        "returnHighlights": arguments.boolean(
            options.get("return_highlights", False), "return_highlights"
        ),
    }
    named = {"textWeights": options.get("weights"), "mmr": options.get("mmr")}
    named["groupBy"] = options.get("group_by")
    for name, value in named.items():
        if value is not None:
            members[name] = plain(value, name, BadBody)
    fusion, share = options.get("fusion"), options.get("text_share")
    if fusion is not None or share is not None:
        members["hybrid"] = {
            "fusion": arguments.optional_member(Fusion, fusion, "fusion"),
            "textShare": None if share is None else arguments.number(share, "text_share"),
        }
    try:
        return msgspec.convert(members, schemas.QueryRequest)
    except msgspec.ValidationError as error:
        raise BadBody(reasons.reason(error, schemas.QueryRequest)) from None
