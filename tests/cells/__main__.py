"""Kill notebooks: `python -m tests.cells --kills 1000 --seed 0`. A later run goes on from its `--record`."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import durable.cells.magics  # noqa: F401 - here, so that a forked life need not import it
from tests.cells.matrix import Case, cases


def main() -> None:
    """Run cases, print each that is wrong, and what all have shown so far."""
    parser = argparse.ArgumentParser(prog="python -m tests.cells", description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="in all, with those in the record (default 50)")
    parser.add_argument("--seed", type=int, default=0, help="of the first case (default 0)")
    parser.add_argument("--record", type=Path, help="a file with a line for each case; those in it are not run again")
    asked = parser.parse_args()
    ended = _read(asked.record)
    seed = max((case.seed + 1 for case in ended), default=asked.seed)
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(Path(folder), asked.kills - sum(each.kills for each in ended), seed):
            ended.append(case)
            if asked.record is not None:
                with asked.record.open("a", encoding="utf-8") as file:
                    file.write(f"{json.dumps(case._asdict())}\n")
            for what in case.wrong:
                print(f"WRONG seed {case.seed} ({case.notebook}, {case.kills} kills): {what}", flush=True)
    counts = [sum(getattr(case, name) for case in ended) for name in ("kills", "in_saves", "in_kernels", "repeated")]
    print("{} kills, {} of them in a save, {} of a real kernel; {} effects again".format(*counts))
    print(f"{len(ended)} notebooks, {sum(bool(case.wrong) for case in ended)} of them wrong")
    print(f"to go on: python -m tests.cells --kills {asked.kills} --seed {max(case.seed for case in ended) + 1}")


def _read(record: Path | None) -> list[Case]:
    lines = record.read_text(encoding="utf-8").splitlines() if record is not None and record.exists() else []
    return [Case(**json.loads(line)) for line in lines]


main()
