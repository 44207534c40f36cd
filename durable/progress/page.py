"""The page of the course: its notebooks, a tick for each task that is done, and what the reader can do now."""

from __future__ import annotations

import html
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from urllib.parse import quote

from durable.progress.record import RECALL

TICK, CIRCLE = "\u2713", "\u25cb"
_HERE = Path(__file__).parent
_EXERCISES = _HERE.parent / "lab" / "course"  # read, and not imported: the lab is slow to import
_ROW = re.compile(r"^\| (\d+) \| \[(\w+)\]\(\w+\.ipynb\) \| (.+?) \| (\d+) \| (.+?) \|$", re.MULTILINE)


@dataclass(frozen=True)
class Lesson:
    """A notebook of the course: what it asks, what one can do afterwards, and its tasks."""

    name: str
    question: str
    minutes: int
    afterwards: str
    tasks: tuple[str, ...]

    def is_done(self, done: Mapping[str, str]) -> bool:
        """Return whether all its tasks are done."""
        return all(task in done for task in self.tasks)


def list_lessons(course: Path) -> list[Lesson]:
    """Return the notebooks that the course's README lists, with their tasks."""
    exercises = [*json.loads((_EXERCISES / "solutions.json").read_text(encoding="utf-8"))]
    questions = tomllib.loads((_EXERCISES / "recall.toml").read_text(encoding="utf-8"))
    tasks = sorted(exercises) + [f"{number}.{RECALL}" for number in questions]
    return [
        Lesson(name, question, int(minutes), afterwards, tuple(task for task in tasks if task.startswith(name[:2])))
        for _, name, question, minutes, afterwards in _ROW.findall((course / "README.md").read_text(encoding="utf-8"))
    ]


def draw_page(lessons: list[Lesson], done: Mapping[str, str], *, base: str, token: str, said: str = "") -> str:
    """Return the page. `base` is the server's address, `token` the field that its forms need, as HTML."""
    rows = "".join(_draw_row(lesson, done, base, token) for lesson in lessons)
    return _fill("page.html", base=html.escape(base), rows=rows, said=html.escape(said), **_summary(lessons, done))


def draw_file(lessons: list[Lesson], done: Mapping[str, str], reader: str) -> str:
    """Return the summary for a teacher: one page that needs no server."""
    rows = "".join(
        f"<tr><td>{html.escape(lesson.name)}</td><td>{_ticks(lesson, done)}</td>"
        f"<td>{max((done[task] for task in lesson.tasks if task in done), default='')}</td></tr>"
        for lesson in lessons
    )
    return _fill("file.html", reader=html.escape(reader or "a reader"), rows=rows, **_summary(lessons, done))


def _draw_row(lesson: Lesson, done: Mapping[str, str], base: str, token: str) -> str:
    address, name = html.escape(f"{base}lab/tree/{quote(lesson.name)}.ipynb"), html.escape(lesson.name)
    number = int(lesson.name[:2])
    return (
        f'<tr data-done="{str(lesson.is_done(done)).lower()}"><td>{number}</td>'
        f'<td><a href="{address}">{html.escape(lesson.question)}</a></td><td>{lesson.minutes} min</td>'
        f"<td>{_ticks(lesson, done)}</td>"
        f'<td><form method="post">{token}<input type="hidden" name="notebook" value="{name}">'
        f'<button aria-label="Reset notebook {number}">Reset</button></form></td></tr>'
    )


def _ticks(lesson: Lesson, done: Mapping[str, str]) -> str:
    ticks = ((task, task.partition(".")[2].replace("q", "exercise "), task in done) for task in lesson.tasks)
    return "".join(
        f'<span class="tick" data-task="{task}" data-done="{str(is_done).lower()}">'
        f"{TICK if is_done else CIRCLE} {what}<i>{': done' if is_done else ': not yet'}</i></span>"
        for task, what, is_done in ticks
    )


def _summary(lessons: list[Lesson], done: Mapping[str, str]) -> dict[str, str]:
    count = sum(task in done for lesson in lessons for task in lesson.tasks)
    able = "".join(f"<li>{html.escape(lesson.afterwards)}</li>" for lesson in lessons if lesson.is_done(done))
    nothing = "<li>This list grows with each notebook whose tasks are all done.</li>"
    return {"count": str(count), "all": str(sum(len(lesson.tasks) for lesson in lessons)), "able": able or nothing}


def _fill(template: str, **values: str) -> str:
    text = (_HERE / template).read_text(encoding="utf-8")
    return Template(text).substitute(values, style=(_HERE / "page.css").read_text(encoding="utf-8"))
