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

from tests.cells.life import Kill, Told, live
from tests.cells.notebooks import NOTEBOOKS, Written

MAX_KILLS = 5  # in a row, of one notebook
MOMENTS = ("started", "executed", "checkpointed")


class Case(NamedTuple):
    """One notebook that was killed some times: what was wrong with it, in words; nothing if all was right."""

    notebook: str
    seed: int
    kills: int
    in_saves: int
    repeated: int
    wrong: list[str]


def cases(folder: Path, kills: int, seed: int, mutant: Callable[[], object] | None = None) -> Iterator[Case]:
    """Yield cases until there were so many kills. The next seed to go on from is that of the last case plus 1."""
    controls: dict[tuple[str, bool], Told] = {}
    done = 0
    while done < kills:
        case = run_case(folder, seed, controls, mutant)
        done += case.kills
        seed += 1
        yield case


def run_case(
    folder: Path, seed: int, controls: dict[tuple[str, bool], Told], mutant: Callable[[], object] | None
) -> Case:
    """Run the notebook of a seed, kill it, and compare its end."""
    chance = random.Random(seed)
    notebook = NOTEBOOKS[seed % len(NOTEBOOKS)]
    edits = chance.random() < 0.3
    expected = control(folder, notebook, controls, edited=edits)
    before_edit = control(folder, notebook, controls, edited=False)
    place = folder / f"seed {seed}"
    place.mkdir()
    wrong: list[str] = []
    killed = in_saves = 0
    saved: Counter[str] = Counter()
    is_edited = False
    for number in range(MAX_KILLS):
        kill = choose(chance, place)
        if edits and number == 1:
            is_edited = True
            saved.clear()
        told = live(place, cells_of(notebook, edited=is_edited), kill, mutant)
        if told is not None:
            if found := differences(told, expected if is_edited else before_edit):
                wrong.append(f"life {number} without a kill: {found}")
            break
        killed += 1
        in_saves += kill.crash_at is not None
        wrong += repeated_in(place, saved) if not is_edited and not edits else []
        if not edits:
            saved = saved_effects(place)
    for is_last in (False, True):  # which brings all back
        told = live(place, cells_of(notebook, edited=edits), before=mutant)
        if found := differences(told, expected):
            wrong.append(found)
        if is_last and told is not None and told.texts != expected.texts:
            wrong.append(f"the last life shows {told.texts}")
        if not edits:
            wrong += repeated_in(place, saved)
            saved = saved_effects(place)
    effects = Counter(read_effects(place))
    shutil.rmtree(place)
    return Case(notebook.name, seed, killed, in_saves, sum(effects.values()) - len(effects), wrong)


def control(folder: Path, notebook: Written, controls: dict[tuple[str, bool], Told], *, edited: bool) -> Told:
    """Return what a life without a kill tells, with an engine that is right."""
    if (notebook.name, edited) not in controls:
        place = folder / f"control of {notebook.name} {edited}"
        place.mkdir()
        told = live(place, cells_of(notebook, edited=edited))
        assert told is not None
        assert not any(told.errors), told.errors
        controls[notebook.name, edited] = told
    return controls[notebook.name, edited]


def cells_of(notebook: Written, *, edited: bool) -> list[str]:
    """Return the cells, with the edit or without. Chance may kill a cell three times in a row, so they say --retry."""
    cells = [re.sub(r"^(%%durable \S+)", r"\1 --retry", cell) for cell in notebook.cells]
    return [cell.replace(*notebook.edit) if edited else cell for cell in cells]


def choose(chance: random.Random, place: Path) -> Kill:
    """Choose where a life is killed: after an effect and some time, or in a save."""
    if chance.random() < 0.35:
        return Kill(crash_at=f"pass_{chance.randint(1, 8)}:{chance.choice(MOMENTS)}")
    delay = chance.choice([0.0, chance.random() * 0.02, chance.random() * 0.25])
    return Kill(chance.randrange(12), delay)


def differences(told: Told | None, expected: Told) -> str:
    """Return what differs, in words."""
    if told is None:
        return "it was killed"
    parts = []
    for number, (one, other) in enumerate(zip(told.texts, expected.texts, strict=True)):
        if one != other and "runs again:" not in one:
            parts.append(f"cell {number} shows {one[-200:]!r}, not {other[-200:]!r}")
    if told.errors != expected.errors:
        parts.append(f"errors {[error for error in told.errors if error]}")
    for name in sorted({*told.variables, *expected.variables}):
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
