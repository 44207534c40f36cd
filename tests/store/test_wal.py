"""The -wal while a large value is saved: no commit copies it, it has a longest length, and it is short again after."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from durable.signals import held_back
from durable.store.database import wal
from durable.store.file import File
from tests.support.large import MB, noise
from tests.support.processes import eventually

NOW = "2026-11-30T12:00:00.000000+00:00"
VALUE = noise(12 * MB)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[File]:
    opened = File(tmp_path / "workflow.db")
    yield opened
    opened.close()


def values_of(file: File, workflow_id: str = "wf") -> Any:
    epoch = file.begin_run(workflow_id, "shop:order", "{}", None, 1, "host", NOW)
    assert epoch is not None
    return file.new_log(workflow_id, epoch, "{}", lambda: NOW).values


def length(file: File) -> int:
    return Path(f"{file.path}-wal").stat().st_size


def commit(file: File) -> None:
    """Save something, as the step of another thread would."""
    file.connection.write(("insert or replace into deleted values ('a step', 1)", ()))


def is_short_after_a_commit(file: File) -> bool:
    commit(file)
    return length(file) <= wal.SHORTEST


def test_no_part_is_copied_while_a_value_is_saved_and_all_are_soon_after(file: File) -> None:
    sizes: list[int] = []

    def look() -> None:
        commit(file)
        sizes.append(file.path.stat().st_size)

    values = values_of(file)
    with held_back():
        sha256 = values.put(b"{}", [VALUE], look)

    assert sizes == sizes[:1] * 12
    eventually(lambda: file.path.stat().st_size > len(VALUE))
    eventually(lambda: is_short_after_a_commit(file))
    assert file.connection.read("pragma wal_autocheckpoint") == [(1000,)]
    assert bytes(values.get(sha256)[1][0]) == VALUE


def test_the_thread_that_saves_a_value_waits_once_the_wal_is_long(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal, "LONGEST", 3 * MB)
    lengths: list[int] = []

    def look() -> None:
        commit(file)
        lengths.append(length(file))

    with held_back():
        values_of(file).put(b"{}", [VALUE], look)

    assert 3 * MB < max(lengths) < 4.5 * MB


def test_a_reader_that_stays_in_the_past_holds_up_the_copying_and_nothing_else(
    file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal, "LONGEST", 3 * MB)
    values = values_of(file)
    with closing(sqlite3.connect(file.path, isolation_level=None)) as reader:
        reader.execute("begin")
        reader.execute("select count(*) from steps").fetchall()
        with held_back():
            sha256 = values.put(b"{}", [VALUE])
        assert length(file) > len(VALUE)

    assert bytes(values.get(sha256)[1][0]) == VALUE
    eventually(lambda: is_short_after_a_commit(file))


def test_a_file_that_is_closed_right_after_a_value_is_whole(tmp_path: Path) -> None:
    for number in range(5):
        file = File(tmp_path / "workflow.db")
        values = values_of(file, f"{number}")
        with held_back():
            sha256 = values.put(b"{}", [bytes([number]), VALUE])
        file.close()
        assert not Path(f"{file.path}-wal").exists()

        again = File(file.path)
        assert [bytes(each) for each in values_of(again, f"reader {number}").get(sha256)[1]] == [bytes([number]), VALUE]
        again.close()


def test_a_value_that_cannot_be_saved_leaves_the_wal_to_sqlite_again(file: File) -> None:
    def fail() -> None:
        raise RuntimeError

    with held_back(), pytest.raises(RuntimeError):
        values_of(file).put(b"{}", [VALUE], fail)

    eventually(lambda: file.connection.read("pragma wal_autocheckpoint") == [(1000,)])


def test_a_small_value_starts_no_thread(file: File) -> None:
    with held_back():
        values_of(file).put(b"{}", [VALUE[: MB // 2]])

    assert file.connection.read("pragma wal_autocheckpoint") == [(1000,)]
