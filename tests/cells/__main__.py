"""Kill notebooks: `python -m tests.cells --kills 1000 --seed 0`. The last line says how to go on."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import durable.cells.magics  # noqa: F401 - here, so that a forked life need not import it
from tests.cells.matrix import cases


def main() -> None:
    """Run cases, and print each that is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.cells", description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    kills = in_saves = repeated = wrong = 0
    seed = asked.seed
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(Path(folder), asked.kills, asked.seed):
            kills, in_saves, repeated = kills + case.kills, in_saves + case.in_saves, repeated + case.repeated
            wrong += bool(case.wrong)
            seed = case.seed + 1
            for what in case.wrong:
                print(f"WRONG seed {case.seed} ({case.notebook}, {case.kills} kills): {what}", flush=True)
    print(f"{kills} kills, {in_saves} of them at a moment of a save, {repeated} effects again, {wrong} notebooks wrong")
    print(f"to go on: python -m tests.cells --kills {asked.kills} --seed {seed}")


main()
