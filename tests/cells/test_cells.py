"""Durable cells: what the next kernel finds, and what a cell is refused for. Each life is a process of its own."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.cells.life import Told, live
from tests.cells.world import Kill

IMPORTS = "import durable, random, numpy as np, pandas as pd\nfrom tests.cells.world import effect"
LOOP = """%%durable train
losses, weights = [], np.zeros(3)
for epoch in durable.each(range(6), every_seconds=0):
    weights += np.random.rand(3)
    losses.append(float(weights.sum()))
    effect(f"pass {epoch}")
    print("pass", epoch)
else:
    print("at the end")
"""


class Notebook:
    """A folder with the file of a notebook, and its lives."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *cells: str, kill: Kill | None = None) -> Told:
        told = self.kill(cells, kill or Kill())
        assert told is not None, "it was killed"
        return told

    def kill(self, cells: Sequence[str], kill: Kill) -> Told | None:
        return live(self.folder, [IMPORTS, *cells], kill)

    def dies(self, *cells: str, after_effect: int | None = None, crash_at: str | None = None) -> None:
        kill = Kill(crash_at=crash_at) if after_effect is None else Kill("effect", after_effect)
        assert self.kill(cells, kill) is None, "it was not killed"

    def effects(self) -> list[str]:
        path = self.folder / "effects"
        return path.read_text().splitlines() if path.exists() else []

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.folder / "a notebook.durable.db")) as db:
            return db.execute(sql).fetchall()


@pytest.fixture
def notebook(tmp_path: Path) -> Notebook:
    folder = tmp_path / "a folder"
    folder.mkdir()
    return Notebook(folder)


def only(told: Told) -> tuple[str, str]:
    """Return the text and the error of the last cell."""
    return told.texts[-1], told.errors[-1]


# ---- 1. a cell that is done does not run again


def test_a_cell_that_is_done_brings_back_names_output_and_random_state(notebook: Notebook) -> None:
    cell = """%%durable make
effect("make")
numbers = [random.random(), np.random.rand()]
rng = np.random.default_rng()
print("made")
pd.DataFrame({"a": [1, 2]})"""
    after = "later = [random.random(), float(np.random.rand()), float(rng.random())]"
    first, second, third = (notebook(cell, after) for _ in range(3))

    assert first == second == third
    assert "made" in first.texts[1]
    assert notebook.effects() == ["make"]


def test_run_again_in_the_same_kernel_it_does_not_run(notebook: Notebook) -> None:
    cell = "%%durable count\nn = 1\neffect('count')\nn += 1"
    told = notebook(cell, cell, "n += 10", cell, "n")

    assert told.variables["n"] == 2
    assert notebook.effects() == ["count"]


def test_without_a_file_the_first_cell_is_refused_with_what_to_write(notebook: Notebook) -> None:
    told = live(notebook.folder, ["%reload_ext durable", "%%durable a\nx = 1"])

    assert told is not None
    assert "%durable file analysis.durable.db" in told.errors[-1]


# ---- 2. inputs


def test_other_code_runs_again_and_says_so_but_not_other_comments_and_spacing(notebook: Notebook) -> None:
    first = notebook("%%durable a\nx = effect('one')")
    same = notebook("%%durable a\n# a comment\nx  =  effect( 'one' )\n")
    other = notebook("%%durable a\nx = effect('two')")

    assert first.texts[-1] == same.texts[-1] == ""
    assert other.texts[-1] == "a runs again: its code changed\n"
    assert other.variables["x"] == "TWO"
    assert notebook.effects() == ["one", "two"]
    assert len(notebook.rows("select * from attempts where workflow_id = 'a'")) == 1


