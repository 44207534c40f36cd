"""Pages of the documentation, executed: their Python, their transcripts, their commands.

A page runs from its top in an empty folder. Blocks of `python` run in one process, up to the next command; a plain
block right after one has what it prints. In a block of `console` each line after `$ ` is a command. The other lines are
what it prints, in any order, since parallel steps have none; blank ones do not count. A block of `sh` has to succeed.
An HTML comment before a block changes that:

    <!-- file: shop.py -->          the block is written into that file
    <!-- not run: the reason -->    the block cannot run here
    <!-- cut: the reason -->        more may be printed than the block shows
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.command_line import in_shell

ROOT = Path(__file__).parents[2]
MADE = ("docs/course", "docs/reference/made", "docs/_build")
_BLOCK = re.compile(
    r"(?:^<!-- (?P<note>[^\n]*) -->\n)?^(?P<indent> *)```(?P<language>[^\n`]*)\n(?P<code>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass
class Block:
    """A fenced block: its language, what its comment says, and what a plain block after it says that it prints."""

    language: str
    code: str
    note: str
    prints: str | None = None

    @property
    def file(self) -> str:
        return self.note.removeprefix("file: ") if self.note.startswith("file: ") else ""

    @property
    def runs(self) -> bool:
        return not self.note.startswith("not run: ") and self.language in ("python", "console", "sh")


def list_pages() -> list[Path]:
    """All pages that are written by hand."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    return sorted(page for page in pages if not page.relative_to(ROOT).as_posix().startswith(MADE))


def blocks_of(text: str) -> list[Block]:
    """The fenced blocks of a page, in order; what a block prints is a part of it."""
    blocks: list[Block] = []
    end = -1
    for match in _BLOCK.finditer(text):
        plain = match["language"] in ("", "text") and not match["note"]
        if plain and blocks and blocks[-1].language == "python" and match.start() == end + 1:
            blocks[-1].prints = match["code"]
        else:
            code = re.sub(rf"^{match['indent']}", "", match["code"], flags=re.MULTILINE)
            blocks.append(Block(match["language"].strip(), code, match["note"] or ""))
        end = match.end()
    return blocks


def transcripts(block: str) -> list[tuple[str, list[str]]]:
    """The commands of a block, each with the lines that are said to follow it."""
    first, *parts = re.split(r"^\$ ", block, flags=re.MULTILINE)
    assert not first.strip()
    found = []
    for part in parts:
        lines = part.splitlines()
        length = 1
        while lines[length - 1].endswith("\\"):  # a command that goes on in the next line
            length += 1
        found.append(("\n".join(lines[:length]), lines[length:]))
    return found


def shell(command: str, folder: Path) -> list[str]:
    """What a command prints, as a user of this environment would see it, line by line."""
    done = in_shell(command, folder)
    return (done.stdout + done.stderr).splitlines()


def faults_of(text: str, folder: Path) -> Iterator[str]:
    """Run a page in a folder, and yield what differs from what it says."""
    together: list[Block] = []
    for block in blocks_of(text):
        if block.file:
            (folder / block.file).parent.mkdir(parents=True, exist_ok=True)
            (folder / block.file).write_text(block.code, encoding="utf-8")
        elif block.runs and block.language == "python":
            together.append(block)
        elif block.runs:
            yield from _faults_of_python(together, folder)
            together = []
            yield from _faults_of_commands(block, folder)
    yield from _faults_of_python(together, folder)


def _faults_of_python(blocks: list[Block], folder: Path) -> Iterator[str]:
    if not blocks:
        return
    script = folder / "page.py"
    script.write_text("\n\n".join(block.code for block in blocks), encoding="utf-8")
    done = in_shell(f"{shlex.quote(sys.executable)} page.py", folder)
    script.unlink()
    expected = "".join(block.prints or "" for block in blocks)
    if done.returncode or done.stderr:
        yield f"{blocks[0].code[:60]!r} ended with {done.returncode}: {done.stderr}"
    elif done.stdout != expected and not any(block.note.startswith("cut: ") for block in blocks):
        yield f"{blocks[0].code[:60]!r} printed {done.stdout!r}, not {expected!r}"


def _faults_of_commands(block: Block, folder: Path) -> Iterator[str]:
    if block.language == "sh":
        done = in_shell(f"set -e\n{block.code}", folder)
        if done.returncode:
            yield f"{block.code!r} ended with {done.returncode}: {done.stderr}"
        return
    for command, lines in transcripts(block.code):
        printed, expected = _solid(shell(command, folder)), _solid(lines)
        missing = [line for line in expected if line not in printed]
        is_cut = block.note.startswith("cut: ")
        if missing if is_cut else sorted(printed) != sorted(expected):
            yield f"{command!r} printed {printed}, not {expected}"


def _solid(lines: list[str]) -> list[str]:
    return [line.rstrip() for line in lines if line.strip()]
