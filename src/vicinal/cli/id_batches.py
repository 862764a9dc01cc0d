"""Calls that name vectors by ids, with as many ids as the server allows.

A server does not tell its profile of limits: after a refusal a call names no more ids than every
profile allows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from vicinal.cli.client import ApiError, ApiResponse, Client
from vicinal.limits import PROFILES

_IDS_MAX = 1_000  # ours: of the first call
_GET_OF_EVERY_PROFILE = min(limits.get_ids_max for limits in PROFILES.values())
_CHANGE_OF_EVERY_PROFILE = min(limits.delete_ids_max for limits in PROFILES.values())
_TOO_MANY_IDS = 40007


@dataclass(slots=True)
class IdBatches:
    """Calls with at most `count_max` ids; a refused one is repeated with `count_always`."""

    count_always: int
    count_max: int = _IDS_MAX

    def answers(
        self, ids: Sequence[str], call: Callable[[Sequence[str]], ApiResponse]
    ) -> list[ApiResponse]:
        """Call for all ids, in their order; return the answers."""
        answers: list[ApiResponse] = []
        start = 0
        while start < len(ids):
            try:
                answers.append(call(ids[start : start + self.count_max]))
            except ApiError as refused:
                if _TOO_MANY_IDS not in refused.codes or self.count_max <= self.count_always:
                    raise
                self.count_max = self.count_always
            else:
                start += self.count_max
        return answers


def gets() -> IdBatches:
    """Return batches for ``get_by_ids``."""
    return IdBatches(_GET_OF_EVERY_PROFILE)


def changes() -> IdBatches:
    """Return batches for calls that change vectors."""
    return IdBatches(_CHANGE_OF_EVERY_PROFILE)


def get_vectors(
    client: Client, index: str, ids: Sequence[str], batches: IdBatches | None = None
) -> list[msgspec.Raw]:
    """Return the vectors among `ids` that exist, as JSON."""
    path = client.indexes(index, "get_by_ids")
    answers = (batches or gets()).answers(ids, lambda some: client.post(path, {"ids": some}))
    return [vector for answer in answers for vector in answer.decode(list[msgspec.Raw])]