def test_an_input_is_compared_by_content(notebook: Notebook) -> None:
    cell = "%%durable a\ntotal = effect(str(df['a'].sum() * scale))"
    notebook("df = pd.DataFrame({'a': [1, 2]}); scale = 2", cell)
    same = notebook("df = pd.DataFrame({'a': [1, 2]}); scale = 2", cell)
    other = notebook("df = pd.DataFrame({'a': [1, 3]}); scale = 3", cell)

    assert same.texts[-1] == ""
    assert other.texts[-1] == "a runs again: df and scale changed\n"
    assert notebook.effects() == ["6", "12"]


def test_functions_and_classes_are_inputs_with_all_that_they_read(notebook: Notebook) -> None:
    helpers = "RATE = 2\ndef helper(x): return inner(x) * RATE\ndef inner(x): return x + 1"
    cell = "%%durable a\nvalue = effect(str(helper(3)))"
    notebook(helpers, cell)
    same = notebook(f"# moved\n\n{helpers}", cell)
    rate = notebook(helpers.replace("RATE = 2", "RATE = 3"), cell)
    inner = notebook(helpers.replace("RATE = 2", "RATE = 3").replace("x + 1", "x + 2"), cell)

    assert [told.texts[-1] for told in (same, rate, inner)] == [
        "",
        "a runs again: RATE changed\n",
        "a runs again: inner changed\n",
    ]
    assert notebook.effects() == ["8", "12", "15"]


def test_a_changed_method_of_an_instance_is_a_changed_input(notebook: Notebook) -> None:
    made = "class Model:\n    def fit(self): return 1\nmodel = Model()"
    cell = "%%durable a\nfitted = effect(str(model.fit()))"
    notebook(made, cell)
    told = notebook(made.replace("return 1", "return 2"), cell)

    assert told.texts[-1] == "a runs again: Model changed\n"
    assert notebook.effects() == ["1", "2"]


def test_a_file_is_compared_by_content(notebook: Notebook) -> None:
    data = notebook.folder / "data.csv"
    cell = "%%durable load\ndf = pd.read_csv(durable.input('data.csv')); _ = effect('load')"
    data.write_text("a\n1\n")
    notebook(cell)
    os.utime(data, (0, 0))
    same = notebook(cell)
    data.write_text("a\n2\n")
    other = notebook(cell)

    assert same.texts[-1] == ""
    assert other.texts[-1] == "load runs again: file 'data.csv' changed\n"
    assert notebook.effects() == ["load", "load"]


def test_what_a_cell_bound_itself_in_this_kernel_is_no_change(notebook: Notebook) -> None:
    cell = "%%durable a\nif effect('a') == 'A':\n    x = 1\ny = x"
    told = notebook(cell, cell)

    assert told.errors[-2:] == ["", ""]
    assert told.texts[-2:] == ["", ""]
    assert notebook.effects() == ["a"]


def test_a_cell_downstream_runs_again_after_the_one_before_made_something_else(notebook: Notebook) -> None:
    cells = ["%%durable a\nx = SCALE * 2", "%%durable b\ny = x + 1", "%%durable c\nz = 7"]
    notebook("SCALE = 1", *cells)
    told = notebook("SCALE = 2", *cells)

    assert told.texts[-3:] == ["a runs again: SCALE changed\n", "b runs again: x changed\n", ""]
    assert told.variables["y"] == 5


# ---- 3. what has no exact form


@pytest.mark.parametrize(
    "made",
    ["open('effects', 'a')", "iter([1])", "__import__('threading').Lock()", "__import__('sqlite3').connect('x')"],
)
def test_an_input_without_content_is_refused_by_name_before_the_cell_runs(notebook: Notebook, made: str) -> None:
    told = notebook(f"import sqlite3, threading\nthing = {made}", "%%durable a\neffect('a')\nthing")

    assert told.errors[-1].startswith("CellError: cell 'a': it has not run, since what it reads has no content")
    assert "thing (" in told.errors[-1]
    assert "--drop thing" in told.errors[-1]
    assert ("--pickle thing" in told.errors[-1]) is made.startswith("iter")  # the others have no pickle
    assert notebook.effects() == []


