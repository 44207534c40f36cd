"""Large values: stored once, in parts, before the row that names them; checked, and dropped once no row names them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import numpy as np
import psycopg
import pytest

from durable.errors import CorruptionError
from durable.observer import Moment
from durable.signals import held_back
from durable.values.large import PART_BYTES
from tests.conformance.differences import differs
from tests.conformance.engines import Lab
from tests.support.large import MB, cargo, crate, noise, result_of, row_of

HEAD = b'{"format":"bytes/1"}'
TABLES = ("large_values", "value_parts", "value_uses")
LARGE = noise(5 * MB // 2)


def ask(lab: Lab, sql: str) -> list[Any]:
    """Ask the tables of large values, which have the same names in both databases."""
    if lab.name == "sqlite":
        with closing(sqlite3.connect(lab.place)) as db, db:
            return db.execute(sql).fetchall()
    with psycopg.connect(lab.place) as db:
        found = db.execute("set search_path to durable; " + sql)
        while found.nextset():
            pass
        return found.fetchall() if found.description else []


def count(lab: Lab) -> dict[str, int]:
    return {table: ask(lab, f"select count(*) from {table}")[0][0] for table in TABLES}


def damage(lab: Lab, number: int) -> None:
    """Flip one bit in the middle of the parts of a number."""
    (part,) = ask(lab, f"select data from value_parts where number = {number} limit 1")[0]
    changed = bytearray(part)
    changed[len(changed) // 2] ^= 1
    literal = f"x'{changed.hex()}'" if lab.name == "sqlite" else f"'\\x{changed.hex()}'::bytea"
    ask(lab, f"update value_parts set data = {literal} where number = {number}")


@pytest.mark.parametrize(
    "buffers",
    [[], [b""], [b"a", b"", memoryview(b"bc")], [b"head", LARGE, b"", LARGE[:PART_BYTES], b"tail"]],
    ids=["none", "empty", "small", "mixed"],
)
def test_a_value_comes_back_as_it_was_put_and_is_dropped(lab: Lab, buffers: list[Any]) -> None:
    with lab.open() as engine, held_back():
        values = engine._backend.values_for("wf")
        sha256 = values.put(HEAD, buffers)
        assert values.put(HEAD, buffers) == sha256
        head, found = values.get(sha256)

    assert (head, [bytes(buffer) for buffer in found]) == (HEAD, [bytes(buffer) for buffer in buffers])
    assert count(lab)["large_values"] == 1


def test_large_values_come_back_from_every_place_that_holds_a_value(lab: Lab) -> None:
    load, more = np.full(20_000, 7.0), np.full(20_000, 0.25)
    expected = np.stack([load, row_of(20_000, 0.5), row_of(20_000, 2.0), more, row_of(20_000, 1.0)])

    with lab.open() as engine:
        handle = engine.start("wf", cargo, load)
        engine.send("wf", "more", more)
        results = [handle.result()]
    with lab.open() as engine:
        results += [engine.run("wf", cargo, load), engine.resume("wf").result()]
        published = engine.read("wf", "made", type=np.ndarray)
        engine.fork("wf", "fork", at="stack_6")
        engine.delete("wf")
        engine.gc()
        results.append(engine.resume("fork").result())
        texts = [step.output for step in engine.steps("fork")]

    assert all(np.array_equal(result, expected) for result in results)
    assert np.array_equal(published, row_of(20_000, 0.5))
    for text in texts:
        assert text is not None
        assert '"preview":"float64 array of ' in text
        assert len(text) < 200


def test_steps_with_large_results_are_answered_from_their_rows_and_store_equal_content_once(lab: Lab) -> None:
    moments: list[str] = []

    def note(moment: Moment) -> None:
        if moment.name == "step.part_stored":
            moments.append(str(moment.step_key))

    with lab.open(observers=[note]) as engine:
        assert engine.run("wf", crate) == result_of()
        named = [step.value["$value"] for step in engine.steps("wf") if isinstance(step.value, dict)]
        assert engine.gc() == (0, 0)

        assert len(named) == 3
        assert named[0] == named[1]
        assert moments == ["load_2"] * 3 + ["again_3"] * 3 + ["scraps_4"] * 2
        assert (count(lab)["large_values"], count(lab)["value_parts"]) == (2, 5)


@pytest.mark.parametrize("at", ["part_stored 2", "executed 2", "checkpointed 2"])
def test_a_process_that_dies_as_it_saves_a_value_loses_nothing_and_leaves_nothing(lab: Lab, at: str) -> None:
    lab.run_and_die("wf", crate, at=at)
    with lab.open() as engine:
        assert engine.run("wf", crate) == result_of()
        assert engine.gc() == (0, 0)
        assert (count(lab)["large_values"], count(lab)["value_parts"]) == (2, 5)


@differs("gc")
def test_a_value_that_a_dead_process_has_begun_to_save_is_dropped(lab: Lab) -> None:
    lab.run_and_die("wf", crate, at="part_stored 2")

    with lab.open_beside() as engine:
        assert engine.gc() == ((1, 2 * PART_BYTES) if lab.name == "sqlite" else (0, 0))


def test_parts_of_a_workflow_that_is_deleted_after_a_crash_are_dropped(lab: Lab) -> None:
    lab.run_and_die("wf", crate, at="part_stored 2")
    with lab.open() as engine:
        engine.run("wf", crate)
        engine.delete("wf")

        assert count(lab) == {"large_values": 0, "value_parts": 0, "value_uses": 0}


def test_a_fork_keeps_the_values_of_its_original(lab: Lab) -> None:
    with lab.open() as engine:
        engine.run("wf", crate)
        engine.fork("wf", "fork", at="scraps_4")
        engine.delete("wf")
        assert engine.gc() == (0, 0)
        assert engine.resume("fork").result() == result_of()
        assert engine.gc() == (0, 0)
        engine.delete("fork")

        assert count(lab) == {"large_values": 0, "value_parts": 0, "value_uses": 0}


def test_a_value_that_no_row_names_is_dropped_by_gc(lab: Lab) -> None:
    with lab.open() as engine:
        engine.run("wf", crate)
        ask(lab, "delete from value_uses where workflow_id = 'wf'")

        assert engine.gc() == (2, len(LARGE) + 2000 * 700)
        assert count(lab) == {"large_values": 0, "value_parts": 0, "value_uses": 0}


def test_a_damaged_part_is_found_when_it_is_read(lab: Lab) -> None:
    lab.run_and_die("wf", crate, at="load_2:checkpointed")
    damage(lab, 1)
    with lab.open() as engine, pytest.raises(CorruptionError, match="step 'load_2' of 'wf': its recorded result"):
        engine.run("wf", crate)


def test_a_missing_value_is_found_when_it_is_read(lab: Lab) -> None:
    lab.run_and_die("wf", crate, at="load_2:checkpointed")
    ask(lab, "delete from large_values")
    with lab.open() as engine, pytest.raises(CorruptionError, match="step 'load_2' of 'wf': its recorded result"):
        engine.run("wf", crate)


def test_a_row_is_not_saved_without_its_value(lab: Lab) -> None:
    def drop(moment: Moment) -> None:
        if moment.name == "step.part_stored" and moment.step_key == "scraps_4":
            ask(lab, "delete from value_parts where number = 0")

    with lab.open(observers=[drop]) as engine:
        with pytest.raises(CorruptionError, match="its large value"):
            engine.run("wf", crate)

        assert [step.step_key for step in engine.steps("wf") if step.status == "completed"][-1] == "again_3"
