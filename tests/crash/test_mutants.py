"""Mutants: engines that are wrong on purpose. The same crash matrix accepts the right one and catches each of them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import pytest

from durable.testing import DoesNotSurviveError, Plan
from durable.testing import crash_matrix as from_the_package
from tests.support import mutants, scenarios
from tests.support.processes import call_in_child
from tests.support.selection import first_alone

PLAN = Plan(every_moment=True, pairs=10, interrupts=True, second_owner=True, seed=3)


class Catch(NamedTuple):
    """How a mutant is caught: by which plan, which broken promise, and in which smallest case."""

    mutant: Callable[[], None]
    plan: Plan
    promise: str
    case: str


KILLS, INTERRUPTS = Plan(), Plan(every_moment=False, interrupts=True)
CATCHES = [
    Catch(mutants.checkpoint_before_the_effect, KILLS, "lost", "kill at pick_2:checkpointed"),
    Catch(mutants.checkpoint_behind_the_effect, KILLS, "checkpoint", "kill at weigh_1:checkpointed"),
    Catch(mutants.result_not_round_tripped, KILLS, "arguments", "kill at weigh_1:checkpointed"),
    Catch(mutants.forgotten_checkpoint, KILLS, "once", "kill at weigh_1:checkpointed"),
    Catch(mutants.running_taken_for_completed, KILLS, "lost", "kill at pick_2:started"),
    Catch(
        mutants.no_owner_lock, Plan(every_moment=False, second_owner=True), "owner", "second owner at weigh_1:started"
    ),
    Catch(mutants.swallowed_interrupt, INTERRUPTS, "interrupt", "interrupt at weigh_1:started"),
    Catch(mutants.interrupt_as_an_outcome, INTERRUPTS, "interrupt", "interrupt at weigh_1:started"),
]


@pytest.fixture(scope="module")
def power_cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_fault("power_cut", tmp_path_factory)


@pytest.fixture(scope="module")
def failing_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_fault("failing_disk", tmp_path_factory)


def compile_fault(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp(name) / f"{name}.so"
    source = Path(__file__).parents[1] / "faults" / f"{name}.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, source, "-ldl"], check=True)
    return library


on_linux_with_cc = pytest.mark.skipif(
    not sys.platform.startswith("linux") or shutil.which("cc") is None,
    reason="cutting the power on purpose takes Linux and a C compiler (cc)",
)


@pytest.mark.thorough
def test_the_right_engine_keeps_every_promise_under_the_same_faults(crash_matrix) -> None:
    report = crash_matrix(mutants.parcel, "Rome", plan=PLAN)

    report.assert_survives()
    assert len(report.judgements) > 80


@pytest.mark.parametrize("catch", first_alone(CATCHES), ids=lambda catch: catch.mutant.__name__)
def test_each_wrong_engine_is_caught_by_a_case_that_is_known(crash_matrix, catch: Catch) -> None:
    report = crash_matrix(mutants.parcel, "Rome", plan=replace(catch.plan, setup=catch.mutant))

    broken = {str(found.case): {v.promise for v in found.violations} for found in report.broken}
    assert catch.promise in broken.get(catch.case, set()), report.verdict()
    with pytest.raises(DoesNotSurviveError, match="smallest failing case"):
        report.assert_survives()


@pytest.mark.thorough
def test_a_counter_drawn_in_the_workers_is_caught_by_keys_that_move(crash_matrix) -> None:
    plan = Plan(every_moment=True, pairs=20, setup=mutants.counter_drawn_in_the_worker)

    report = crash_matrix(mutants.parcel, "Rome", plan=plan)

    promises = {v.promise for found in report.broken for v in found.violations}
    assert promises & {"keys", "arguments"}, report.verdict()
    assert "determinism" in promises, report.verdict()  # two steps have swapped their keys between two lives


@on_linux_with_cc
def test_the_right_engine_loses_nothing_in_a_power_cut_at_any_moment(power_cut: Path) -> None:
    plan = Plan(every_moment=False, power_cuts=power_cut)

    report = from_the_package(mutants.parcel, "Rome", plan=plan)

    report.assert_survives()
    assert report.kills == len(report.judgements) == 3 * len(report.baseline.runs[0].points())


@pytest.mark.thorough
@on_linux_with_cc
@pytest.mark.parametrize(
    "plan", [Plan(setup=mutants.synchronous_off), Plan(synchronous="normal")], ids=["off", "normal"]
)
def test_an_engine_that_does_not_flush_is_caught_by_a_power_cut_and_by_no_kill(power_cut: Path, plan: Plan) -> None:
    killed = from_the_package(mutants.parcel, "Rome", plan=plan)
    cut = from_the_package(mutants.parcel, "Rome", plan=replace(plan, every_moment=False, power_cuts=power_cut))

    killed.assert_survives()
    smallest = cut.broken[0]
    assert str(smallest.case) == "power cut at weigh_1:checkpointed (unflushed writes lost)"
    assert [v.text for v in smallest.violations] == ["weigh_1 was reported as saved in life 1, and was not"]


@pytest.mark.thorough
@on_linux_with_cc
def test_an_engine_that_takes_a_failed_save_for_saved_is_caught_by_a_full_disk(failing_disk: Path) -> None:
    plan = Plan(every_moment=False, disk=failing_disk)
    sound = from_the_package(mutants.parcel, "Rome", plan=plan)

    report = from_the_package(mutants.parcel, "Rome", plan=replace(plan, setup=mutants.failed_save_ignored))

    sound.assert_survives()
    assert "checkpoint" in {v.promise for found in report.broken for v in found.violations}, report.verdict()
    assert {str(found.case).rpartition(" at ")[0] for found in report.broken} >= {"disk error 28"}  # ENOSPC


# ---- faults that the engine once had: each scenario ends as it should, and not with the fault

FAULTS: list[tuple[Callable[[], None], Callable[[Path], bool]]] = [
    (mutants.loser_of_a_race_cancelled, scenarios.all_is_undone),
    (mutants.only_ctrl_c_held_back, scenarios.no_bookkeeping_is_torn),
    (mutants.progress_not_counted, scenarios.one_that_gets_on_is_resumed),
    (mutants.changed_argument_unseen, scenarios.a_changed_argument_is_refused),
    (mutants.default_taken_for_a_difference, scenarios.a_new_default_is_no_difference),
    (mutants.anything_called_for_an_error, scenarios.no_row_calls_a_function),
]


def ends_well(
    _: Connection, scenario: Callable[[Path], bool], database: Path, fault: Callable[[], None] | None
) -> bool:
    if fault is not None:
        fault()
    return scenario(database)


@pytest.mark.parametrize(("fault", "scenario"), FAULTS, ids=lambda value: value.__name__)
def test_each_fault_of_the_past_is_caught(
    tmp_path: Path, fault: Callable[[], None], scenario: Callable[[Path], bool]
) -> None:
    assert call_in_child(ends_well, scenario, tmp_path / "right.db", None) is True
    assert call_in_child(ends_well, scenario, tmp_path / "wrong.db", fault) is False