def test_a_dropped_input_is_not_compared(notebook: Notebook) -> None:
    cell = "%%durable a --drop thing\neffect('a')\nx = next(thing)"
    notebook("thing = iter([1])", cell)
    told = notebook("thing = iter([2])", cell)

    assert told.variables["x"] == 1


def test_a_result_without_exact_form_is_refused_by_name_and_stays_in_the_kernel(notebook: Notebook) -> None:
    cell = "%%durable a\neffect('a')\nx = 1\nlock = __import__('threading').Lock()\nheld = {'in': [iter([1])]}"
    told = notebook(cell, "x")
    again = notebook(cell)
    dropped = notebook(cell.replace("%%durable a", "%%durable a --pickle held --drop lock"))

    assert told.variables["x"] == 1
    assert "held['in'][0] (builtins.list_iterator): it has no exact form" in told.errors[-2]
    assert "lock (_thread.lock)" in told.errors[-2]
    assert "write %%durable a --pickle held --drop lock at its top" in told.errors[-2]
    assert again.errors[-1] == told.errors[-2]
    assert dropped.errors[-1] == ""
    assert notebook.effects() == ["a"] * 3


def test_pickle_keeps_one_variable_by_pickle(notebook: Notebook) -> None:
    cell = "%%durable a --pickle found\neffect('a')\nimport re\nfound = re.compile('a+')"
    after = "%%durable b\nhit = bool(found.match('aa'))"
    notebook(cell, after)
    told = notebook(cell, after)

    assert told.errors == [""] * 3
    assert told.variables["hit"] is True
    assert notebook.effects() == ["a"]


def test_a_pickled_variable_with_a_generator_that_comes_back_is_no_change(notebook: Notebook) -> None:
    cells = [
        "class Model:\n    def __init__(self, chance): self.chance = chance",
        "%%durable a --pickle model\nchance = np.random.RandomState(3)\nmodel = Model(chance)",
        "%%durable b\neffect('b')\ndrawn = float(model.chance.rand())",
        "later = [model.chance is chance, float(chance.rand())]",
    ]
    told = [notebook(*cells) for _ in range(3)]

    assert told[0] == told[1] == told[2]
    assert notebook.effects() == ["b"]


def test_a_closed_file_and_a_figure_are_refused_with_the_line_that_keeps_the_rest(notebook: Notebook) -> None:
    plot = "import matplotlib.pyplot as plt"
    cell = """%%durable plot
with open("lines.txt", "w") as file:
    _ = file.write("1 2 3")
figure, axes = plt.subplots()
_ = axes.plot([1, 2, 3])
points = effect("points")"""
    line = "%%durable plot --drop axes,figure,file"
    refused = notebook(plot, cell)
    told = [notebook(plot, cell.replace("%%durable plot", line), "points") for _ in range(2)]

    assert "file (_io.TextIOWrapper): it has no exact form" in refused.errors[-1]
    assert f"write {line} at its top" in refused.errors[-1]
    assert [(each.errors, each.variables["points"]) for each in told] == [([""] * 4, "POINTS")] * 2
    assert notebook.effects() == ["points"] * 2


def test_nothing_is_unpickled_once_the_cell_no_longer_asks_for_it(notebook: Notebook) -> None:
    cell = "%%durable a --pickle found\nimport re\nfound = re.compile('a+')"
    notebook(cell)
    told = notebook(cell.replace(" --pickle found", ""))

    assert "it holds pickled variables, and no --pickle names them" in told.errors[-1]


# ---- 4. aliases


def test_what_variables_share_is_shared_again(notebook: Notebook) -> None:
    cells = [
        "%%durable a\n_items = items = [1]\nboth = {'x': items, 'y': [items, (items, {2})]}\nring = []",
        "%%durable b\nring.append(ring)\nitems.append(2)\nalias = both['y']\narray = np.zeros(2)\nagain = [array]",
        "array[0] = 7; items.append(3)",
    ]
    first, second = notebook(*cells), notebook(*cells)

    assert first == second
    check = notebook(
        *cells, "seen = [_items is items, both['x'] is items, alias is both['y'], again[0] is array, ring[0] is ring]"
    )
    assert check.variables["seen"][1:] == [True] * 5


