"""The record of a reader's progress: checks are remembered across notebooks, and forgotten by a reset."""

from __future__ import annotations

import threading

import pytest

from durable.lab import recall
from durable.lab.questions.checks import Exercise, not_yet, right
from durable.progress import record


@pytest.fixture
def file(tmp_path, monkeypatch):
    path = tmp_path / "my course" / "progress.txt"
    path.parent.mkdir()
    monkeypatch.setenv(record.FILE, str(path))
    return path


def test_a_check_that_passes_is_remembered_and_one_that_does_not_is_not(file):
    exercise = Exercise("04.q2", lambda answer: right("so it is") if answer == 7 else not_yet("no"))
    exercise.check(None)
    exercise.check(6)
    assert record.read(file) == {}
    exercise.check(7)
    exercise.check(7)

    assert list(record.read(file)) == ["04.q2"]
    assert len(file.read_text(encoding="utf-8").splitlines()) == 1


def test_recall_is_remembered_once_all_three_questions_are_answered(file):
    asked = recall("01")
    for question in asked.questions[:2]:
        question.chosen = question.options[0]
    assert record.read(file) == {}
    asked.questions[2].chosen = asked.questions[2].options[0]

    assert list(record.read(file)) == ["01.recall"]


def test_without_a_file_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.delenv(record.FILE, raising=False)
    monkeypatch.chdir(tmp_path)
    record.remember("04.q2")

    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_does_not_make_a_check_raise(tmp_path, monkeypatch):
    monkeypatch.setenv(record.FILE, str(tmp_path / "no such folder" / "progress.txt"))

    assert Exercise("04.q2", lambda _: right("yes")).check(1).is_right


def test_a_line_that_is_half_written_or_foreign_is_left_out(file):
    file.write_text("hello\n2026-01-01T00:00:00Z done 01.q1\n2026-01-01T00:00:00Z do", encoding="utf-8")

    assert record.read(file) == {"01.q1": "2026-01-01T00:00:00Z"}


def test_lines_of_several_kernels_do_not_mix(file):
    threads = [threading.Thread(target=record.remember, args=(f"{number:02}.q1",)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(record.read(file)) == [f"{number:02}.q1" for number in range(20)]


def test_a_reset_forgets_one_notebook_and_keeps_the_readers_copy(file, tmp_path):
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    (shipped / "04_parallel.ipynb").write_text("fresh", encoding="utf-8")
    for task in ("01.q1", "04.q1", "04.recall"):
        record.remember(task)
    for mine in ("mine", "mine again"):
        (file.parent / "04_parallel.ipynb").write_text(mine, encoding="utf-8")
        kept = record.begin_anew(file, shipped, "04_parallel")
    assert list(record.read(file)) == ["01.q1"]
    record.remember("04.q1")

    assert list(record.read(file)) == ["01.q1", "04.q1"]
    assert kept == "04_parallel_before_2.ipynb"
    assert (file.parent / kept).read_text(encoding="utf-8") == "mine again"
    assert (file.parent / "04_parallel.ipynb").read_text(encoding="utf-8") == "fresh"
