"""The English of the package: words and openings of sentences that do not occur. The rules are in the guide."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

import durable

PACKAGE = Path(durable.__file__).parent
WRITTEN_IN = {".py", ".js", ".css", ".sql", ".json", ".md", ".html"}
WORDS = re.compile(
    r"(?<![a-z])(nobody|somebody|whoever|foreman|foremen|clerks?|chores?|(is|are|was|were) told|mends?"
    r"|(to|can|cannot) be had)(?![a-z])",
    re.IGNORECASE,
)
ALLOWED = 'UNPRIVILEGED = "nobody"'  # the name of a Unix account
OPENING = re.compile(r"(who|what|of)\b", re.IGNORECASE)


def list_faults(text: str, *, is_python: bool) -> list[str]:
    """Return the forbidden words and sentence openings of a file, each with its line number."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        found += [f"{number}: {match[0]!r}" for match in WORDS.finditer(line.replace(ALLOWED, ""))]
    if is_python:
        for number, prose in list_prose(text):
            found += [f"{number}: {sentence[:50]!r}" for sentence in sentences(prose) if is_inverted(sentence)]
    return found


def list_prose(source: str) -> Iterator[tuple[int, str]]:
    """Yield the docstrings and comments of a module. Lines of comments that follow each other are one text."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text is not None:
                yield node.body[0].lineno, text
    block: list[str] = []
    first = last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            if block and token.start[0] != last + 1:
                yield first, " ".join(block)
                block = []
            first = first if block else token.start[0]
            block.append(token.string.lstrip("#- "))
            last = token.start[0]
    if block:
        yield first, " ".join(block)


def sentences(prose: str) -> list[str]:
    """Split a text at the end of each sentence and of each paragraph."""
    return [" ".join(part.split()) for part in re.split(r"(?<=[.!?])\s+|\n\s*\n", prose) if part.strip()]


def is_inverted(sentence: str) -> bool:
    """Return whether a sentence, which is no question, opens with a clause in place of a subject."""
    return OPENING.match(sentence) is not None and not sentence.endswith("?")


FILES = [path for path in sorted(PACKAGE.rglob("*")) if path.suffix in WRITTEN_IN]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_has_a_forbidden_word_or_an_inverted_sentence(path: Path) -> None:
    assert list_faults(path.read_text(encoding="utf-8"), is_python=path.suffix == ".py") == []


def test_the_rules_find_what_they_forbid() -> None:
    assert list_faults("nobody_waits = 1\n", is_python=False) == ["1: 'nobody'"]
    assert list_faults("x = 1\n# The waiter is told.\n", is_python=True) == ["2: 'is told'"]
    assert list_faults("no file is to be had; mend it\n", is_python=False) == ["1: 'to be had'", "1: 'mend'"]
    assert list_faults("x = 1  # what is due\n# runs first\n", is_python=True) == ["1: 'what is due runs first'"]
    assert list_faults('"""Run. Of two, the older\nruns."""\n', is_python=True) == ["1: 'Of two, the older runs.'"]
    assert list_faults('def f():\n    """Run.\n\n    Who waits, runs."""\n', is_python=True) == [
        "2: 'Who waits, runs.'"
    ]


def test_a_question_and_a_word_inside_another_are_allowed() -> None:
    assert list_faults('"""What is due? A soft whisper: who knows."""\nanybody = "offset"\n', is_python=True) == []
