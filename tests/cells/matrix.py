"""The kernel-kill matrix: notebooks are killed at random places, lived on, and compared with a life without a kill."""

from __future__ import annotations

import json
import random
import re
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from tests.cells.kernel import live_in_kernel
from tests.cells.life import Told, live
from tests.cells.notebooks import NOTEBOOKS, Written
from tests.cells.world import Kill

MAX_KILLS = 5  # in a row, of one notebook
MOMENTS = ("started", "executed", "part_stored", "checkpointed")
KERNELS = 40  # one case in so many runs in real kernels


class Case(NamedTuple):
    """One notebook that was killed some times: what was wrong with it, in words; nothing if all was right."""

    notebook: str
    seed: int
    kills: int
    in_saves: int
    in_kernels: int
    repeated: int
    wrong: list[str]


class Control(NamedTuple):
    """What a life without a kill tells, with an engine that is right, and its effects."""

    told: Told
    effects: int


def cases(folder: Path, kills: int, seed: int, mutant: Callable[[], object] | None = None) -> Iterator[Case]:
    """Yield cases until there were so many kills. The next seed to go on from is that of the last case plus 1."""
    controls: dict[Any, Control] = {}
    done = 0
    while done < kills:
        case = run_case(folder, seed, controls, mutant)
        done += case.kills
        seed += 1
        yield case


def run_case(folder: Path, seed: int, controls: dict[Any, Control], mutant: Callable[[], object] | None = None) -> Case:
    """Run the notebook of a seed, kill it, and compare its end."""
    chance = random.Random(seed)
    notebook = NOTEBOOKS[seed % len(NOTEBOOKS)]
    in_kernel = mutant is None and seed % KERNELS == KERNELS - 1
    edits = chance.random() < 0.3
    before_edit = control(folder, notebook, controls, edited=False, in_kernel=in_kernel)
    expected = control(folder, notebook, controls, edited=edits, in_kernel=in_kernel).told
    place = folder / f"seed {seed}"
    place.mkdir()
    wrong: list[str] = []
    killed = in_saves = 0
    saved: Counter[str] = Counter()
    is_edited = False
    for number in range(MAX_KILLS):
        kill = choose(chance, notebook, before_edit.effects)
        if edits and number == 1:
            is_edited = True
            saved.clear()
        told = run_life(place, notebook, kill, mutant, edited=is_edited, in_kernel=in_kernel)
        if told is not None:
            if found := differences(told, expected if is_edited else before_edit.told, notebook):
                wrong.append(f"life {number} without a kill: {found}")
            break
        killed += 1
        in_saves += kill.crash_at is not None or kill.after == "save"
        wrong += repeated_in(place, saved) if not is_edited and not edits else []
        if not edits:
            saved = saved_effects(place)
    for is_last in (False, True):  # which brings all back
        told = run_life(place, notebook, Kill(), mutant, edited=edits, in_kernel=in_kernel)
        if found := differences(told, expected, notebook):
            wrong.append(found)
        if is_last and told is not None and told.texts != expected.texts:
            wrong.append(f"the last life shows {told.texts}")
        if not edits:
            wrong += repeated_in(place, saved)
            saved = saved_effects(place)
    effects = Counter(read_effects(place))
    shutil.rmtree(place)
    repeated = sum(effects.values()) - len(effects)
    return Case(notebook.name, seed, killed, in_saves, killed * in_kernel, repeated, wrong)


def run_life(
    place: Path, notebook: Written, kill: Kill, mutant: Any = None, *, edited: bool, in_kernel: bool
) -> Told | None:
    """Run the cells once, in a forked process or in a kernel."""
    cells = cells_of(notebook, edited=edited)
    return live_in_kernel(place, cells, kill) if in_kernel else live(place, cells, kill, mutant)


def control(folder: Path, notebook: Written, controls: dict[Any, Control], *, edited: bool, in_kernel: bool) -> Control:
    """Run the notebook without a kill, once for all cases."""
    key = notebook.name, edited, in_kernel
    if key not in controls:
        place = folder / f"control of {notebook.name} {edited} {in_kernel}"
        place.mkdir()
        told = run_life(place, notebook, Kill(), edited=edited, in_kernel=in_kernel)
        assert told is not None
        assert not any(told.errors), told.errors
        controls[key] = Control(told, len(read_effects(place)))
        shutil.rmtree(place)
    return controls[key]


