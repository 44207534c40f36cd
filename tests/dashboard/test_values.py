"""What people see of values: in words where many are listed, as a table where one is asked for, never by pickle."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import pytest

from durable import Context, Engine, formats, lab
from durable.dashboard.drawn.page import write_report
from durable.dashboard.snapshot import read_question, take
from durable.dashboard.values import Table, look, tell
from durable.errors import CorruptionError, SerializationError, StepNotFoundError, WorkflowNotFoundError
from durable.store.reader import Reader
from durable.values.codec import PLAIN
from durable.values.formats import registry
from tests.support.command_line import COMMAND_SECONDS, durable, error_of

HOSTILE = "<img src=x onerror=alert(1)>\x1b[31m"
ROWS = 200_000
TEXTS = str(pd.Series(["a"]).dtype)  # pandas 3 has a type for it
LARGE = f"frame/1, {{}} bytes: {ROWS} rows x 2 columns: number int64, {HOSTILE} float64"


class Trap:
    """Makes a folder when it is unpickled; so does the one who must not."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return spring, (self.path,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Trap) and other.path == self.path

    __hash__ = None  # type: ignore[assignment]


def spring(path: str) -> Trap:
    Path(path).mkdir(exist_ok=True)
    return Trap(path)


def large_frame() -> pd.DataFrame:
    return pd.DataFrame({"number": np.arange(ROWS), HOSTILE: np.full(ROWS, 0.5)})


def two_parts() -> dict[str, Any]:
    return {"cities": pd.DataFrame({"city": ["Rome", "Oslo"]}, index=pd.Index([7, 8], name="id")), "count": 2}


def mean() -> Any:
    return np.float64(0.25)


def matrix() -> Any:
    return np.arange(6).reshape(2, 3)


def cube() -> Any:
    return np.zeros((1, 1, 2))


def trap(path: str) -> Annotated[Trap, formats.Pickled]:
    return Trap(path)


def plain() -> list[str]:
    return ["plain"]


def fail() -> None:
    raise ValueError("out of paper")