def test_two_views_of_one_array_are_refused_by_name(notebook: Notebook) -> None:
    told = notebook("%%durable a\nx = np.arange(6)\ny = x[:3]")

    assert "it is a view of the same memory as 'x'; copy one" in told.errors[-1]


def test_an_input_that_is_not_changed_stays_the_same_object(notebook: Notebook) -> None:
    cells = ["%%durable a\ndf = pd.DataFrame({'a': [1]})", "%%durable b\nkept = {'df': df}", "same = kept['df'] is df"]
    told = [notebook(*cells) for _ in range(2)]

    assert [each.variables["same"] for each in told] == [True, True]


def test_a_change_through_another_name_is_kept(notebook: Notebook) -> None:
    cells = [
        "%%durable a\nshared = [1]\nholder = {'in': shared}",
        "%%durable b\nshared.append(2)",
        "seen = [holder['in'], holder['in'] is shared]",
    ]
    told = [notebook(*cells) for _ in range(2)]

    assert [each.variables["seen"][2] for each in told] == [True, True]
    assert told[0] == told[1]


# ---- 5. imports, functions and classes


def test_imports_functions_and_classes_are_always_executed(notebook: Notebook) -> None:
    cell = """%%durable a
import math as m
SCALE = 3
class Point:
    def __init__(self, x): self.x = x
    def twice(self): return self.x * 2
def scaled(x, by=SCALE): return x * by
double = lambda x: x * 2
p = Point(4)
effect("a")"""
    after = "seen = [m.floor(2.5), p.twice(), scaled(2), double(5), type(p) is Point]"
    told = [notebook(cell, after) for _ in range(2)]

    assert told[0] == told[1]
    assert told[1].variables["seen"][1:] == [2, 8, 6, 10, True]
    assert notebook.effects() == ["a"]


# ---- 6. loops


@pytest.mark.parametrize("killed_after", range(6))
def test_a_loop_goes_on_with_the_pass_that_was_not_saved(tmp_path: Path, killed_after: int) -> None:
    notebook = Notebook(tmp_path)
    seed = "np.random.seed(3)"
    control = Notebook(tmp_path / "control")
    control.folder.mkdir()
    expected = control(seed, LOOP)
    notebook.dies(seed, LOOP, after_effect=killed_after)
    told = notebook(seed, LOOP)

    assert told == expected
    repeated = [f"pass {killed_after}"]
    assert sorted(notebook.effects()) == sorted([f"pass {number}" for number in range(6)] + repeated)


@pytest.mark.parametrize("moment", ["started", "executed", "checkpointed"])
@pytest.mark.parametrize("step", ["pass_1", "pass_4", "pass_7"])
def test_a_kill_within_a_save_loses_one_pass_at_most(notebook: Notebook, step: str, moment: str) -> None:
    notebook.dies("np.random.seed(3)", LOOP, crash_at=f"{step}:{moment}")
    told = notebook("np.random.seed(3)", LOOP)
    shutil.rmtree(notebook.folder)
    notebook.folder.mkdir()

    assert told == notebook("np.random.seed(3)", LOOP)