def cells_of(notebook: Written, *, edited: bool) -> list[str]:
    """Return the cells, with the edit or without. Chance may kill a cell three times in a row, so they say --retry."""
    cells = [re.sub(r"^(%%durable \S+)", r"\1 --retry", cell) for cell in notebook.cells]
    return [cell.replace(*notebook.edit) if edited else cell for cell in cells]


def choose(chance: random.Random, notebook: Written, effects: int) -> Kill:
    """Choose where a life is killed: in a save, after an effect, or anywhere in a cell."""
    which = chance.random()
    if which < 0.25:
        return Kill(crash_at=f"pass_{chance.randint(1, 8)}:{chance.choice(MOMENTS)}")
    if which < 0.45:
        return Kill("save", chance.randrange(effects), chance.random() * 0.02)
    delay = chance.choice([0.0, chance.random() * 0.02, chance.random() * 0.25])
    if which < 0.9:
        return Kill("effect", chance.randrange(effects), delay)
    return Kill("cell", chance.randrange(2, 2 + len(notebook.cells)), delay)


def differences(told: Told | None, expected: Told, notebook: Written) -> str:
    """Return what differs, in words. A variable that a cell drops may be there or not."""
    if told is None:
        return "it was killed"
    parts = []
    for number, (one, other) in enumerate(zip(told.texts, expected.texts, strict=True)):
        if one != other and "runs again:" not in one:
            parts.append(f"cell {number} shows {one[-200:]!r}, not {other[-200:]!r}")
    if told.errors != expected.errors:
        parts.append(f"errors {[error for error in told.errors if error]}")
    dropped = {
        name for cell in notebook.cells for names in re.findall(r"--drop (\S+)", cell) for name in names.split(",")
    }
    for name in sorted({*told.variables, *expected.variables} - dropped):
        one, other = told.variables.get(name), expected.variables.get(name)
        if one != other:
            parts.append(f"{name} is {str(one)[:120]}, not {str(other)[:120]}")
    if told.numbers != expected.numbers:
        parts.append("the next random numbers differ")
    return "; ".join(parts)


# ---- effects that must not happen again


def read_effects(place: Path) -> list[str]:
    """Return the labels of all effects so far."""
    path = place / "effects"
    return path.read_text().splitlines() if path.exists() else []


def saved_effects(place: Path) -> Counter[str]:
    """Return how often each effect has happened whose pass or cell is on record."""
    path = place / "a notebook.durable.db"
    if not path.exists():
        return Counter()
    saved_passes = "select workflow_id, output from steps where status = 'completed' and name = 'pass'"
    with closing(sqlite3.connect(path)) as db:
        ended = {row[0] for row in db.execute("select id from workflows where status = 'completed'")}
        rows = db.execute(saved_passes).fetchall()
    places: dict[str, list[Any]] = {}
    for workflow_id, output in rows:
        places.setdefault(workflow_id, []).append(json.loads(output)["at"])
    effects = Counter(read_effects(place))
    return Counter({label: count for label, count in effects.items() if _is_saved(label.split(), ended, places)})


def _is_saved(label: list[str], ended: set[str], places: dict[str, list[Any]]) -> bool:
    cell, *passes = label
    if cell in ended:
        return True
    if not passes or passes[0] == "item":
        return False
    mine = list(map(int, passes))
    return any(_covers(at, mine) for at in places.get(cell, []))


def _covers(at: list[Any], mine: list[int]) -> bool:
    """Return whether a checkpoint comes after a pass of the first loop at each level."""
    for depth, (loop, index) in enumerate(at):
        if loop != 1 or index == "end":
            return True
        number = int(str(index).split()[-1])
        if depth >= len(mine) or number > mine[depth]:
            return True
        if number < mine[depth]:
            return False
    return len(at) <= len(mine)


def repeated_in(place: Path, saved: Counter[str]) -> list[str]:
    """Return the effects that happened again although they were saved before, in words."""
    now = Counter(read_effects(place))
    return [f"effect {label!r} happened again" for label, count in saved.items() if now[label] > count]
