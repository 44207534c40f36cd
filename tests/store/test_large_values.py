"""Large values in the file: stored once, in parts, checked, and dropped once no row names them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import sqlite3
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import closing
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies

from durable import Context, Engine
from durable.errors import CorruptionError, FencedError, StoreError, TransactionError
from durable.observer import Moment, crash_at
from durable.replay.step import Outcome
from durable.signals import held_back
from durable.store.file import File
from durable.store.reader import Reader
from durable.store.rows.large import drop_unused
from durable.values.large import PART_BYTES, as_views, digest, split
from tests.support.large import KB, MB, keep, noise
from tests.support.patience import PATIENCE_SECONDS
from tests.support.processes import child, crash_in_child
from tests.support.stored import rows

NOW = "2026-11-30T12:00:00.000000+00:00"
HEAD = b'{"format":"bytes/1"}'
LARGE = noise(5 * MB // 2)  # two and a half parts


def two(ctx: Context, seed: int = 0) -> int:
    """Two large values, one of them in two steps."""
    first = keep(ctx, "first", lambda: [LARGE, b"", noise(10, seed)])
    again = keep(ctx, "again", lambda: first)
    other = keep(ctx, "other", lambda: [noise(3 * KB, seed)])
    return len(first[0]) + len(again[2]) + len(other[0])


EXPECTED = len(LARGE) + 10 + 3 * KB


@pytest.fixture
def file(tmp_path: Path) -> Iterator[File]:
    opened = File(tmp_path / "workflow.db")
    yield opened
    opened.close()


def begin(file: File, workflow_id: str = "wf") -> Any:
    """Begin a run, and return its log."""
    epoch = file.begin_run(workflow_id, "shop:order", "{}", file.find_state(workflow_id), 1, "host", NOW)
    assert epoch is not None
    return file.new_log(workflow_id, epoch, "{}", lambda: NOW)


def count(path: Path, table: str = "value_parts") -> int:
    return rows(path, f"select count(*) from {table}")[0][0]


# ---- put and get


@pytest.mark.parametrize(
    "buffers",
    [
        [],
        [b""],
        [b"", b"x", b""],
        [b"small", bytearray(b"other"), memoryview(b"third")],
        [LARGE],
        [b"head", LARGE, b"", LARGE[:PART_BYTES], b"tail"],
        [noise(PART_BYTES - 1), b"12", noise(PART_BYTES)],
        [noise(700) for _ in range(3000)],
    ],
    ids=["none", "empty", "empties", "small", "large", "mixed", "on the edge", "many"],
)
def test_a_value_comes_back_as_it_was_put(file: File, buffers: list[Any]) -> None:
    values = begin(file).values
    with held_back():
        sha256 = values.put(HEAD, buffers)

    head, found = values.get(sha256)
    assert (head, [bytes(buffer) for buffer in found]) == (HEAD, [bytes(buffer) for buffer in buffers])
    assert all(not buffer.readonly for buffer in found)
    sizes = [size for (size,) in rows(file.path, "select length(data) from value_parts order by number")]
    assert all(size == PART_BYTES for size in sizes[:-1]) or len(buffers) > 1
    assert all(size <= PART_BYTES for size in sizes)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_buffer_that_was_read_is_of_this_process_alone(file: File) -> None:
    values = file.values_for("wf", lambda: NOW)
    sha256 = values.put(HEAD, [bytes(5 * PART_BYTES)])
    [first], [second] = (values.get(sha256)[1] for _ in range(2))

    first[7] = 1
    if not (child := os.fork()):
        second[7] = 2
        os._exit(0)
    os.waitpid(child, 0)

    assert (first[7], second[7]) == (1, 0)


def test_the_hash_tells_where_a_buffer_ends() -> None:
    assert digest(HEAD, as_views([b"ab", b"c"])) != digest(HEAD, as_views([b"a", b"bc"]))
    assert digest(b"1", as_views([b"2"])) != digest(b"12", as_views([b""]))
    assert digest(HEAD, as_views([LARGE])) == hashlib.sha256(b"[20,%d]" % len(LARGE) + HEAD + LARGE).hexdigest()


def test_a_whole_part_of_a_buffer_is_no_copy() -> None:
    first, *_, last = split(as_views([LARGE]))

    assert isinstance(first, memoryview)
    assert first.obj is LARGE
    assert isinstance(last, bytes)


def test_a_buffer_that_is_not_contiguous_is_refused(file: File) -> None:
    with held_back(), pytest.raises(BufferError, match="not contiguous"):
        begin(file).values.put(HEAD, [memoryview(b"abcdef")[::2]])


def test_equal_content_is_stored_once(file: File) -> None:
    seen: list[int] = []
    first, second = begin(file).values, begin(file, "other").values
    with held_back():
        sha256 = first.put(HEAD, [LARGE])
        before = rows(file.path, "select rowid from value_parts order by number")
        assert second.put(HEAD, [LARGE], lambda: seen.append(1)) == sha256

    assert rows(file.path, "select rowid from value_parts order by number") == before
    assert len(seen) == len(before) == 3


def test_parts_that_a_crash_left_are_used_and_damaged_ones_are_mended(file: File) -> None:
    values = begin(file).values
    with held_back():
        sha256 = values.put(HEAD, [LARGE])
        with closing(sqlite3.connect(file.path)) as db, db:
            db.execute("delete from large_values")
            db.execute("delete from value_parts where number = 2")
            db.execute("update value_parts set data = zeroblob(7) where number = 1")
        values.put(HEAD, [LARGE])

    assert bytes(values.get(sha256)[1][0]) == LARGE


def test_a_run_that_was_superseded_puts_nothing(file: File) -> None:
    old = begin(file)
    begin(file)

    with held_back(), pytest.raises(FencedError):
        old.values.put(HEAD, [LARGE])
    assert count(file.path) == 0


# ---- damage


def test_a_flipped_byte_anywhere_in_a_stored_value_is_found(file: File) -> None:
    values = begin(file).values
    with held_back():
        sha256 = values.put(HEAD, [noise(40), b"", noise(30)])
    with closing(sqlite3.connect(file.path, isolation_level=None)) as db:
        for table, column in (("value_parts", "data"), ("large_values", "head"), ("large_values", "sizes")):
            (stored,) = db.execute(f"select cast({column} as blob) from {table}").fetchone()
            for place in range(len(stored)):
                for bit in (place % 8, (place + 4) % 8):
                    flipped = bytearray(stored)
                    flipped[place] ^= 1 << bit
                    kind = "blob" if column == "data" else "text"
                    db.execute(f"update {table} set {column} = cast(? as {kind})", (flipped,))
                    with pytest.raises(CorruptionError, match=sha256):
                        values.get(sha256)
            db.execute(f"update {table} set {column} = cast(? as {kind})", (stored,))
    assert bytes(values.get(sha256)[1][0]) == noise(40)


def test_a_flipped_bit_in_any_of_many_parts_is_found_also_at_their_edges(file: File) -> None:
    content = noise(11 * MB // 2)  # more parts than are read without another thread
    values = begin(file).values
    with held_back():
        sha256 = values.put(HEAD, [content[: 3 * MB // 2], content[3 * MB // 2 :]])

    with closing(sqlite3.connect(file.path, isolation_level=None)) as db:
        db.execute("pragma synchronous = off")
        rowids = [rowid for (rowid,) in db.execute("select rowid from value_parts order by number")]

        def flip(place: int, bit: int) -> None:
            with db.blobopen("value_parts", "data", rowids[place // PART_BYTES]) as part:
                part[place % PART_BYTES] ^= 1 << bit

        def is_found(place: int, bit: int) -> None:
            flip(place, bit)
            with pytest.raises(CorruptionError, match=sha256):
                values.get(sha256)
            flip(place, bit)

        ends = [*range(0, len(content), PART_BYTES), len(content)]
        for place in {each for end in ends for each in (end - 1, end) if 0 <= each < len(content)}:
            is_found(place, place % 8)
        anywhere = given(strategies.integers(0, len(content) - 1), strategies.integers(0, 7))(is_found)
        settings(max_examples=12, deadline=None, derandomize=True, database=None)(anywhere)()

    assert b"".join(map(bytes, values.get(sha256)[1])) == content


@pytest.mark.parametrize(
    "change",
    [
        "delete from value_parts where number = 1",
        "delete from large_values",
        "update large_values set parts = 2",
        "update large_values set parts = 4",
        "update value_parts set number = 7 - number where number > 0",
        "update value_parts set data = 'text' where number = 0",
        "update value_parts set data = substr(data, 2) where number = 2",
        "update large_values set sizes = '[9223372036854775807]'",
        "update large_values set sizes = '[-1,2621441]'",
        "update large_values set sizes = ''",
    ],
)
def test_a_missing_or_changed_part_is_found(file: File, change: str) -> None:
    values = begin(file).values
    with held_back():
        sha256 = values.put(HEAD, [LARGE])
    with closing(sqlite3.connect(file.path)) as db, db:
        assert db.execute(change).rowcount

    with pytest.raises(CorruptionError, match=r"step 'x_1': its large value .* rewind to the step"):
        values.get(sha256, "step 'x_1'")


def test_a_damaged_value_names_its_step_and_rewinding_to_it_mends_it(tmp_path: Path) -> None:
    path = tmp_path / "workflow.db"

    def order(ctx: Context, stops: bool) -> int:
        kept = keep(ctx, "load", lambda: [LARGE])
        if life[0] == 1:
            raise KeyboardInterrupt
        return len(kept[0])

    life = [1]
    with Engine(path) as engine:
        with contextlib.suppress(KeyboardInterrupt):
            engine.run("wf", order, True)
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("update value_parts set data = zeroblob(length(data)) where number = 1")
        assert any("'load_1' of 'wf'" in fault for fault in Reader(path).check_integrity())
        life[0] = 2
        with pytest.raises(CorruptionError, match="step 'load_1' of 'wf': its recorded result: its large value"):
            engine.run("wf", order, True)
        engine.rewind("wf", to="load_1")
        assert engine.run("wf", order, True) == len(LARGE)
        assert Reader(path).check_integrity() == []


def test_no_row_names_a_value_that_is_not_stored_whole(file: File) -> None:
    log = begin(file)
    with held_back():
        sha256 = log.values.put(HEAD, [LARGE])
        with closing(sqlite3.connect(file.path)) as db, db:
            db.execute("delete from value_parts where number = 2")
        with pytest.raises(CorruptionError, match=f"'output' of 'wf': its large value {sha256[:12]}"):
            log.close("completed", Outcome("completed", '{"$value":"x"}', None, NOW, values=(sha256,)))
        with pytest.raises(StoreError, match=r"of its messages was dropped by gc .* send it again"):
            file.waits.send("wf", "go", "{}", None, NOW, (sha256,))

    assert rows(file.path, "select status from workflows") == [("running",)]
    assert count(file.path, "messages") == 0


# ---- steps


def test_a_step_with_a_large_result_is_answered_from_its_row(tmp_path: Path) -> None:
    path, seen = tmp_path / "with space" / "workflow.db", list[str]()
    path.parent.mkdir()
    with Engine(path, observers=[lambda moment: seen.append(moment.name)]) as engine:
        assert engine.run("wf", two) == EXPECTED
        text = engine.steps("wf")[0].value
        assert text["bytes"] == len(LARGE) + 10
        assert seen.count("step.part_stored") == 3 + 3 + 1
        assert rows(path, "select used_by from value_uses order by 1") == [("again_2",), ("first_1",), ("other_3",)]
        assert (count(path, "large_values"), count(path)) == (2, 4)
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("update workflows set status = 'running', output = null, checksum = ?", (checksum_of(path),))
        seen.clear()
        assert engine.run("wf", two) == EXPECTED
        assert seen.count("step.replayed") == 3


def checksum_of(path: Path) -> int:
    from durable.values.codec import checksum

    ((arguments,),) = rows(path, "select arguments from workflows")
    return checksum(arguments, None, None)


def test_a_large_result_of_a_transaction_is_saved_with_it(tmp_path: Path) -> None:
    with Engine(tmp_path / "workflow.db") as engine:
        with closing(sqlite3.connect(engine.path)) as db:
            db.execute("create table bills (id integer)")

        def order(ctx: Context) -> int:
            values = ctx.frame.run.log.values
            names: list[str] = []

            def bill(db: Any) -> int:
                db.execute("insert into bills values (1)")
                return 1

            def put_within(moment: Moment) -> None:
                if moment.name == "step.executed":
                    names.append(values.put(HEAD, [LARGE]))

            ctx.frame.run.observers = [put_within]
            ctx.transaction(bill)
            return len(values.get(names[0])[1][0])

        assert engine.run("wf", order) == len(LARGE)


# ---- export


def test_an_export_has_the_values_that_the_rows_name(tmp_path: Path) -> None:
    with Engine(tmp_path / "workflow.db") as engine:
        engine.run("wf", two)
        engine.run("other", two, 5)
    with Reader(engine.path) as reader:
        pieces = list(reader.export("wf"))
    document = json.loads("".join(pieces))

    steps = [json.loads(step["output"]) if isinstance(step["output"], str) else step["output"]
             for step in document["steps"]]  # fmt: skip
    values = {value["sha256"]: value for value in document["values"]}
    assert {step["$value"] for step in steps} == set(values)
    first = values[steps[-1]["$value"]]
    assert first["head"] == json.loads(HEAD)
    content = b"".join(map(b64decode, values[steps[1]["$value"]]["parts"]))
    assert content == LARGE + noise(10)
    assert values[steps[1]["$value"]]["sizes"] == [len(LARGE), 0, 10]
    assert max(map(len, pieces)) < 1.4 * PART_BYTES


def test_an_export_finds_a_damaged_value(tmp_path: Path) -> None:
    with Engine(tmp_path / "workflow.db") as engine:
        engine.run("wf", two)
    with closing(sqlite3.connect(engine.path)) as db, db:
        db.execute("update value_parts set data = zeroblob(length(data)) where number = 2")

    with Reader(engine.path) as reader, pytest.raises(CorruptionError, match="workflow 'wf': its large value"):
        list(reader.export("wf"))


# ---- deleting, rewinding, gc


def test_delete_drops_what_no_other_workflow_names(tmp_path: Path) -> None:
    with Engine(tmp_path / "workflow.db") as engine:
        engine.run("one", two, 1)
        engine.run("two", two, 2)
        engine.fork("one", "fork", at="other_3")
        engine.delete("one")
        assert sorted(rows(engine.path, "select workflow_id, used_by from value_uses")) == [
            ("fork", "again_2"), ("fork", "first_1"), ("two", "again_2"), ("two", "first_1"), ("two", "other_3"),
        ]  # fmt: skip
        assert engine.resume("fork").result() == EXPECTED
        assert engine.gc() == (0, 0)
        engine.delete("fork")
        engine.delete("two")

        for table in ("large_values", "value_parts", "value_uses"):
            assert count(engine.path, table) == 0


def test_what_is_rewound_stays_with_its_attempt_and_goes_with_the_workflow(tmp_path: Path) -> None:
    with Engine(tmp_path / "workflow.db") as engine:
        engine.run("wf", two)
        engine.rewind("wf", to="again_2")
        assert engine.gc() == (0, 0)
        assert engine.run("wf", two) == EXPECTED
        engine.delete("wf")

        assert count(engine.path) == 0


def test_the_result_of_a_workflow_is_dropped_when_it_is_rewound(file: File) -> None:
    log = begin(file)
    with held_back():
        sha256 = log.values.put(HEAD, [LARGE])
        log.close("completed", Outcome("completed", f'{{"$value":"{sha256}"}}', None, NOW, values=(sha256,)))
    assert rows(file.path, "select used_by from value_uses") == [("output",)]
    with closing(sqlite3.connect(file.path)) as db, db:
        db.execute("insert into steps select id, 'a_1', 'completed', '1', 'a', 'step', 1, 1, 1, null, null, null, ?, ?,"
                   " 'main' from workflows", (NOW, NOW))  # fmt: skip
    with held_back():
        assert file.collect() == (0, 0)
        file.rewind("wf", "a_1", NOW)
        assert file.collect() == (1, len(LARGE))


def test_the_arguments_and_messages_of_a_workflow_keep_their_values(file: File) -> None:
    sender = file.values_for("wf", lambda: NOW)
    with held_back():
        argument = sender.put(HEAD, [b"argument"])
        file.begin_run("wf", "shop:order", "{}", None, 1, "host", NOW, None, (argument,))
        message = sender.put(HEAD, [b"message"])
        assert file.waits.send("wf", "go", "{}", "key", NOW, (message,))
        assert not file.waits.send("wf", "go", "{}", "key", NOW, (message,))
        assert rows(file.path, "select used_by from value_uses order by 1") == [("arguments",), ("messages",)]
        assert file.collect() == (0, 0)
        file.delete_workflows(["wf"])

    assert count(file.path) == 0


def test_gc_leaves_what_a_living_run_has_begun_to_save(tmp_path: Path) -> None:
    path = tmp_path / "workflow.db"
    with Engine(path) as engine, Engine(path) as other:
        freed: list[tuple[int, int]] = []

        def collect(moment: Moment) -> None:
            if moment.name == "step.part_stored":
                freed.append(other.gc())

        with Engine(path, observers=[collect]) as observed:
            assert observed.run("wf", two) == EXPECTED
        assert len(freed) == 7
        assert set(freed) == {(0, 0)}
        assert engine.gc() == (0, 0)


def run_and_crash(_: Pipe, path: Path) -> None:
    with Engine(path, observers=[crash_at("other", "part_stored")]) as engine:
        engine.run("wf", two)


def test_gc_drops_what_a_dead_run_has_begun_to_save(tmp_path: Path) -> None:
    path = tmp_path / "workflow.db"
    crash_in_child(run_and_crash, path)
    unused = Reader(path).list_unused_values()
    assert [size for _, size in unused] == [3 * KB]
    with Engine(path) as engine:
        assert engine.gc() == (1, 3 * KB)
        assert Reader(path).list_unused_values() == []
        assert engine.run("wf", two) == EXPECTED
        assert engine.gc() == (0, 0)


def stop_after_a_part(pipe: Pipe, path: Path) -> None:
    def wait(moment: Moment) -> None:
        if moment.name == "step.part_stored":
            pipe.send("stored")
            pipe.recv()

    with Engine(path, observers=[wait]) as engine:
        engine.run("wf", two)


def test_gc_leaves_what_a_run_of_another_process_has_begun_to_save_until_it_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "workflow.db"
    with child(stop_after_a_part, path) as running:
        assert running.receive() == "stored"
        with Engine(path) as engine:
            assert engine.gc() == (0, 0)
            running.kill()
            assert engine.gc() == (1, PART_BYTES)


def test_a_gc_in_the_middle_of_a_put_of_the_same_content_loses_nothing(file: File) -> None:
    """The value is unused as the put begins: gc has deleted its last part, and goes on while the put claims it."""
    log, owner = begin(file), file.own("wf")
    with held_back():
        sha256 = file.values_for("gone", lambda: NOW).put(HEAD, [LARGE])
        with closing(sqlite3.connect(file.path)) as db, db:
            db.execute("delete from value_uses")
            db.execute("delete from large_values")
            db.execute("delete from value_parts where number = 2")

        def collect() -> None:
            assert file.collect() == (0, 0)

        assert log.values.put(HEAD, [LARGE], collect) == sha256
        log.close("completed", Outcome("completed", f'{{"$value":"{sha256}"}}', None, NOW, values=(sha256,)))

    owner.release()
    assert bytes(log.values.get(sha256)[1][0]) == LARGE


class Interleaved:
    """A connection that lets something happen after its second transaction."""

    def __init__(self, file: File, act: Callable[[], object]) -> None:
        self._file, self._act, self._count = file, act, 0

    def write(self, change: Any, *, durable: bool) -> Any:
        changed = self._file.connection.write(change, durable=durable)
        self._count += 1
        if self._count == 2:
            self._act()
        return changed


def test_a_put_in_the_middle_of_a_gc_of_the_same_content_loses_nothing(file: File) -> None:
    """gc has dropped the value and four of its parts; a run puts it; then gc goes on with the parts that are left."""
    content, log = noise(13 * MB // 2), begin(file)
    with held_back():
        sha256 = log.values.put(HEAD, [content])
        log.close("interrupted")

        again = begin(file)
        act = lambda: again.values.put(HEAD, [content])  # noqa: E731
        drop_unused(Interleaved(file, act), [sha256])  # type: ignore[arg-type]
        again.close("completed", Outcome("completed", "{}", None, NOW, values=(sha256,)))

    assert bytes(again.values.get(sha256)[1][0]) == content


def test_two_threads_that_put_the_same_content_and_a_third_that_collects_lose_nothing(tmp_path: Path) -> None:
    with Engine(tmp_path / "workflow.db") as engine:
        ended = threading.Event()

        def go_on_collecting() -> None:
            while not ended.is_set():
                engine.gc()

        collector = threading.Thread(target=go_on_collecting)
        collector.start()
        try:
            for number in range(5):
                handles = [engine.start(f"{number}_{each}", two) for each in range(2)]
                assert [handle.result() for handle in handles] == [EXPECTED] * 2
                engine.delete(f"{number}_0")
                engine.delete(f"{number}_1")
        finally:
            ended.set()
            collector.join()

        assert Reader(engine.path).check_integrity() == []
        assert count(engine.path) == 0


def test_a_coroutine_goes_on_while_the_large_value_of_another_is_stored(tmp_path: Path) -> None:
    is_stored, has_gone_on = threading.Event(), threading.Event()
    came_in_time: list[bool] = []

    def hold(moment: Moment) -> None:
        if moment.name == "step.part_stored":
            is_stored.set()
            came_in_time.append(has_gone_on.wait(PATIENCE_SECONDS))

    async def make() -> np.ndarray:
        return np.zeros(20_000)

    async def go_on() -> str:
        while not is_stored.is_set():  # noqa: ASYNC110 - it is set in a thread, or the loop stands still
            await asyncio.sleep(0.01)
        has_gone_on.set()
        return "gone on"

    async def workflow(ctx: Context) -> tuple[str, int]:
        load, other = ctx.submit(make), ctx.submit(go_on)
        return await other, len(await load)

    with Engine(tmp_path / "workflow.db", observers=[hold]) as engine:
        assert engine.run("wf", workflow) == ("gone on", 20_000)
    assert came_in_time == [True]


def test_the_transaction_of_a_user_cannot_touch_the_tables(tmp_path: Path) -> None:
    def drop(db: Any) -> None:
        db.execute("delete from value_parts")

    def order(ctx: Context) -> None:
        ctx.transaction(drop)

    with Engine(tmp_path / "workflow.db") as engine, pytest.raises(TransactionError, match="is the engine's"):
        engine.run("wf", order)
