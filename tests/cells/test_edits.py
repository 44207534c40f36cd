"""Edits of a notebook: the cells that they concern run again, each says why, and no other does."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

import durable.cells.magics  # noqa: F401 - here, so that a forked life need not import it
from tests.cells.life import Told, live

HELPERS = "FACTOR = 2\ndef from_file(x):\n    return x * FACTOR\n"
DATA = "a\n1\n2\n3\n"
CELLS = {
    "imports": "import durable, numpy as np, pandas as pd, helpers, types\nversioned = None",
    "lib": "lib = types.ModuleType('lib'); lib.__version__ = '1.0'",
    "constants": "SCALE = 2\nUNUSED = 1\nOPTIONS = {'depth': 3, 'names': ['a', 'b']}",
    "functions": """def outer(x):
    return inner(x) + BASE
def inner(x, by=3):
    return x * by
BASE = 10
def unused(x):
    return x
square = lambda x: x * x
def twice(x):
    return x * 2
OPERATIONS = {"twice": [twice]}""",
    "classes": """class Animal:
    legs = 4
    def speak(self):
        return "..."
class Dog(Animal):
    def speak(self):
        return "woof"
pet = Dog()""",
    "load": "%%durable load\ndf = pd.read_csv(durable.input('data.csv'))",
    "scale": "%%durable scale\nscaled = df['a'] * SCALE\nnumber = float(scaled.sum())",
    "apply": "%%durable apply\napplied = [outer(x) for x in (1, 2)]",
    "talk": "%%durable talk\nsaid = pet.speak() * pet.legs",
    "options": "%%durable options\ndepth = OPTIONS['depth'] + len(OPTIONS['names'])",
    "held": "%%durable held\nfour = OPERATIONS['twice'][0](2)",
    "file": "%%durable file_\nfrom_helper = helpers.from_file(4)",
    "square": "%%durable square_\nnine = square(3)",
    "loop": "%%durable loop\ntotal = 0\nfor i in durable.each(range(3)):\n    total += i * SCALE",
    "version": "%%durable version\nfound = lib.__version__",
    "alone": "%%durable alone\n# it reads nothing\nlonely = 1 + 1",
    "last": "%%durable last\nend = number + total + lonely",
}


class Edit(NamedTuple):
    """An edit of one cell or file, and why which cells run again."""

    name: str
    place: str
    old: str
    new: str
    again: dict[str, str]


CODE = "its code"
SCALE_EDIT = {"scale": "SCALE", "loop": "SCALE", "last": "number and total"}
EDITS = [
    # nothing that counts
    Edit("a comment", "scale", "scaled =", "# why\nscaled =", {}),
    Edit("spacing", "scale", "df['a'] * SCALE", "df['a']*SCALE", {}),
    Edit("a blank line", "alone", "lonely", "\n\nlonely", {}),
    Edit("parentheses", "alone", "1 + 1", "(1 + 1)", {}),
    Edit("quotes", "options", "'depth'", '"depth"', {}),
    Edit(
        "a comment in a function",
        "functions",
        "    return inner(x) + BASE",
        "    # sum\n    return inner(x) + BASE",
        {},
    ),
    Edit("functions in another order", "functions", "BASE = 10\n", "", {}),
    Edit("an unused constant", "constants", "UNUSED = 1", "UNUSED = 2", {}),
    Edit("an unused function", "functions", "    return x\nsquare", "    return -x\nsquare", {}),
    Edit("a new constant", "constants", "UNUSED = 1", "UNUSED = 1\nFURTHER = 2", {}),
    Edit("a function moved down", "functions", "def outer", "\n\n\ndef outer", {}),
    Edit("keys of a dict in the same order", "constants", "{'depth': 3,", "{'depth': 3 ,", {}),
    Edit("an equal value made otherwise", "constants", "SCALE = 2", "SCALE = 1 + 1", {}),
    # code of a cell
    Edit("another operator", "alone", "1 + 1", "1 - 1", {"alone": CODE, "last": "lonely"}),
    Edit("code with the same result", "alone", "1 + 1", "2", {"alone": CODE}),
    Edit("one more variable", "alone", "lonely =", "other = 5\nlonely =", {"alone": CODE}),
    Edit("another name", "talk", "said", "told", {"talk": CODE}),
    Edit("a longer loop", "loop", "range(3)", "range(4)", {"loop": CODE, "last": "total"}),
    Edit("how often a loop is saved", "loop", "range(3)", "range(3), every_seconds=0", {"loop": CODE}),
    Edit(
        "one more input", "options", "OPTIONS['depth']", "OPTIONS['depth'] + UNUSED", {"options": f"UNUSED and {CODE}"}
    ),
    Edit("the last cell", "last", "number + total", "total + number", {"last": CODE}),
    # constants
    Edit("a constant", "constants", "SCALE = 2", "SCALE = 3", SCALE_EDIT),
    Edit(
        "a constant of another type",
        "constants",
        "SCALE = 2",
        "SCALE = 2.0",
        {"scale": "SCALE", "loop": "SCALE", "last": "total"},
    ),
    Edit("a value within a dict", "constants", "'depth': 3", "'depth': 4", {"options": "OPTIONS"}),
    Edit("a list within a dict", "constants", "['a', 'b']", "['a', 'c']", {"options": "OPTIONS"}),
    Edit("a key of a dict", "constants", "'names':", "'more': 1, 'names':", {"options": "OPTIONS"}),
    # functions
    Edit("a helper", "functions", "inner(x) + BASE", "inner(x) - BASE", {"apply": "outer"}),
    Edit("a helper of a helper", "functions", "x * by", "x ** by", {"apply": "inner"}),
    Edit("a global of a helper", "functions", "BASE = 10", "BASE = 11", {"apply": "BASE"}),
    Edit("a default", "functions", "by=3", "by=4", {"apply": "inner"}),
    Edit("a lambda", "functions", "x * x", "x + x", {"square_": "square"}),
    Edit("a helper in a dict", "functions", "x * 2", "x + x", {"held": "twice"}),
    Edit("a new parameter", "functions", "inner(x, by=3)", "inner(x, by=3, more=0)", {"apply": "inner"}),
    # classes
    Edit("a method", "classes", '"woof"', '"wuff"', {"talk": "Dog"}),
    Edit("a method of the base", "classes", '"..."', '"!"', {"talk": "Animal"}),
    Edit("an attribute of the base", "classes", "legs = 4", "legs = 3", {"talk": "Animal"}),
    Edit("a state of an instance", "classes", "pet = Dog()", "pet = Dog(); pet.legs = 2", {"talk": "pet"}),
    # modules and files
    Edit("a module beside the notebook", "helpers.py", "FACTOR = 2", "FACTOR = 3", {"file_": "helpers"}),
    Edit("the version of a module", "lib", "'1.0'", "'2.0'", {"version": "lib"}),
    Edit("a file", "data.csv", "3", "4", {"load": "file 'data.csv'", "scale": "df", "last": "number"}),
    Edit("a row in a file", "data.csv", "3\n", "3\n0\n", {"load": "file 'data.csv'", "scale": "df"}),
    # order
    Edit("a constant set later", "last", "%%durable last", "%%durable last", {}),
]


def run(folder: Path, edit: Edit | None = None) -> Told:
    """Run the notebook with an edit, in a life of its own."""
    cells = dict(CELLS)
    files = {"helpers.py": HELPERS, "data.csv": DATA}
    if edit is not None:
        edited = cells if edit.place in cells else files
        assert edit.old in edited[edit.place]
        edited[edit.place] = edited[edit.place].replace(edit.old, edit.new, 1)
        if edit.name == "functions in another order":
            cells["functions"] = f"BASE = 10\n{cells['functions']}"
        if edit.name == "a constant set later":
            cells = {**{name: cell for name, cell in cells.items() if name != "alone"}, "alone": cells["alone"]}
            cells["last"] = cells.pop("last")
    for name, content in files.items():
        (folder / name).write_text(content)
    told = live(folder, ["import sys; sys.path.insert(0, '.'); sys.dont_write_bytecode = True", *cells.values()])
    assert told is not None
    return told


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    told = run(folder)
    assert not any(told.errors), told.errors
    return folder


@pytest.mark.thorough
@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.name)
def test_an_edit_runs_those_cells_again_that_it_concerns(tmp_path: Path, base: Path, edit: Edit) -> None:
    folder, fresh = tmp_path / "edited", tmp_path / "fresh"
    shutil.copytree(base, folder)
    fresh.mkdir()
    expected = run(fresh, edit)
    told = run(folder, edit)
    again = [line for text in told.texts for line in text.splitlines() if "runs again" in line]

    assert again == [f"{cell} runs again: {why} changed" for cell, why in edit.again.items()]
    assert told.errors == expected.errors == [""] * len(expected.errors)
    assert told.variables == expected.variables