def flow(ctx: Context, path: str) -> pd.DataFrame:
    for step in (large_frame, two_parts, mean, matrix, cube, plain):
        ctx.step(step)
    ctx.step(trap, path)
    ctx.publish("cities", two_parts()["cities"])
    try:
        ctx.step(fail)
    except ValueError:
        return ctx.step("end", lambda: two_parts()["cities"])
    raise AssertionError


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A file with values of each kind, and the folder that appears when the pickle is read."""
    folder = tmp_path_factory.mktemp("a folder")
    with Engine(folder / "workflow.db") as engine:
        engine.run("wf", flow, str(folder / "sprung"))
    (folder / "sprung").rmdir()
    return folder


@pytest.fixture
def database(world):
    yield world / "workflow.db"
    assert not (world / "sprung").exists()  # whatever was shown


@pytest.fixture
def without_parts(database, tmp_path):
    """The same file, and no large value in it: a list that reads one would raise CorruptionError."""
    copy = tmp_path / "workflow.db"
    with closing(sqlite3.connect(database)) as old, closing(sqlite3.connect(copy)) as new:
        old.backup(new)
        new.execute("delete from value_parts")
        new.commit()
    return copy


def stored(path, key):
    with Reader(path) as reader:
        return {step.step_key: step.output for step in reader.steps("wf")}[key]


def parts_of(path, key, most_bytes=None):
    with Reader(path) as reader:
        return look(stored(path, key), reader.get_value, most_bytes)


def size_of(path, key):
    return f"{json.loads(stored(path, key))['bytes']:,}"


# ---- in a list


def test_a_list_tells_format_size_and_preview_and_reads_no_large_value(without_parts) -> None:
    steps = lab.steps(without_parts, "wf")

    assert steps.output["large_frame_1"] == LARGE.format(size_of(without_parts, "large_frame_1"))
    assert steps.output["two_parts_2"]["count"] == 2
    assert steps.output["two_parts_2"]["cities"].startswith("<frame/1, ")
    assert steps.output["two_parts_2"]["cities"].endswith(f" bytes: 2 rows x 1 columns: city {TEXTS}>")
    assert steps.output["mean_3"] == 'scalar/1: {"float64":0.25}'
    assert steps.output["plain_6"] == ["plain"]
    assert steps.output["trap_7"].startswith("pickle/1, ")
    assert lab.history(without_parts, "wf").output["large_frame_1", 1] == steps.output["large_frame_1"]
    assert lab.workflows(without_parts).output["wf"].startswith("frame/1, ")


def test_the_terminal_the_dashboard_and_a_report_tell_the_same(without_parts, tmp_path) -> None:
    words = LARGE.format(size_of(without_parts, "large_frame_1")).replace("\x1b", "\\x1b")
    wide = os.environ | {"COLUMNS": "300"}
    listed = durable("steps", "wf", "--db", str(without_parts), env=wide).stdout
    with Reader(without_parts) as reader:
        shown = take(reader, read_question({"open": "wf"}))["open"]
        with (tmp_path / "report.html").open("w", encoding="utf-8") as out:
            write_report(reader, out, 10)
    step = next(each for each in shown["steps"] if each["key"] == "large_frame_1")

    assert words in listed
    assert step["output"]["text"] == words.replace("\\x1b", "\x1b")
    assert step["short"]["text"] in step["output"]["text"]
    assert shown["published"][0]["value"]["text"].endswith(f"2 rows x 1 columns: city {TEXTS}")
    assert f"{ROWS} rows x 2 columns" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<img" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_dashboard_reads_the_one_value_that_is_asked_for_and_once(database, tmp_path) -> None:
    copy = tmp_path / "workflow.db"
    with closing(sqlite3.connect(database)) as old, closing(sqlite3.connect(copy)) as new:
        old.backup(new)
    question = read_question({"open": "wf", "value": "large_frame_1"})
    with Reader(copy) as reader:
        first = {step["key"]: step for step in take(reader, question)["open"]["steps"]}
        with closing(sqlite3.connect(copy)) as connection:
            connection.execute("delete from value_parts")
            connection.commit()
        again = {step["key"]: step for step in take(reader, question)["open"]["steps"]}
        other = take(reader, read_question({"open": "wf", "value": "matrix_4"}))["open"]["steps"]
        damaged = take(reader, question)["open"]["steps"][0]["parts"]

    assert first == again == json.loads(json.dumps(first))
    assert first["large_frame_1"]["parts"][0]["table"]["rows"][-1] == [str(ROWS - 1), str(ROWS - 1), "0.5"]
    assert [key for key, step in first.items() if step["parts"] is not None] == ["large_frame_1"]
    assert [key for key, step in first.items() if not step["has_parts"]] == ["plain_6", "fail_9"]
    assert [step["key"] for step in other if step["parts"]] == ["matrix_4"]
    assert "missing or does not match its hash" in damaged[0]["text"]


@pytest.mark.parametrize("text", ['"plain"', "[1,2.5]", "null", '{"a":"{\\"$value\\":1}"}'])
def test_a_value_without_formatted_parts_is_told_as_it_is_stored(text) -> None:
    assert tell(text) == text
    assert look(text, None) == []


# ---- one that is asked for


def test_a_frame_is_shown_by_its_ends_with_the_types_of_its_columns(database) -> None:
    [part] = parts_of(database, "large_frame_1")

    ends = [*range(5), *range(ROWS - 5, ROWS)]
    rows = [[str(number), str(number), "0.5"] for number in ends]
    rows.insert(5, ["...", "...", "..."])
    assert part.table == Table(["", "number", HOSTILE], ["int64", "int64", "float64"], rows)


def test_each_part_of_a_value_is_shown_at_its_place(database) -> None:
    [part] = parts_of(database, "two_parts_2")

    assert part.place == "$.cities"
    assert part.table == Table(["id", "city"], ["int64", TEXTS], [["7", "Rome"], ["8", "Oslo"]])


def test_an_array_is_a_table_if_it_has_two_dimensions_and_else_text(database) -> None:
    rows = [["0", "0", "1", "2"], ["1", "3", "4", "5"]]

    assert parts_of(database, "matrix_4")[0].table == Table(["", "0", "1", "2"], ["", *["int64"] * 3], rows)
    assert parts_of(database, "cube_5")[0][2:] == (None, "array([[[0., 0.]]])")
    assert parts_of(database, "mean_3")[0].text == "np.float64(0.25)"


def test_the_middle_of_a_wide_table_is_left_out_and_long_cells_are_cut() -> None:
    frame = pd.DataFrame([["x" * 100] * 100])
    [part] = look(PLAIN.encode(frame, "it"), None)

    assert part.table is not None
    assert part.table.columns == ["", *"012345", "...", *map(str, range(94, 100))]
    assert part.table.rows[0][1] == f"{'x' * 37}..."


def test_a_value_saved_by_pickle_is_never_read_to_be_shown_whoever_registers_it(database, monkeypatch) -> None:
    monkeypatch.setattr(registry, "_named", {"pickle/1": formats.Pickled()})
    within = {"x": json.loads(stored(database, "trap_7"))}

    for text in (json.dumps(within), stored(database, "trap_7")):
        [part] = look(text, None)
        assert "saved by pickle, and not read to be shown" in part.text
    said = durable("steps", "wf", "--db", str(database), "--value", "trap_7").stdout
    assert "not shown: a value saved by pickle" in said


def test_a_part_that_cannot_be_read_says_why() -> None:
    text = '{"$value":{"a":1},"format":"unheard/1"}'

    assert "saved in the format 'unheard/1', and none is registered" in look(text, None)[0].text


def test_a_value_that_is_too_large_for_its_place_is_not_read(without_parts) -> None:
    [part] = parts_of(without_parts, "large_frame_1", 1000)

    assert part.text == "not shown: a value of more than 1,000 bytes, and not read here; lab.value reads it"


def test_a_damaged_value_is_an_error_and_not_a_table(without_parts) -> None:
    with pytest.raises(CorruptionError, match="missing or does not match its hash"):
        parts_of(without_parts, "large_frame_1")

    said = error_of("steps", "wf", "--db", str(without_parts), "--value", "large_frame_1")
    assert said.startswith("error: step 'large_frame_1' of 'wf': its large value ")


# ---- in the terminal


def test_the_terminal_prints_a_frame_as_a_table_without_control_characters(database) -> None:
    lines = durable("steps", "wf", "--db", str(database), "--value", "large_frame_1").stdout.splitlines()

    hostile = HOSTILE.replace("\x1b", "\\x1b")
    assert lines[0] == LARGE.format(size_of(database, "large_frame_1")).replace(HOSTILE, hostile)
    table = [line.split() for line in lines if line.strip() and not set(line) <= {"─", " "}][1:]
    assert table[0] == ["number", *hostile.split()]
    assert table[1] == ["int64", "int64", "float64"]
    assert table[2:4] == [["0", "0", "0.5"], ["1", "1", "0.5"]]
    assert table[-1] == [str(ROWS - 1), str(ROWS - 1), "0.5"]
    assert len(table) == 2 + 11


def test_the_terminal_prints_the_parts_of_a_value_after_the_whole(database) -> None:
    said = durable("steps", "wf", "--db", str(database), "--value", "two_parts_2").stdout
    exact = durable("steps", "wf", "--db", str(database), "--value", "two_parts_2", "--json").stdout

    assert '"count": 2' in said
    assert said.index('"count": 2') < said.index("$.cities: frame/1") < said.index("Oslo")
    assert json.loads(exact) == json.loads(stored(database, "two_parts_2"))


def test_the_terminal_prints_plain_values_and_names_steps_without_one(database) -> None:
    place = ("--db", str(database))

    assert json.loads(durable("steps", "wf", *place, "--value", "plain_6").stdout) == ["plain"]
    assert "did you mean 'plain_6'?" in error_of("steps", "wf", *place, "--value", "plan_6")
    assert "step 'fail_9' of 'wf' is failed and has no value" in error_of("steps", "wf", *place, "--value", "fail_9")
    assert "Rome" in durable("read", "wf", "cities", *place).stdout


def test_the_terminal_describes_a_recorded_result_and_published_values(database) -> None:
    place = ("--db", str(database))
    ran = durable("run", "tests.dashboard.test_values:flow", "wf", *place).stdout
    watched = durable("watch", "wf", *place).stdout

    ending = f" bytes: 2 rows x 1 columns: city {TEXTS}\n"
    assert ran.startswith("workflow wf was completed before, nothing ran; its recorded result: frame/1, ")
    assert ran.endswith(ending)
    assert "  cities: frame/1, " in watched
    assert ending in watched


# ---- in the lab


def test_the_lab_returns_the_value_itself(database, world) -> None:
    pd.testing.assert_frame_equal(lab.value(database, "wf", "large_frame_1"), large_frame())
    pd.testing.assert_frame_equal(lab.value(database, "wf"), two_parts()["cities"])
    assert type(lab.value(database, "wf", "mean_3")) is np.float64
    assert lab.value(database, "wf", "plain_6", type=tuple[str]) == ("plain",)
    with pytest.raises(SerializationError, match="saved by pickle"):
        lab.value(database, "wf", "trap_7")
    assert not (world / "sprung").exists()

    assert isinstance(lab.value(database, "wf", "trap_7", type=Annotated[Trap, formats.Pickled]), Trap)
    (world / "sprung").rmdir()  # it was read, since the code asked for it


def test_the_lab_names_what_is_not_there(database) -> None:
    with pytest.raises(StepNotFoundError, match="did you mean 'plain_6'"):
        lab.value(database, "wf", "plan_6")
    with pytest.raises(WorkflowNotFoundError):
        lab.value(database, "other", "plain_6")
    with pytest.raises(ValueError, match="step 'fail_9' of 'wf' is failed and has no value"):
        lab.value(database, "wf", "fail_9")


# ---- without the libraries

BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("numpy", "pandas"):
            raise ImportError(f"there is no {name}")
sys.meta_path.insert(0, Blocked())
sys.argv[0] = "durable"
from durable.terminal.cli import main
main()
"""


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        (["steps", "wf"], "frame/1, "),
        (["list"], "frame/1, "),
        (["steps", "wf", "--value", "plain_6"], "plain"),
        (["steps", "wf", "--value", "two_parts_2"], "not shown: a value which cannot be read here: there is no"),
        (["report", "{database}", "-o", "{out}"], "report.html"),
    ],
)
def test_without_numpy_and_pandas_all_is_listed_and_a_frame_says_what_is_missing(
    database, tmp_path, words, seen
) -> None:
    words = [word.format(database=database, out=tmp_path / "report.html") for word in words]
    named = [] if words[0] == "report" else ["--db", str(database)]
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, *words, *named],
        capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")
    assert seen in done.stdout
