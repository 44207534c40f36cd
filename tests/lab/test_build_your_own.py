"""The judge of notebook 06: it accepts an engine that is right, and names the classic mistake in one that is not."""

from __future__ import annotations

import html
import inspect
import json
import sqlite3
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from threading import Thread

import pytest

from durable.lab.course import rig
from durable.lab.course.build import SOLVED, read
from durable.lab.course.rig import play
from durable.lab.lessons import build_your_own, samples
from durable.lab.lessons.build_your_own import MISTAKES


def open_store(path):
    db = sqlite3.connect(path, check_same_thread=False)
    db.execute("create table if not exists steps (workflow_id, step_key, output, primary key (workflow_id, step_key))")
    return db


def save(db, workflow_id, key, value):
    db.execute("insert into steps values (?, ?, ?)", (workflow_id, key, json.dumps(value)))
    db.commit()


def load(db, workflow_id, key):
    row = db.execute("select output from steps where workflow_id = ? and step_key = ?", (workflow_id, key)).fetchone()
    return None if row is None else (json.loads(row[0]),)


class Right:
    """An engine's context without a mistake; each of those below has one."""

    def __init__(self, db, workflow_id):
        self.db, self.workflow_id, self.number = db, workflow_id, 0
        self.pool = ThreadPoolExecutor()

    def draw(self, name):
        self.number += 1
        return f"{name}_{self.number}"

    def load(self, key):
        return load(self.db, self.workflow_id, key)

    def save(self, key, value):
        save(self.db, self.workflow_id, key, value)

    def remember(self, key, fn, *args):
        if self.load(key) is None:
            self.save(key, fn(*args))
        return self.load(key)[0]

    def step(self, fn, *args):
        return self.remember(self.draw(fn.__name__), fn, *args)

    def submit(self, fn, *args):
        return self.pool.submit(self.remember, self.draw(fn.__name__), fn, *args)


class Raises(Right):
    def load(self, key):
        return super().load(key)[0]


class NameAlone(Right):
    def draw(self, name):
        return name


class NeverLooks(Right):
    def remember(self, key, fn, *args):
        return fn(*args)


class NothingForNone(Right):
    def remember(self, key, fn, *args):
        found = self.load(key)
        if found and found[0]:
            return found[0]
        value = fn(*args)
        if found is None:
            self.save(key, value)
        return self.load(key)[0]


class TrueOrNothing(Right):
    """The usual way to take None and 0 for nothing."""

    def remember(self, key, fn, *args):
        found = self.load(key)
        if found and found[0]:
            return found[0]
        self.save(key, fn(*args))
        return self.load(key)[0]


class NotRoundTripped(Right):
    def remember(self, key, fn, *args):
        if (found := self.load(key)) is not None:
            return found[0]
        value = fn(*args)
        self.save(key, value)
        return value


class Shared(Right):
    def __init__(self, db, workflow_id):
        super().__init__(db, "everybody")


class Early(Right):
    def remember(self, key, fn, *args):
        if self.load(key) is None:
            self.save(key, None)
            value = fn(*args)
            self.db.execute("update steps set output = ? where step_key = ?", (json.dumps(value), key))
            self.db.commit()
        return self.load(key)[0]


class Late(Right):
    """Is committed by whoever closes it."""

    def save(self, key, value):
        self.db.execute("insert into steps values (?, ?, ?)", (self.workflow_id, key, json.dumps(value)))


class DrawnByTheWorker(Right):
    def submit(self, fn, *args):
        return self.pool.submit(self.step, fn, *args)


def start_thread(fn, *args):
    """What a pool's submit does, by hand."""
    future = Future()
    Thread(target=lambda: future.set_result(fn(*args))).start()
    return future


class InThreadsOfItsOwn(Right):
    def submit(self, fn, *args):
        return start_thread(self.remember, self.draw(fn.__name__), fn, *args)


class DrawnByAThreadOfItsOwn(Right):
    def submit(self, fn, *args):
        return start_thread(self.step, fn, *args)


def engine_of(context):
    def run(path, workflow_id, workflow):
        with closing(open_store(path)) as db:
            result = workflow(context(db, workflow_id))
            db.commit()
            return result

    return run


