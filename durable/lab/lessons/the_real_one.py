"""The exercises of notebook 12: a copy of the engine, with one line of its core changed, under the crash matrix."""

from __future__ import annotations

import html
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import durable
from durable.lab.course.tour import tour
from durable.lab.questions.checks import Exercise, Verdict, not_yet, right

__all__ = ["break_line", "q1", "q2", "tour"]

# ---- a copy with one other line

SECONDS = 240
_CHILD = """
import json, sys
sys.path.insert(0, sys.argv[1])
from tour import tour
from durable.testing import Plan, crash_matrix
from durable.testing.matrix.play import MatrixError

try:
    report = crash_matrix(tour, plan=Plan(pairs=0, seconds=120), progress=lambda *_: None)
except MatrixError as error:
    found = {"broken": ["ends"], "words": str(error), "picture": ""}
else:
    broken = sorted({found.promise for judgement in report.broken for found in judgement.violations})
    found = {"broken": broken, "words": report.verdict(), "picture": report._repr_html_()}
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Findings:
    """The findings of the crash matrix in a copy of the engine: the promises that it breaks, the words, the picture."""

    broken: tuple[str, ...]
    words: str
    picture: str

    def __repr__(self) -> str:
        return self.words

    def _repr_html_(self) -> str:
        return self.picture or f"<p>{html.escape(self.words)}</p>"


def break_line(file: str, line: str, instead: str) -> Findings:
    """Change one line of a file in a copy of the engine, and let the crash matrix try `tour` on the copy.

    The line is found without its indentation and its comment. Raises LookupError unless it is there once.
    """
    package = Path(durable.__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "durable"
        shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__", "notebooks"))
        _change(copy / file, line, instead)
        command = [sys.executable, "-c", _CHILD, str(copy / "lab" / "course")]
        said = subprocess.run(
            command,
            cwd=folder,
            env=os.environ | {"PYTHONPATH": folder},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    if said.returncode:
        return Findings(("ends",), said.stderr.strip().splitlines()[-1], "")
    found = json.loads(said.stdout.splitlines()[-1])
    return Findings(tuple(found["broken"]), found["words"], found["picture"])


def _change(path: Path, line: str, instead: str) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    places = [number for number, text in enumerate(lines) if _code(text) == line.strip()]
    if len(places) != 1:
        raise LookupError(f"{path.name}: {line.strip()!r} is there {len(places)} times, and should be there once")
    (place,) = places
    indentation = lines[place][: len(lines[place]) - len(lines[place].lstrip())]
    lines[place] = indentation + instead.strip()
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _code(text: str) -> str:
    return text.partition("  #")[0].strip()


# ---- q1

DRAW = "self.number += 1"


def judge_keys(line: str) -> Verdict:
    """Put the reader's line in the place of `DRAW`: the keys of a resumed tour have to be other ones."""
    if line.strip() == DRAW:
        return not_yet("the line is as it was, and the tour survives.")
    findings = break_line("replay/keys.py", DRAW, line)
    if "keys" in findings.broken:
        return right("each process numbers its steps in its own way, so a resume does not find its record.")
    if findings.broken:
        return not_yet(f"it breaks something else: {findings.words}")
    return not_yet("the tour survives: every process still draws the same numbers.", findings.picture)


q1 = Exercise(
    "12.q1",
    judge_keys,
    "What differs from one process to the next, and stays the same within a process?",
    "Its number: os.getpid(). The module has not imported os; __import__('os') does that within a line.",
)

# ---- q2

PROMISES = {
    "once": "a saved step never runs again",
    "ends": "it can be resumed until it ends",
    "lost": "every effect happens",
}
RULE = {
    'if row is None or row.status == "completed":': "if row is None:",
    "if key in run.history.waits:": 'if row.status == "running" or key in run.history.waits:',
}
WHY = {
    'if row is None or row.status == "completed":': "a row that says completed is taken for none",
    "if key in run.history.waits:": "a row that says running is taken for an outcome, and it has no output",
}


def judge_rule(breaks: dict[str, str]) -> Verdict:
    """Try each line in a copy, and compare with the promise that it was said to break."""
    for line, said in breaks.items():
        if said not in PROMISES:
            return not_yet(f"{said!r} is none of {', '.join(PROMISES)}.")
        findings = break_line("replay/frame.py", RULE[line], line)
        if said not in findings.broken:
            return not_yet(f"{line} keeps the promise {said!r}: {WHY[line]}. {findings.words}", findings.picture)
    return right("one line too eager, one too trusting.")


q2 = Exercise(
    "12.q2",
    judge_rule,
    "Follow a tour that was killed in the attic. Which rows are there, and which way does each take through reach?",
    "The first line sends completed rows to the way of new steps. The second sends running rows to the last lines.",
)
