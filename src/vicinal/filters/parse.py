"""The grammar of metadata filters: a parsed JSON document to predicates."""

from vicinal.filters.nodes import Filter
from vicinal.limits import Limits


def parse(document: object, limits: Limits) -> Filter:
    """Return the predicates of a filter, in the order of the document.

    Args:
        document: What a JSON parser returned for the filter.
        limits: Bounds on the filter's size and its keys, and how far strings are indexed.

    Raises:
        BadFilter: the document is outside the grammar; the message names key and rule.
    """
    raise NotImplementedError
