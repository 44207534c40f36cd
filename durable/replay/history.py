"""History: what earlier runs recorded of a workflow, and whether the code still asks for the same."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from durable.errors import NonDeterminismError
from durable.replay.call import Operation
from durable.replay.keys import Scope, name_in
from durable.replay.log import Checkpoint, Log, Row
from durable.replay.step import Step
from durable.values.fingerprint import describe

_MANY = 5  # more keys than this are not listed in a message
_WITHOUT = "without asking for what was recorded as {}; give the new code a new workflow id, or bring the old code back"


class History:
    """The checkpoints of a workflow. Each is taken out as the code asks for it.

    A failed step that is tried again may get another outcome, and then the code may take another path than the recorded
    one. So a row from a run before that outcome (`Scope.retried_epoch`) is no divergence: it is superseded.
    """

    def __init__(self, log: Log, supersede: Callable[[list[str]], object], *, is_new: bool) -> None:
        self._workflow_id, self._supersede = log.workflow_id, supersede
        self.rows: dict[str, Row] = {}  # rows of the pages read so far that the code has not asked for
        self._pages = iter(()) if is_new else log.read()
        self._reading = threading.Lock()
        self._is_read = is_new  # to the last page
        self.waits = {} if is_new else log.list_waiting()  # the steps that an earlier run left waiting, and until when
        tries = () if is_new else log.list_tries()
        self.tries = {key: latest for key, latest, _, _ in tries}
        self._failed_before = {key for key, _, has_failed, _ in tries if has_failed}
        self._tries_before = {key: before for key, _, _, before in tries}
        self._places: dict[tuple[str, int], tuple[str, Row]] | None = None
        self._last_places: dict[str, int] | None = None
        self._retried_epoch = 0  # the last run with another outcome of a step whose failure the code had seen

    def take(self, call: Operation, scope: Scope, key: str, position: int) -> Checkpoint | None:
        """Return the row of this call, or None. Raises NonDeterminismError for the row of another call."""
        found = self.rows.get(key) if self._is_read else self._find(key)
        if found is None:
            if self.rows:
                self._expect(scope, key, position, str(call), as_branch=False)
            return None
        row = Checkpoint.of(found)
        if row.kind != call.kind or not call.matches(row.fingerprint, has_result=row.status == "completed"):
            self._diverged(scope, row, key, f"{name_in(key)}{describe(row.fingerprint)}", str(call))
            return None
        del self.rows[key]
        return row

    def _find(self, key: str) -> Row | None:
        """Return the row of a key. The code asks about in the order of the pages: it is in the next page or in none."""
        if not self._is_read:
            with self._reading:
                while key not in self.rows and not self._is_read:
                    page = next(self._pages, None)
                    self.rows.update({row[0]: row for row in page or ()})
                    self._is_read = page is None
        return self.rows.get(key)

    def has(self, key: str) -> bool:
        """Return whether there is a row of a key that the code has not asked for."""
        return self._find(key) is not None

    def left(self) -> dict[str, Row]:
        """Return all rows that the code has not asked for yet."""
        self._find("")
        return self.rows

    def is_past(self, scope: Scope, key: str, position: int) -> bool:
        """Return whether something else is recorded in this place or after it, in the same scope."""
        rows = self.left()
        if key in rows or not rows:
            return False
        if self._last_places is None:
            self._last_places = {}
            for path, number in _places(list(rows.values())):
                self._last_places[path] = max(number, self._last_places.get(path, 0))
        return self._last_places.get(scope.path, 0) >= position

    def expect_branch(self, name: str, scope: Scope, key: str, position: int) -> None:
        """Raise NonDeterminismError if something else than this branch was recorded in its place."""
        self._expect(scope, key, position, f"{name} as a branch", as_branch=True)

    def count(self, step: Step, row: Checkpoint | None) -> None:
        """Set the attempt number of a step, and how many attempts no longer count for its retries.

        A failed workflow that is run again has all its retries.
        """
        latest = self.tries.get(step.key, 0) if row is None else row.attempt
        step.attempt = latest + 1
        step.earlier_attempts = latest if row is None else self._tries_before.get(step.key, 0)

    def note_outcome(self, scope: Scope, key: str, epoch: int) -> None:
        """Note the outcome of a step, new or on record. If it had failed before, the code may take another path now."""
        if key in self._failed_before:
            inner: Scope | None = scope
            while inner is not None:
                inner.retried_epoch = max(inner.retried_epoch, epoch)
                inner = inner.parent
            if self._tries_before[key]:  # other failures were retried at once, so the code has seen none
                self._retried_epoch = max(self._retried_epoch, epoch)

    def finish(self, scope: Scope) -> None:
        """Raise NonDeterminismError for checkpoints that the workflow, which has returned, never asked for."""
        left = sorted(map(Checkpoint.of, self.left().values()), key=lambda row: row.epoch)
        if left and left[-1].epoch < scope.retried_epoch:
            self._supersede([row.step_key for row in left])
        elif left:
            raise self._not_asked_for(f"the code has ended {_WITHOUT}", [row.step_key for row in left])

    def check_registered(self) -> None:
        """Raise NonDeterminismError if a workflow that is to be undone has missed a registered compensation.

        Compensations of a path that the code left after a failed step was tried again are superseded.
        """
        rows = map(Checkpoint.of, list(self.left().values()))
        left = {row.step_key: row.epoch for row in rows if row.kind == "on_failure"}
        if missed := [key for key, epoch in left.items() if epoch >= self._retried_epoch]:
            raise self._not_asked_for(
                "it is to be undone, and the code has not registered again what was recorded as {}, so nothing was "
                "undone; bring the code back that registers it, and run the id again",
                missed,
            )
        if left:
            self._supersede([*left])

    def check_waits(self, scope: Scope, list_due: Callable[[], list[tuple[str, str]]]) -> None:
        """Raise NonDeterminismError if a workflow that waits never asked for a wait on record that is due.

        That wait would wake it again and again.
        """
        if left := self.left().keys() & self.waits.keys():
            due = sorted(key for workflow_id, key in list_due() if workflow_id == self._workflow_id and key in left)
            if due and all(Checkpoint.of(self.rows[key]).epoch < scope.retried_epoch for key in due):
                self._supersede(due)
            elif due:
                raise self._not_asked_for(f"the code waits {_WITHOUT}", due)

    def _not_asked_for(self, told: str, keys: list[str]) -> NonDeterminismError:
        """Return the error to raise; the braces in its text stand for the keys."""
        recorded = _join(keys)
        return NonDeterminismError(
            f"workflow {self._workflow_id!r}: {told.format(recorded)}",
            workflow_id=self._workflow_id,
            step_key=keys[0],
            recorded=recorded,
            called="nothing",
        )

    def _expect(self, scope: Scope, key: str, position: int, called: str, *, as_branch: bool) -> None:
        """Raise NonDeterminismError if something else is recorded in the place of a key that has no row."""
        rows = self.left()
        if not rows:
            return
        if self._places is None:
            self._places = _places(list(rows.values()))  # other branches take rows out meanwhile
        there, found = self._places.get((scope.path, position), (key, None))
        if found is None or found[0] not in rows:
            return
        row = Checkpoint.of(found)
        was_branch = there != row.step_key
        if there != key or was_branch != as_branch:
            recorded = f"{name_in(there)} as a branch" if was_branch else f"{name_in(there)}{describe(row.fingerprint)}"
            self._diverged(scope, row, there, recorded, called)

    def _diverged(self, scope: Scope, row: Checkpoint, key: str, recorded: str, called: str) -> None:
        if row.epoch < scope.retried_epoch:
            gone = [other for other in list(self.left()) if other == key or other.startswith(f"{key}/")]
            for other in gone:
                self.tries[other] = Checkpoint.of(self.rows.pop(other)).attempt
            self._last_places = None
            self._supersede(gone)
            return
        renamed = _if_renamed(row.kind, name_in(key), recorded, called)
        raise NonDeterminismError(
            f"workflow {self._workflow_id!r}: step {key!r} was recorded as {recorded}, the code now calls {called}; "
            f"{renamed}give the new code a new workflow id, or bring the old code back",
            workflow_id=self._workflow_id,
            step_key=key,
            recorded=recorded,
            called=called,
        )


def _if_renamed(kind: str, was: str, recorded: str, called: str) -> str:
    """Return how the code can keep a recorded name, if nothing else seems to have changed."""
    arguments = recorded.removeprefix(was)
    if recorded == called or not called.endswith(arguments):
        return ""
    if arguments == " as a branch":
        how = f"call ctx.branch({was!r}, fn)"
    elif kind == "child":
        how = f"mark the function with @workflow(former_names=[{was!r}])"
    else:
        how = f"mark the function with @step(name={was!r})"
    return f"if only the name has changed, {how}; else "


def _join(keys: list[str]) -> str:
    return ", ".join(keys[:_MANY]) + (", ..." if len(keys) > _MANY else "")


def _places(rows: Iterable[Row]) -> dict[tuple[str, int], tuple[str, Row]]:
    """Return which key is recorded in each place (path of the scope, number), branches on the way included."""
    places = {}
    for row in rows:
        key = row[0]
        while key:
            path, _, last = key.rpartition("/")
            places[path, int(last.rpartition("_")[2])] = (key, row)
            key = path
    return places