def line_of(fn, further: int) -> str:
    return f"line {inspect.getsourcelines(fn)[1] + further} of {fn.__name__}"


IN_TURN = [
    ("fails", Raises, "undisturbed, the workflow 'order' ended with TypeError: 'NoneType' object is not subscriptable"),
    ("one key", NameAlone, "undisturbed, 'loop' did ship lamp; expected: ship lamp, ship desk, ship chair"),
    ("amnesia", NeverLooks, "'order' was completed; run once more, it did again: reserve lamp, charge 40, ship lamp"),
    ("none", NothingForNone, "'falsy' was completed; run once more, it did again: wave, look"),
    ("none", TrueOrNothing, "'falsy' was completed; run once more, it did again: wave, and then ended with Integrity"),
    (
        "value",
        NotRoundTripped,
        "on the first run 'the workflow got (30, 40)'; on the replay 'the workflow got [30, 40]'",
    ),
    ("shared", Shared, "undisturbed, 'two' did charge 40; expected: charge 40, charge 40"),
    (
        "early",
        Early,
        f"'order' was killed just after a commit ({line_of(save, 2)}); after the resume 'reserve lamp' had never",
    ),
    (
        "late",
        Late,
        f"'order' was killed just after 'charge 40' had happened ({line_of(Right.remember, 2)}); 'reserve lamp' had",
    ),
]


@pytest.mark.parametrize(("mistake", "context", "words"), IN_TURN, ids=[context.__name__ for _, context, _ in IN_TURN])
def test_the_judge_names_the_mistake_that_is_in_an_engine(mistake, context, words):
    verdict = build_your_own.q2.check(engine_of(context))

    assert repr(verdict).startswith("not yet: ")
    assert words in verdict.words
    assert verdict.words.endswith(f"The classic mistake: {MISTAKES[mistake]}.")
    assert f"\u2716 found</td><td style='text-align:left'>{MISTAKES[mistake]}" in verdict.picture


@pytest.mark.parametrize("context", [Right, InThreadsOfItsOwn])
def test_the_judge_accepts_an_engine_that_is_right_after_killing_it_at_every_instant(context):
    verdict = build_your_own.q3.check(engine_of(context), context)

    assert repr(verdict).startswith("right: ")
    assert int(verdict.words.split()[0]) > 100
    assert "\u2716" not in verdict.picture


@pytest.mark.parametrize("context", [DrawnByTheWorker, DrawnByAThreadOfItsOwn])
def test_the_judge_finds_keys_that_are_drawn_by_the_workers(context):
    verdict = build_your_own.q3.check(engine_of(context), context)

    assert verdict.words.endswith(f"The classic mistake: {MISTAKES['moved']}.")


def test_an_engine_that_draws_keys_in_the_worker_is_right_as_long_as_nothing_is_parallel():
    assert build_your_own.q2.check(engine_of(DrawnByTheWorker)).is_right


def test_an_empty_submit_is_not_judged():
    class Empty(Right):
        def submit(self, fn, *args):
            """To be written."""

    assert repr(build_your_own.q3.check(engine_of(Empty), Empty)).startswith("not yet: the answer is still empty")


# ---- the store


def save_without_commit(db, workflow_id, key, value):
    db.execute("insert into steps values (?, ?, ?)", (workflow_id, key, json.dumps(value)))


def load_the_bare_value(db, workflow_id, key):
    found = load(db, workflow_id, key)
    return None if found is None else found[0]


def load_anybodys(db, workflow_id, key):
    row = db.execute("select output from steps where step_key = ?", (key,)).fetchone()
    return None if row is None else (json.loads(row[0]),)


def load_what_is_true(db, workflow_id, key):
    found = load(db, workflow_id, key)
    return found if found and found[0] else None


@pytest.mark.parametrize(
    ("save", "load", "words"),
    [
        (save, load, "right: 7 values, seen at once by a second connection"),
        (save_without_commit, load, "not yet: save(..., 40) has returned, and another connection sees nothing of it."),
        (
            save,
            load_the_bare_value,
            "not yet: 40 was saved, and load gave 40; expected is (40,): a tuple, so that None",
        ),
        (save, load_what_is_true, "not yet: 0 was saved, and load gave None; expected is (0,)"),
        (save, load_anybodys, "not yet: the workflow 'a' has saved its step_1, and 'b' has not; yet for 'b' load gave"),
    ],
)
def test_the_store(save, load, words):
    assert repr(build_your_own.q1.check(open_store, save, load)).startswith(words)