CELLS_WITH_LOOPS = {
    "nested": """
rows = []
for i in durable.each(range(3), every_seconds=0):
    row = []
    rows.append(row)
    for j in durable.each(range(3), every_seconds=0):
        row.append(np.random.rand())
        effect(f"{i}.{j}")
        print(i, j)
    row.append(-1)
""",
    "two loops": """
a = b = 0
for i in durable.each(range(3), every_seconds=0):
    a += np.random.rand(); effect(f"a{i}")
between = a * 2
print("between", between)
for j in durable.each(range(3), every_seconds=0):
    b += between; effect(f"b{j}")
""",
    "break and continue": """
seen, ended = [], False
for i in durable.each(range(9), every_seconds=0):
    if i == 1:
        continue
    seen.append(i); effect(f"a{i}")
    if i == 4:
        seen.append("left")
        break
else:
    ended = True
for j in durable.each(range(2), every_seconds=0):
    seen.append(j); effect(f"b{j}")
""",
    "caught": """
told = []
try:
    for i in durable.each(range(5), every_seconds=0):
        told.append(i); effect(f"a{i}")
        if i == 2:
            raise ValueError("at two")
except ValueError as error:
    told.append(str(error))
for j in durable.each(range(2), every_seconds=0):
    told.append(j); effect(f"b{j}")
""",
    "in a function": """
kept = []
def loop(many):
    for i in durable.each(range(many), every_seconds=0):
        kept.append(i); effect(f"{many}:{i}")
loop(2)
loop(3)
""",
    "inner break": """
out = []
for i in durable.each(range(3), every_seconds=0):
    for j in durable.each(range(5), every_seconds=0):
        out.append((i, j)); effect(f"{i}.{j}")
        if j == i:
            break
    else:
        out.append("never")
""",
}


@pytest.mark.thorough
@pytest.mark.parametrize("name", CELLS_WITH_LOOPS)
def test_loops_end_alike_wherever_they_are_killed(tmp_path: Path, name: str) -> None:
    cells = ["np.random.seed(5)", f"%%durable work{CELLS_WITH_LOOPS[name]}"]
    control = Notebook(tmp_path / "control")
    control.folder.mkdir()
    expected = control(*cells)
    effects = control.effects()
    assert not any(expected.errors)
    for killed_after in range(len(effects)):
        notebook = Notebook(tmp_path / f"killed {killed_after}")
        notebook.folder.mkdir()
        notebook.dies(*cells, after_effect=killed_after)
        told = notebook(*cells)

        assert told == expected, killed_after
        assert len(notebook.effects()) <= len(effects) + 1 + (name == "caught"), notebook.effects()


def test_the_kernel_may_die_again_and_again(notebook: Notebook) -> None:
    for _ in range(3):
        notebook.dies("np.random.seed(3)", LOOP, after_effect=1)
    told = notebook("np.random.seed(3)", LOOP)

    assert told.texts[-1] == "".join(f"pass {number}\n" for number in range(6)) + "at the end\n"
    assert len(notebook.effects()) == 9


def test_each_saves_seldom_by_default(notebook: Notebook) -> None:
    notebook("%%durable a\nfor i in durable.each(range(200)):\n    x = i")

    assert len(notebook.rows("select * from steps where workflow_id = 'a'")) <= 3


def test_a_loop_around_another_saves_seldom_too_if_that_is_dear(notebook: Notebook) -> None:
    ticks = """import durable.cells.loops as _loops, itertools, types
_loops.time = types.SimpleNamespace(monotonic=itertools.count().__next__)  # a save takes a tick, and so does a pass"""
    notebook(
        ticks,
        """%%durable a
seen = []
for i in durable.each(range(30)):
    for j in durable.each(range(2)):
        seen.append((i, j))""",
    )

    assert len(notebook.rows("select * from steps where workflow_id = 'a'")) <= 12


def test_map_keeps_each_item_and_calls_the_others_again(notebook: Notebook) -> None:
    cell = """%%durable scrape
def fetch(url):
    effect(url)
    return {"url": url, "size": len(url)}
pages = durable.map(fetch, ["a", "bb", "ccc", "dddd"], max_concurrent=1)
print(len(pages))"""
    notebook.dies(cell, after_effect=2)
    told = notebook(cell)
    again = notebook(cell)

    assert told == again
    assert told.texts[-1] == "4\n"
    assert notebook.effects()[:3] == ["a", "bb", "ccc"]
    assert len(notebook.effects()) <= 5


