"""The English of the package: words and openings of sentences that do not occur. The rules are in the guide."""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

import durable
from tests.support.pages import list_pages

PACKAGE = Path(durable.__file__).parent
WRITTEN_IN = {".py", ".js", ".css", ".sql", ".json", ".md", ".html"}
WORDS = re.compile(
    r"(?<![a-z])(nobody|somebody|whoever|foreman|foremen|clerks?|chores?|(is|are|was|were) told|mends?"
    r"|one likes|belongs into|is no JSON|stands in|lies in"
    r"|(to|can|cannot) be had)(?![a-z])",
    re.IGNORECASE,
)
ALLOWED = 'UNPRIVILEGED = "nobody"'  # the name of a Unix account
OPENING = re.compile(r"(who|what|of(?! course)|where|whoever|whatever)\b", re.IGNORECASE)
CODE = re.compile(r"`[^`]*`|\]\([^)]*\)")  # of which each counts as one word
ITEM = re.compile(r"^\s*(?:[-*>]|\d+\.) +")
LONGEST_LABEL = 5  # words of a cell of a table that is no sentence
LONGEST_SENTENCE = 40  # words; the guide asks for about 20, and lists of names take more


def list_faults(text: str, *, is_python: bool) -> list[str]:
    """Return the forbidden words, sentence openings and long sentences of a file, each with its line number."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        found += [f"{number}: {match[0]!r}" for match in WORDS.finditer(line.replace(ALLOWED, ""))]
    if is_python:
        for number, prose in list_prose(text):
            found += [f"{number}: {fault}" for fault in list_sentence_faults(prose)]
    return found


def list_sentence_faults(prose: str) -> list[str]:
    """Return the inverted and the long sentences of a text."""
    found = []
    for sentence in sentences(prose):
        if is_inverted(sentence):
            found.append(repr(sentence[:50]))
        if (words := len(CODE.sub("x", sentence).split())) > LONGEST_SENTENCE:
            found.append(f"{words} words: {sentence[:50]!r}")
    return found


def list_markdown(text: str) -> Iterator[tuple[int, str]]:
    """Yield the paragraphs, list items and table cells of a page, without its headings and blocks of code."""
    block: list[str] = []
    first, is_code = 1, False
    for number, line in enumerate([*text.splitlines(), ""], 1):
        is_fence = line.lstrip().startswith(("```", ":::"))
        is_code = is_code != (is_fence and line.lstrip().startswith("```"))
        is_row = line.startswith("|")
        if block and (is_fence or is_code or is_row or not line.strip() or line.startswith("#") or ITEM.match(line)):
            yield first, " ".join(block)
            block = []
        if is_row and not is_head(text, number):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))]
            yield from ((number, cell) for cell in cells if len(cell.split()) > LONGEST_LABEL)
        elif not (is_fence or is_code or is_row or line.startswith(("#", "<!--"))) and line.strip():
            first = first if block else number
            block.append(ITEM.sub("", line).strip())


def is_head(text: str, number: int) -> bool:
    """Return whether a line of a table is its head, which has names instead of sentences."""
    following = text.splitlines()[number : number + 1]
    return bool(following) and following[0].startswith("|--")


def list_prose(source: str) -> Iterator[tuple[int, str]]:
    """Yield the docstrings and comments of a module. Lines of comments that follow each other are one text."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text is not None:
                yield node.body[0].lineno, re.sub(r"^(?: {4}|>>>|\.\.\.).*$", "", text, flags=re.MULTILINE)
    block: list[str] = []
    first = last = 0
    is_label = False  # a single comment behind a line of code, which is no sentence
    for token in [*tokenize.generate_tokens(io.StringIO(source).readline), None]:
        if token is not None and token.type != tokenize.COMMENT:
            continue
        is_trailing = token is not None and not token.line.lstrip().startswith("#")
        if block and (token is None or is_trailing or token.start[0] != last + 1):
            if not is_label:
                yield first, " ".join(block)
            block = []
        if token is not None:
            is_label = is_trailing and token.string.lstrip("# ")[:1].islower() and not block
            first = first if block else token.start[0]
            block.append(token.string.lstrip("#- "))
            last = token.start[0]


def sentences(prose: str) -> list[str]:
    """Split a text at the end of each sentence and of each paragraph."""
    return [" ".join(part.split()) for part in re.split(r"(?<=[.!?])\s+|\n\s*\n", prose) if part.strip()]


def is_inverted(sentence: str) -> bool:
    """Return whether a sentence, which is no question, opens with a clause in place of a subject."""
    plain = sentence.strip("*_()\"' ")
    return OPENING.match(plain) is not None and not plain.endswith(("?", ":"))


FILES = [path for path in sorted(PACKAGE.rglob("*")) if path.suffix in WRITTEN_IN]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_has_a_forbidden_word_or_an_inverted_sentence(path: Path) -> None:
    assert list_faults(path.read_text(encoding="utf-8"), is_python=path.suffix == ".py") == []


PAGES = {page.relative_to(PACKAGE.parent).as_posix(): page for page in list_pages()}
NOTEBOOKS = {path.name: path for path in sorted((PACKAGE.parent / "notebooks").glob("*.ipynb"))}


@pytest.mark.parametrize("name", PAGES)
def test_no_page_has_a_forbidden_word_or_an_inverted_or_long_sentence(name: str) -> None:
    text = PAGES[name].read_text(encoding="utf-8")
    sentence_faults = [f"{line}: {fault}" for line, part in list_markdown(text) for fault in list_sentence_faults(part)]

    assert list_faults(text, is_python=False) + sentence_faults == []


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_no_notebook_has_an_inverted_or_long_sentence(name: str) -> None:
    cells = json.loads(NOTEBOOKS[name].read_text(encoding="utf-8"))["cells"]
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]

    assert [fault for text in texts for _, part in list_markdown(text) for fault in list_sentence_faults(part)] == []


def test_the_rules_find_what_they_forbid() -> None:
    assert list_faults("nobody_waits = 1\n", is_python=False) == ["1: 'nobody'"]
    assert list_faults("x = 1\n# The waiter is told.\n", is_python=True) == ["2: 'is told'"]
    assert list_faults("no file is to be had; mend it\n", is_python=False) == ["1: 'to be had'", "1: 'mend'"]
    assert list_faults("x = 1  # what is due\n# runs first\n", is_python=True) == ["1: 'what is due runs first'"]
    assert list_faults('"""Run. Of two, the older\nruns."""\n', is_python=True) == ["1: 'Of two, the older runs.'"]
    assert list_faults('def f():\n    """Run.\n\n    Who waits, runs."""\n', is_python=True) == [
        "2: 'Who waits, runs.'"
    ]
    assert list_sentence_faults("A step " + "and a step " * 13 + "runs.") == [
        "42 words: 'A step and a step and a step and a step and a step'"
    ]
    table = "| what | b |\n|---|---|\n| c | of these two, one is due |\n"
    page = f"# What is it\n\n- What is due\n  runs.\n\n{table}\n```\nwhat\n```\n"
    assert [each for _, part in list_markdown(page) for each in list_sentence_faults(part)] == [
        "'What is due runs.'",
        "'of these two, one is due'",
    ]


def test_a_question_and_a_word_inside_another_are_allowed() -> None:
    assert list_faults('"""What is due? A soft whisper: who knows."""\nanybody = "offset"\n', is_python=True) == []
