"""A process whose children are killed while they write a run: ``python -m tests.pipeline.kills RESULTS SEED COUNT``.

It loads nothing that has threads, so that it can fork, and prints a line of JSON for every child.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
from pathlib import Path

from tests.pipeline.test_spec import SPEC
from xlt.files import write_text
from xlt.pipeline.store import METRICS, RunStore

MOMENTS = 55  # of one attempt, about


class Killer:
    """Kills this process at one of the moments at which it opens, renames, makes or removes a file, or adds to one."""

    def __init__(self, moment: int) -> None:
        self._left = moment
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: object) -> None:
        if event == "open" or event.startswith(("os.", "shutil.")):
            self.count()

    def count(self) -> None:
        """One more moment."""
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def write(root: Path, number: int, killer: Killer) -> None:
    """What a command writes: the grid, then a run."""
    write_text(root / "grid.json", json.dumps({"number": number, "filled": "x" * 20_000}))
    with RunStore(root).writing(SPEC) as folder:
        for name in ("log.jsonl", "model/weights"):
            (folder / name).parent.mkdir(exist_ok=True)
            with (folder / name).open("w", encoding="utf-8") as stream:
                for part in range(5):
                    stream.write(f"{part}" * 5000)
                    stream.flush()
                    killer.count()
        write_text(folder / METRICS, "{}")


def main(root: Path, seed: int, count: int) -> None:
    """Have so many children killed, each at a moment that is drawn, and then one that is not."""
    store, draw = RunStore(root), random.Random(seed)
    for number in range(count + 1):
        if store.check(SPEC).state == "done":
            shutil.rmtree(store.path(SPEC.folder))
        moment = draw.randint(1, MOMENTS) if number < count else -1
        child = os.fork()
        if not child:
            write(root, number, Killer(moment))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        grid = root / "grid.json"
        outcome = {
            "killed": os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL,
            "state": store.check(SPEC).state,
            "grid": json.loads(grid.read_text("utf-8"))["number"] if grid.is_file() else -1,
            "left": sorted(path.name for path in root.rglob("*.tmp")),
        }
        print(json.dumps(outcome))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