def test_map_within_a_pass_that_was_saved_is_not_called_again(notebook: Notebook) -> None:
    cell = """%%durable scrape
found = []
for batch in durable.each([["a", "b"], ["c", "d"]], every_seconds=0):
    found += durable.map(effect, batch, max_concurrent=1)"""
    notebook.dies(cell, after_effect=3)
    told = notebook(cell)

    assert told.variables["found"][1:] == ["A", "B", "C", "D"]
    assert sorted(notebook.effects()) in (["a", "b", "c", "d"], ["a", "b", "c", "d", "d"])


# ---- 7. output is tested with a real kernel, in test_kernel.py


def test_a_progress_bar_keeps_its_last_state(notebook: Notebook) -> None:
    cell = "%%durable a\nfor i in range(3):\n    print(f'\\r{i} of 3', end='')\nprint()\nprint('done')"
    notebook(cell)

    assert notebook(cell).texts[-1] == "2 of 3\ndone\n"


def test_a_semicolon_at_the_end_hides_the_last_value(notebook: Notebook) -> None:
    cell = "%%durable a\n1 + 1;  # hidden\n"

    assert [notebook(cell).texts[-1] for _ in range(2)] == ["", ""]


# ---- 8. exceptions, crashes


def test_an_exception_is_no_outcome(notebook: Notebook) -> None:
    cell = "%%durable a\neffect('a')\nx = 1 / len(__import__('os').environ.get('FINE', ''))"
    first = notebook(cell)
    second = notebook(cell)

    assert first.errors[-1] == second.errors[-1] == "ZeroDivisionError: division by zero"
    assert notebook.effects() == ["a", "a"]


def test_an_exception_keeps_the_passes_that_were_saved(notebook: Notebook) -> None:
    cell = LOOP.replace('effect(f"pass {epoch}")', 'effect(f"pass {epoch}"); stop = 1 / (epoch - FAILS)')
    fails = "FAILS = [3]"
    cell = cell.replace("FAILS)", "FAILS[0])").replace("%%durable train", "%%durable train --drop FAILS")
    first = notebook(fails, cell)
    second = notebook("FAILS = [99]", cell)

    assert first.errors[-1].startswith("ZeroDivisionError")
    assert second.errors[-1] == ""
    assert notebook.effects() == ["pass 0", "pass 1", "pass 2", "pass 3", "pass 3", "pass 4", "pass 5"]


def test_ctrl_c_keeps_the_passes_that_were_saved(notebook: Notebook) -> None:
    stop = """import os, signal
def stop(epoch):
    if epoch == 3 and not os.path.exists('stopped'):
        open('stopped', 'w').close(); os.kill(os.getpid(), signal.SIGINT)"""
    cell = LOOP.replace('print("pass", epoch)', 'stop(epoch); print("pass", epoch)')
    told = notebook("np.random.seed(3)", stop, cell, cell)

    assert told.errors[-2:] == ["KeyboardInterrupt: ", ""]
    assert notebook.effects() == ["pass 0", "pass 1", "pass 2", "pass 3", "pass 3", "pass 4", "pass 5"]


def test_ctrl_c_in_a_loop_that_changes_an_input_in_place_goes_on_with_that(notebook: Notebook) -> None:
    stop = """import os, signal
def stop(number):
    if number == 3 and not os.path.exists('stopped'):
        open('stopped', 'w').close(); os.kill(os.getpid(), signal.SIGINT)"""
    cell = """%%durable grow
for number in durable.each(range(5), every_seconds=0):
    rows.append(number); effect(f"grow {number}")
    stop(number)"""
    told = notebook("rows = ['first']", stop, cell, cell)
    again = notebook("rows = ['first']", stop, cell)

    assert told.errors[-2:] == ["KeyboardInterrupt: ", ""]
    assert told.variables["rows"][1:] == again.variables["rows"][1:] == ["first", 0, 1, 2, 3, 4]
    assert notebook.effects().count("grow 1") == 1


