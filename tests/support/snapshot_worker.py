"""A process that is killed while it makes a snapshot: at the n-th call that changes names or syncs.

    python -m tests.support.snapshot_worker DATA STORE N [ID [FOLDER]]

With an ID it deletes that snapshot instead; with a FOLDER, too, it restores it there.

With N of 0 it is not killed and prints how many such calls there were.
"""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.support.snapshots import restore, take
from vicinal.engine.embedded import EmbeddedEngine
from vicinal.snapshots.store import Store

_CALLS = ("link", "fsync", "rename", "replace", "unlink", "mkdir", "rmdir")


def main(data: Path, store: Path, kill_at: int, words: list[str]) -> None:
    count = 0

    def killing(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        return call

    engine = EmbeddedEngine.open(data)
    for name in _CALLS:
        setattr(os, name, killing(getattr(os, name)))
    with closing(engine):
        match words:
            case []:
                take(engine, data, store, "20300101-000000-00000f", copies=kill_at % 2 == 1)
            case [snapshot_id]:
                with Store(store).locked(writes=True):
                    Store(store).delete(snapshot_id)
            case [snapshot_id, folder]:
                restore(store, snapshot_id, Path(folder))
    sys.stdout.write(f"{count}\n")


if __name__ == "__main__":
    source, target, number, *ids = sys.argv[1:]
    main(Path(source), Path(target), int(number), ids)
