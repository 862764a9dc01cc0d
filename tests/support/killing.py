"""Writers whose every step is known beforehand, so that what a kill leaves can be judged.

Each writer has ids of its own and takes numbered steps, each one mutation that follows from
the seed, the writer and the number alone. A writer waits for an acknowledgement before it
is more than a few steps ahead. So after a kill, the vectors of a writer must be those after
some step from the last acknowledged to the last begun: all of each batch or nothing.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.support.engines import Record, batch
from vicinal.model import Delete, Insert, Mutation, Upsert

WRITERS = 4
IDS_EACH = 40
DIMENSIONS = 3

Contents = dict[str, tuple[tuple[float, ...], str]]
"""Vector ids with values and the step that wrote them."""


def id_of(writer: int, number: int) -> str:
    return f"w{writer}-{number:02}"


def ids_of(writer: int) -> list[str]:
    return [id_of(writer, number) for number in range(IDS_EACH)]


@dataclass(frozen=True, slots=True)
class Step:
    """One mutation of one writer, in a form that any client can send."""

    kind: str  # "upsert", "insert" or "delete"
    ids: list[str]
    values: Sequence[tuple[float, ...]]
    label: str

    def mutation(self) -> Mutation:
        """Return it as an engine takes it."""
        if self.kind == "delete":
            return Delete(self.ids)
        records = [
            Record(id_, values, metadata={"step": self.label})
            for id_, values in zip(self.ids, self.values, strict=True)
        ]
        return (Upsert if self.kind == "upsert" else Insert)(batch(*records))

    def applied_to(self, before: Contents) -> Contents:
        """Return the vectors after it."""
        if self.kind == "delete":
            return {key: value for key, value in before.items() if key not in self.ids}
        written = {
            id_: (values, self.label)
            for id_, values in zip(self.ids, self.values, strict=True)
            if self.kind == "upsert" or id_ not in before
        }
        return before | written


def step_of(seed: int, writer: int, number: int) -> Step:
    """Return step `number`, from 1, of a writer."""
    random_ = random.Random(f"{seed} {writer} {number}")
    kind = random_.choice(["upsert", "upsert", "upsert", "insert", "delete"])
    ids = random_.sample(ids_of(writer), random_.randint(1, 12))
    values = [(float(number), float(writer), float(position)) for position in range(len(ids))]
    return Step(kind, ids, values, f"{writer}-{number}")


@dataclass
class Ledger:
    """What the writers were told, and so what must be there.

    `acknowledged` and `begun` are the numbers of steps, for each writer.
    """

    seed: int
    acknowledged: list[int] = field(default_factory=lambda: [0] * WRITERS)
    begun: list[int] = field(default_factory=lambda: [0] * WRITERS)
    _before: list[Contents] = field(default_factory=lambda: [{} for _ in range(WRITERS)])
    _settled: list[int] = field(default_factory=lambda: [0] * WRITERS)

    def settle(self, contents: Contents) -> None:
        """Check what was found after a kill, and go on from there.

        A step that was begun and is not there will never be: its sender is dead.
        """
        for writer in range(WRITERS):
            mine = {id_: contents[id_] for id_ in ids_of(writer) if id_ in contents}
            step, begun = self.acknowledged[writer], self.begun[writer]
            states = self._states(writer)
            assert mine in states[step - self._settled[writer] :], (
                f"seed {self.seed}: writer {writer} was told of step {step} and had begun {begun}, "
                f"but what is there differs from step {step} in "
                f"{sorted(mine.items() ^ states[step - self._settled[writer]].items(), key=str)}"
            )
            self._before[writer] = mine
            self.acknowledged[writer] = self._settled[writer] = begun
        foreign = set(contents) - {id_ for writer in range(WRITERS) for id_ in ids_of(writer)}
        assert not foreign, f"seed {self.seed}: nobody wrote {foreign}"

    def _states(self, writer: int) -> list[Contents]:
        """Return the vectors of a writer after each step since the last kill, and before."""
        states = [self._before[writer]]
        for number in range(self._settled[writer] + 1, self.begun[writer] + 1):
            states.append(step_of(self.seed, writer, number).applied_to(states[-1]))
        return states