def test_a_cell_that_killed_its_kernel_three_times_says_so(notebook: Notebook) -> None:
    cell = "%%durable bad\neffect('bad')"
    for _ in range(3):
        notebook.dies(cell, after_effect=0)
    told = notebook(cell)
    retried = notebook("%%durable bad --retry\neffect('bad')")

    assert "has ended its kernel 3 times without a new checkpoint" in told.errors[-1]
    assert retried.errors[-1] == ""
    assert len(notebook.effects()) == 4


# ---- 9. the status, forget, off, a second kernel


def test_the_status_tells_what_is_done_partly_done_and_changed(notebook: Notebook) -> None:
    notebook("SCALE = 1", "%%durable a\nx = SCALE", "%%durable c\nbig = np.zeros(500_000)")
    notebook.dies(LOOP, after_effect=3)
    told = notebook("SCALE = 1", "%%durable a\nx = SCALE", "SCALE = 2", "%durable")
    lines = [line.split() for line in told.texts[-1].splitlines()]

    assert lines[0] == ["cell", "state", "size", "age"]
    assert [line[0] for line in lines[1:]] == ["a", "c", "train"]
    assert lines[1][1:3] == ["changed:", "SCALE"]
    assert lines[2][1] == "done"
    assert lines[2][2:4] == ["4.0", "MB"]
    assert lines[3][1:5] == ["partly", "done:", "pass", "3"]


def test_a_forgotten_cell_runs_again(notebook: Notebook) -> None:
    cell = "%%durable a\n_ = durable.map(effect, ['x'])"
    told = notebook(cell, "%durable forget b", "%durable forget a", cell)

    assert "no cell 'b' is on record" in told.errors[2]
    assert notebook.effects() == ["x", "x"]


def test_off_runs_durable_cells_as_ordinary_ones(notebook: Notebook) -> None:
    told = notebook("%durable off", "%%durable a\nx = effect('a')\nprint(x)", "%%durable a\n1 / 0")

    assert told.texts[2] == "A\n"
    assert told.errors[3] == "ZeroDivisionError: division by zero"
    assert notebook.rows("select id from workflows where id = 'a'") == []


def test_a_second_kernel_is_refused_with_the_pid(notebook: Notebook) -> None:
    path = notebook.folder / "a notebook.durable.db"
    cell = f"""import subprocess, sys
program = '''
from pathlib import Path
from IPython.core.interactiveshell import InteractiveShell
from durable.cells.notebook import Notebook
Notebook(Path({str(path)!r}), InteractiveShell.instance())
'''
told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120).stderr
mine = __import__("os").getpid()
seen = f"is open in another kernel, process {{mine}}" in told"""
    told = notebook(cell)

    assert told.variables["seen"] is True, told.variables["told"]


# ---- 10. awaits and magics


def test_top_level_await_works_with_each(notebook: Notebook) -> None:
    cell = """%%durable a
import asyncio
got = []
for i in durable.each(range(3), every_seconds=0):
    await asyncio.sleep(0)
    got.append(await asyncio.sleep(0, effect(f"{i}")))
got"""
    notebook.dies(cell, after_effect=1)
    told = notebook(cell)

    assert told.errors[-1] == ""
    assert told.variables["got"][1:] == ["0", "1", "2"]
    assert notebook.effects() == ["0", "1", "1", "2"]


def test_a_cell_magic_within_is_refused_and_a_line_magic_is_run(notebook: Notebook) -> None:
    refused = notebook("%%durable a\n%%time\nx = 1")
    told = notebook("%%durable b\n%precision 3\ny = 2\nfound = !echo hello")

    assert "it holds a cell magic" in refused.errors[-1]
    assert told.errors[-1] == ""
    assert told.variables["y"] == 2