# ---- the rig itself


def test_the_rig_kills_before_and_after_each_effect_and_what_happened_is_known():
    def run(path, workflow_id, workflow):
        return workflow(NeverLooks(None, workflow_id))

    undisturbed, *killed = play(run, ["two"])

    assert [life.ended for life in undisturbed.lives] == ["completed", "completed"]
    assert [story.killed_at for story in killed] == [
        "just before 'charge 40' happened",
        "just after 'charge 40' had happened",
        "just before 'charge 40' happened",
        "just after 'charge 40' had happened",
    ]
    assert [story.lives[0].ended for story in killed] == ["killed"] * 4
    assert [len(story.lives[0].effects) for story in killed] == [0, 1, 1, 2]


def test_all_workflows_are_played_undisturbed_before_any_is_killed_and_the_kills_are_counted():
    counted = []
    stories = list(play(engine_of(Right), ["pair", "two"], lambda *count: counted.append(count)))
    kills = len(stories) - 2

    assert [bool(story.killed_at) for story in stories] == [False, False] + [True] * kills
    assert counted == [(number, kills) for number in range(1, kills + 1)]


def test_a_mistake_that_needs_no_kill_is_named_before_any_kill(monkeypatch):
    kills = []
    monkeypatch.setattr(build_your_own._Progress, "show", lambda self, *count: kills.append(count))

    assert "two workflow ids" in build_your_own.q2.check(engine_of(Shared)).words
    assert kills == []


class Spins(Right):
    def remember(self, key, fn, *args):
        while key == "charge_2":
            pass
        return super().remember(key, fn, *args)


class WaitsForNothing(Right):
    def submit(self, fn, *args):
        return Future()


class LoopsOverTheStore(Right):
    def remember(self, key, fn, *args):
        while self.load("nothing") is None:
            self.db.commit()


@pytest.mark.parametrize(
    ("context", "words"),
    [
        (Spins, "undisturbed, the workflow 'order' did not end, and was stopped at line"),
        (WaitsForNothing, "undisturbed, the workflow 'parallel' did not end, and was stopped"),
        (LoopsOverTheStore, "undisturbed, the workflow 'order' did not end, and was stopped at line"),
    ],
)
def test_an_engine_that_does_not_end_is_stopped_and_told_so(context, words, monkeypatch):
    monkeypatch.setattr(rig, "LIFE_SECONDS", 2.0)
    monkeypatch.setattr(build_your_own, "IN_TURN", ("order",))
    verdict = build_your_own.q3.check(engine_of(context), context)

    assert words in verdict.words
    assert verdict.words.endswith(f"The classic mistake: {MISTAKES['endless']}.")


class Prints(Raises):
    def remember(self, key, fn, *args):
        print("I look for", key)
        return super().remember(key, fn, *args)


def test_the_verdict_shows_the_line_that_raised_and_what_the_code_printed():
    verdict = build_your_own.q2.check(engine_of(Prints))

    assert f"at {line_of(Raises.load, 1)}" in verdict.words
    assert "I look for reserve_1" in verdict.picture


def test_the_judge_lists_as_many_mistakes_as_the_notebook_promises():
    promised = {10: "ten"}[len(MISTAKES)]

    assert f"recognise {promised} classic mistakes" in read(SOLVED / "06_build_your_own.ipynb").cells[0].source
    for verdict in (build_your_own.q2.check(engine_of(Right)), build_your_own.q2.check(engine_of(NeverLooks))):
        assert [text for text in MISTAKES.values() if html.escape(text) not in verdict.picture] == []


def test_the_expected_results_are_those_of_the_samples():
    class Plain:
        def step(self, fn, *args):
            return fn(*args)

        def submit(self, fn, *args):
            return ThreadPoolExecutor(1).submit(fn, *args)

    results = {name: repr(samples.run(name, lambda _, workflow: workflow(Plain()))) for name in build_your_own.EXPECTED}

    assert results == {
        name: result or "'the workflow got (30, 40)'" for name, (result, _) in build_your_own.EXPECTED.items()
    }
