"""The notebooks run top to bottom without a click, tell no lies in their committed outputs, and survive their crash.

They are readers' and solved ones, the former derived from the latter. `python -m durable.lab.course` writes both.
"""

from __future__ import annotations

import ast
import base64
import copy
import importlib
import re
import statistics
from pathlib import Path

import nbclient
import nbformat
import pytest
from jupyter_core.utils import run_sync
from spellchecker import SpellChecker

from durable.examples.effects import list_effects
from durable.lab.course import build
from durable.lab.course.build import WIDGET_VIEW, derive, keep_quiet, read, tags, words_of
from durable.lab.questions.prediction import PANEL_RAN
from durable.lab.questions.recall import read_questions
from tests.support.notebooks import CELL_SECONDS, FOLDER, NOTEBOOKS, SANDBOX, SOLVED_NOTEBOOKS, run

MAX_BYTES = 150_000
MIN_CELLS, MAX_CELLS, MAX_LINES, USUAL_LINES, IMPORT_LINES = 25, 46, 25, 12, 6
MEDIAN_LINES, READERS_MEDIAN_LINES = 4, 6  # the reader's has no assertions, which are the shortest cells
MAX_WIDTH = 106  # what JupyterLab shows of a line at 1280 pixels, beside its list of files
MIN_WORDS, MAX_WORDS = 8, 20  # of prose for a line of code. The guide says 15; in notebook 1 one clicks, and it has 19
ABSOLUTE = re.compile(r"(?<![\w.:/])/(?:home|root|tmp|usr|var|opt|Users|work|private)/|[A-Z]:\\\\")
WORDS = (FOLDER / "words.txt").read_text(encoding="utf-8").split()

each_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)


def name_of(notebook: Path) -> str:
    return f"{notebook.stem}-{notebook.parent.name}"


solved_or_not = pytest.mark.parametrize("notebook", [*NOTEBOOKS, *SOLVED_NOTEBOOKS], ids=name_of)


def outputs_of(content) -> list:
    return [output for cell in content.cells for output in cell.get("outputs", [])]


def code_of(content) -> list:
    return [cell for cell in content.cells if cell.cell_type == "code"]


def parse(source: str) -> ast.Module:
    """The Python of a cell, without its magics."""
    return ast.parse(re.sub(r"^%", "# %", source, flags=re.MULTILINE))


def solved_of(notebook: Path):
    return read(build.SOLVED / notebook.name)


def prose_of(content) -> str:
    return "\n\n".join(cell.source for cell in content.cells if cell.cell_type == "markdown")


def cell_with(content, cell_id: str):
    return next(cell for cell in content.cells if cell.id == cell_id)


# ---- they run, and show what is committed


def words_by_cell(content, *, without: set[str] = frozenset()) -> dict[str, list[str]]:
    cells = [cell for cell in code_of(content) if not without & {cell.id, *tags(cell)}]
    return {cell.id: [words_of(output) for output in cell.outputs] for cell in cells}


@pytest.mark.parametrize("notebook", SOLVED_NOTEBOOKS, ids=name_of)
@pytest.mark.thorough
def test_a_solved_notebook_runs_without_a_click_and_shows_what_is_committed(notebook, tmp_path):
    assert words_by_cell(run(notebook, tmp_path)) == words_by_cell(read(notebook))


SOLVED_ONLY = {"check", "count-lines"}  # these show what the reader has written


@pytest.mark.parametrize("notebook", SOLVED_NOTEBOOKS, ids=lambda path: path.stem)
def test_a_readers_notebook_runs_and_shows_what_the_solved_one_does_and_its_checks_say_not_yet(notebook, tmp_path):
    solved = read(notebook)
    ran = build.execute(derive(solved, without=["solution"]), tmp_path)  # with the assertions of the solved one
    expected = words_by_cell(solved, without=SOLVED_ONLY | {"solution"})
    verdicts = [output.data["text/plain"] for cell in checks_of(ran) for output in cell.outputs]

    assert words_by_cell(ran, without=SOLVED_ONLY) == expected
    assert len(verdicts) == len(checks_of(solved)) and all(said.startswith("not yet: ") for said in verdicts)
    assert [
        output for output in outputs_of(ran) if output.output_type == "error" or output.get("name") == "stderr"
    ] == []


def checks_of(content) -> list:
    return [cell for cell in code_of(content) if "check" in tags(cell)]


@pytest.mark.parametrize("notebook", SOLVED_NOTEBOOKS, ids=lambda path: path.stem)
def test_cells_that_only_assert_are_folded_and_the_reader_has_none(notebook):
    bodies = {cell.id: parse(cell.source).body for cell in code_of(read(notebook))}
    only_assert = {cell for cell, body in bodies.items() if body and all(isinstance(node, ast.Assert) for node in body)}
    folded = {cell.id for cell in code_of(read(notebook)) if cell.metadata.get("jupyter", {}).get("source_hidden")}

    assert only_assert == folded == {cell.id for cell in code_of(read(notebook)) if "assert" in tags(cell)}
    assert only_assert
    assert not only_assert & {cell.id for cell in read(FOLDER / notebook.name).cells}


def test_there_is_a_solved_notebook_for_each():
    assert [path.name for path in NOTEBOOKS] == [path.name for path in SOLVED_NOTEBOOKS]
    numbers = [path.stem[:2] for path in NOTEBOOKS]
    assert numbers == [f"{number:02}" for number in range(1, len(numbers) + 1)]


@each_notebook
def test_the_readers_notebook_is_derived_from_the_solved_one(notebook):
    expected = derive(read(build.SOLVED / notebook.name))
    committed = read(notebook)

    assert committed.cells == expected.cells
    assert outputs_of(committed) == []


def test_the_solutions_are_those_of_the_solved_notebooks():
    assert build.SOLUTIONS.read_text(encoding="utf-8") == build.as_json(build.collect_all())


@each_notebook
def test_its_checks_say_right_solved(notebook):
    verdicts = [output.data["text/plain"] for cell in checks_of(solved_of(notebook)) for output in cell.outputs]

    assert 2 <= len(verdicts) <= 6
    assert all(said.startswith("right: ") for said in verdicts)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("take_away", "says"),
    [
        ("sys.modules['dbos'] = None", "durable.on_dbos needs the package dbos"),
        ("sys.modules['durable.lab.postgres']._candidates = list", "there is no PostgreSQL on this machine"),
    ],
)
def test_where_no_postgresql_can_be_had_notebook_10_says_so_and_goes_on_with_a_file(take_away, says, tmp_path):
    committed = read(build.SOLVED / "10_one_machine_and_beyond.ipynb")
    content = copy.deepcopy(committed)
    content.cells.insert(0, nbformat.v4.new_code_cell(f"import sys; from durable import lab; {take_away}"))
    ran = build.execute(content, tmp_path)

    assert says in " ".join(words_of(output) for output in cell_with(ran, "server").outputs)
    assert cell_with(committed, "server").outputs == []
    assert words_of(cell_with(committed, "open").outputs[0]) == "onboarding ran on: DBOSEngine\n"
    assert words_of(cell_with(ran, "open").outputs[0]) == "onboarding ran on: Engine\n"
    for cell in ("open", "take-up"):  # the same tables on one as on the other
        table, expected = (cell_with(content, cell).outputs[-1] for content in (ran, committed))
        assert words_of(table) == words_of(expected)


# ---- the notebook for a workflow of one's own


def test_the_template_runs_survives_its_crashes_and_can_be_imported_by_every_process(tmp_path):
    solved = solved_of(SANDBOX)
    ran = build.execute(read(SANDBOX), tmp_path)

    assert read(SANDBOX).cells == derive(solved).cells
    assert words_by_cell(ran) == words_by_cell(solved)
    assert "my_workflow survives" in words_of(cell_with(ran, "matrix").outputs[-1])
    assert (tmp_path / "my_workflow.py").read_text(encoding="utf-8").startswith("from durable import Context\n")


@pytest.mark.parametrize("notebook", [SANDBOX, build.SOLVED / SANDBOX.name], ids=["readers", "solved"])
def test_the_template_is_short_clean_and_spelled_right(notebook):
    content = read(notebook)
    lines = [line for cell in code_of(content) for line in cell.source.splitlines()]

    assert len(content.cells) <= 12
    assert max(map(len, lines)) <= MAX_WIDTH
    assert not ABSOLUTE.search(notebook.read_text(encoding="utf-8"))
    assert "widgets" not in content.metadata
    assert misspelled(prose_of(content)) == set()


# ---- the command keeps diffs quiet


def notebook_of(*cells) -> nbformat.NotebookNode:
    made = [
        nbformat.v4.new_code_cell(source, id=f"cell{n}", outputs=outputs) for n, (source, outputs) in enumerate(cells)
    ]
    return nbformat.v4.new_notebook(cells=made)


def said(text: str) -> list:
    return [nbformat.v4.new_output("stream", text=text)]


def test_outputs_that_differ_in_a_time_or_an_address_alone_stay_as_they_were():
    committed = notebook_of(("look()", said("process 12 took 0.31 s at 0x7f00aa00")), ("count()", said("3 steps")))
    ran = notebook_of(("look()", said("process 99 took 0.48 s at 0x7f11bb11")), ("count()", said("4 steps")))

    kept = keep_quiet(copy.deepcopy(ran), committed)

    assert [cell.outputs for cell in kept.cells] == [committed.cells[0].outputs, ran.cells[1].outputs]


def test_a_text_that_comes_in_pieces_is_one_output():
    error = nbformat.v4.new_output("stream", name="stderr", text="!")
    ran = notebook_of(("look()", [*said("3 "), *said("steps"), error]))

    (cell,) = build.tidy(ran).cells

    assert [output.text for output in cell.outputs] == ["3 steps", "!"]


def test_outputs_of_a_cell_that_has_changed_are_new():
    committed = notebook_of(("look()", said("took 0.31 s")))
    ran = notebook_of(("look(again)", said("took 0.48 s")))

    assert keep_quiet(copy.deepcopy(ran), committed).cells[0].outputs == ran.cells[0].outputs


# ---- their style


@solved_or_not
def test_it_is_small_and_holds_no_path_no_warning_and_no_dead_widget(notebook):
    content = read(notebook)
    said = "\n".join(map(words_of, outputs_of(content)))

    assert notebook.stat().st_size < MAX_BYTES
    assert not ABSOLUTE.search(notebook.read_text(encoding="utf-8"))
    assert "Warning" not in said
    assert "Traceback" not in said
    assert not any(output.output_type == "error" for output in outputs_of(content))
    assert not any(output.get("name") == "stderr" for output in outputs_of(content))
    assert "widgets" not in content.metadata
    assert not any(WIDGET_VIEW in output.get("data", {}) for output in outputs_of(content))


@each_notebook
def test_all_cells_of_the_solved_notebook_have_been_run(notebook):
    code = code_of(solved_of(notebook))

    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))


@solved_or_not
def test_its_cells_are_short(notebook):
    lines = [len(cell.source.splitlines()) for cell in code_of(read(notebook))]

    assert max(lines) <= MAX_LINES
    assert statistics.median(lines) <= (MEDIAN_LINES if notebook in SOLVED_NOTEBOOKS else READERS_MEDIAN_LINES)
    assert sum(number > USUAL_LINES for number in lines) <= len(lines) / 6


@each_notebook
def test_there_is_enough_prose_for_its_code_and_not_too_much(notebook):
    content = read(notebook)

    assert MIN_WORDS <= words_per_line(content) <= MAX_WORDS


def words_per_line(content) -> float:
    """Words of prose for each line of code that is not blank, as the reader meets them: without the solutions."""
    lines = [line for cell in code_of(content) for line in cell.source.splitlines() if line.strip()]
    return len(prose_of(content).split()) / len(lines)


def test_too_little_prose_would_be_found():
    content = notebook_of(("first = 1\n\nsecond = 2", []))
    content.cells.append(nbformat.v4.new_markdown_cell("Two lines of code, and seven words."))

    assert words_per_line(content) == 3.5


@solved_or_not
def test_its_code_can_be_read_without_scrolling_sideways(notebook):
    lines = [(cell.id, line) for cell in code_of(read(notebook)) for line in cell.source.splitlines()]

    assert [(cell, line) for cell, line in lines if len(line) > MAX_WIDTH] == []


@each_notebook
def test_it_has_the_frame(notebook):
    content = read(notebook)
    first, imports, *_ = content.cells
    headings = re.findall(r"^## .+", prose_of(content), re.MULTILINE)
    summary = prose_of(content).partition("## In three lines")[2].partition("## What next")[0]

    assert MIN_CELLS <= len(content.cells) <= MAX_CELLS
    assert re.match(r"# .+\?\n", first.source)
    assert re.search(r"In about (1[5-9]|2\d|30) minutes you will be able to\n\n- ", first.source)
    assert imports.cell_type == "code"
    assert len(imports.source.splitlines()) <= IMPORT_LINES
    assert all(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.parse(imports.source).body)
    assert headings[-2:] == ["## In three lines", "## What next"]
    assert len(re.findall(r"^- ", summary, re.MULTILINE)) == 3


@each_notebook
def test_it_predicts_explains_and_asserts(notebook):
    content, solved = read(notebook), solved_of(notebook)
    code = "\n".join(cell.source for cell in code_of(content))

    assert "predict(" in code
    assert "assert " in "\n".join(cell.source for cell in code_of(solved)), "a cell is to hold what the text quotes"
    assert 2 <= len({tag for cell in solved.cells for tag in tags(cell)} & QUESTIONS) <= 6
    assert len(re.findall(r"(?<![*\w])\*\w[^*\n]*\w\*(?![*\w])", prose_of(content))) >= 3, "terms stand in italics"


QUESTIONS = {f"q{number}" for number in range(1, 10)}


@each_notebook
def test_its_pictures_are_pictures(notebook):
    pictures = [
        output.data["image/png"] for output in outputs_of(solved_of(notebook)) if "image/png" in output.get("data", {})
    ]

    assert all(base64.b64decode(picture).startswith(b"\x89PNG") for picture in pictures)


# ---- recall


@each_notebook
def test_three_questions_end_it_before_the_summary_answers_them(notebook):
    content = read(notebook)
    place = next(index for index, cell in enumerate(content.cells) if cell.source.startswith("## In three lines"))
    asked = read_questions()[notebook.stem[:2]]

    assert content.cells[place - 1].source == f'lab.recall("{notebook.stem[:2]}")'
    assert len({question["question"] for question in asked}) == 3
    for question in asked:
        assert len(set(question["options"])) == 3
        assert question["options"][question["answer"]]
        assert misspelled(" ".join([question["question"], *question["options"], question["because"]])) == set()


def test_the_right_answers_are_in_different_places():
    places = [question["answer"] for asked in read_questions().values() for question in asked]

    assert max(places.count(place) for place in range(3)) < len(places) / 2


# ---- the glossary

GLOSSARY = (FOLDER / "glossary.md").read_text(encoding="utf-8")
TERMS = re.findall(r"^### (.+)$", GLOSSARY, re.MULTILINE)
# these are ordinary words as well, and are linked if they stand in italics
ORDINARY = {
    "attempt",
    "backend",
    "branch",
    "format",
    "future",
    "gap",
    "history",
    "lease",
    "log",
    "message",
    "moment",
} | {
    *("observer", "outcome", "owner", "patch", "recovery", "retry", "run", "suspended"),
}
NO_PROSE = re.compile(r"```.*?```|`[^`]*`|^[#|][^\n]*$|\*\*[^*]+\*\*", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[([^\]]+)\]\(glossary\.md#([\w-]+)\)")


def anchor(term: str) -> str:
    return term.replace(" ", "-")


def unlinked(prose: str) -> set[str]:
    """The terms whose first use in a text is no link to the glossary. A longer term hides the shorter ones in it."""

    def blank(match: re.Match[str]) -> str:
        return " " * len(match[0])

    prose = NO_PROSE.sub(blank, prose)
    plain, found = LINK.sub(blank, prose), set()
    for term in sorted(TERMS, key=len, reverse=True):
        word = re.escape(term).replace(r"\ ", r"\s") + ("" if term.endswith("y") else "s?")
        pattern = rf"\*(?:the )?{word}\*" if term in ORDINARY else rf"(?<![\w-]){word}(?![\w-])"
        first = re.search(pattern, plain, re.IGNORECASE)
        link = re.search(rf"\]\(glossary\.md#{anchor(term)}\)", prose)
        if first and (link is None or link.start() > first.start()):
            found.add(term)
        plain = re.sub(pattern, blank, plain, flags=re.IGNORECASE)
    return found


@each_notebook
def test_the_first_use_of_a_term_is_a_link_to_the_glossary(notebook):
    cells = read(notebook).cells[1:]  # the first says what the notebook is about

    assert unlinked("\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")) == set()


def test_a_first_use_without_a_link_would_be_found():
    assert unlinked("A step. A [step](glossary.md#step), `workflow`, and *a run*.\n\n*The* [gap](glossary.md#gap)") == {
        "step"
    }
    assert unlinked("one *message*, a saga") == {"message", "saga"}


def test_each_term_of_the_glossary_is_linked_from_a_notebook_and_each_link_leads_to_one():
    linked = {target for path in NOTEBOOKS for _, target in LINK.findall(prose_of(read(path)))}
    linked_solved = {
        target
        for path in SOLVED_NOTEBOOKS
        for target in re.findall(r"\]\(\.\./glossary\.md#([\w-]+)\)", prose_of(read(path)))
    }

    assert sorted(TERMS) == TERMS
    assert linked == linked_solved == {anchor(term) for term in TERMS}


def test_each_entry_of_the_glossary_names_notebooks_that_are_there():
    entries = re.findall(r"^### .+\n(.+)$", GLOSSARY, re.MULTILINE)
    numbers = {str(int(path.stem[:2])) for path in NOTEBOOKS}

    assert len(entries) == len(TERMS)
    for entry in entries:
        assert set(re.search(r"\(([\d, ]+)\)$", entry)[1].split(", ")) <= numbers, entry


# ---- the index

ROW = re.compile(r"^\| (\d+) \| \[(\w+)\]\((\w+\.ipynb)\) \| (.+?\?) \| (\d+) \|", re.MULTILINE)


def test_the_index_names_each_notebook_with_its_question_and_its_minutes():
    rows = ROW.findall((FOLDER / "README.md").read_text(encoding="utf-8"))
    titles = [read(path).cells[0].source for path in NOTEBOOKS]

    assert rows == [
        (
            str(int(path.stem[:2])),
            path.stem,
            path.name,
            title.splitlines()[0].removeprefix("# "),
            re.search(r"about (\d+) minutes", title)[1],
        )
        for path, title in zip(NOTEBOOKS, titles, strict=True)
    ]


def test_the_index_and_the_notebooks_name_files_that_are_there():
    pages = [*(page.read_text(encoding="utf-8") for page in FOLDER.glob("*.md")), *map(prose_of, map(read, NOTEBOOKS))]
    text = "\n".join(pages)
    table = (FOLDER / "README.md").read_text(encoding="utf-8").partition("## Where each idea lives")[2]
    named = {f"durable/{name}" for name in re.findall(r"`([a-z_/]+(?:\.py|\.sql|/))`", table) if "durable/" not in name}
    named |= set(re.findall(r"`((?:durable|tests|notebooks)/[\w/]+(?:\.\w+)?)`", text))
    links = {f"notebooks/{link}" for link in re.findall(r"\]\(([\w./]+)\)", text)}

    assert len(named) > 10
    assert [name for name in sorted(named | links) if not (FOLDER.parent / name).exists()] == []


# ---- their spelling


def misspelled(prose: str) -> set[str]:
    """Words that are in no dictionary, and not among ours. What stands in code, links and HTML is left out."""
    plain = re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)|<[^>]+>|https?://\S+", " ", prose, flags=re.DOTALL)
    words = {word.strip("'") for word in re.findall(r"[A-Za-z][a-z']+", plain)}
    checker = SpellChecker()
    checker.word_frequency.load_words(WORDS)
    return set(checker.unknown({word.removesuffix("'s") for word in words}))


@each_notebook
def test_its_spelling_is_right(notebook):
    assert misspelled(prose_of(read(notebook))) == set()


def test_the_pages_beside_them_are_spelled_right():
    assert [misspelled(page.read_text(encoding="utf-8")) for page in FOLDER.glob("*.md")] == [
        set() for _ in FOLDER.glob("*.md")
    ]


def test_a_wrong_word_would_be_found():
    assert misspelled("A checkpiont is a row. `chekc` is code.") == {"checkpiont"}


@pytest.mark.parametrize("text", ["/home/jane/x.db", "see /tmp/a", "C:\\\\data"])
def test_an_absolute_path_would_be_found(text):
    assert ABSOLUTE.search(text)


# ---- the same crash as in the browser, clicked without one


def test_after_a_kernel_death_the_same_cell_replays_two_steps_and_runs_two(tmp_path):
    content = read(NOTEBOOKS[0])
    panel = cell_with(content, "panel")
    panel.source = panel.source.replace("lab.panel(", "panel = lab.panel(")
    content.cells = [panel, *(nbformat.v4.new_code_cell(source) for source in (STEP_TWICE, CRASH, "1 + 1", RUN_ALL))]
    client = nbclient.NotebookClient(
        content, timeout=CELL_SECONDS, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    with client.setup_kernel():
        first = run_cells(client, 0, 1)
        with pytest.raises(nbclient.exceptions.DeadKernelError):
            run_cells(client, 2, 3)
        assert shown_crash(client)["pid"] == int(first)
        start_again(client)
        second = run_cells(client, 0, 4)

    assert second.splitlines()[1:] == [
        "create_record_1 replayed",
        "provision_laptop_2 replayed",
        "setup_access_3 completed",
        "send_welcome_email_4 completed",
    ]
    assert first != second.splitlines()[0]
    assert list_effects(tmp_path / "workflow.db", "emp_001") == [
        "created a record for Jane Doe",
        "ordered a laptop for Jane Doe",
        "opened accounts for Jane Doe",
        "sent a welcome to emp_001@company.com",
    ]


CLICK = """
import threading
changed = threading.Event()
panel.observe(lambda change: changed.set(), "state")

def click(button):  # as the page does: a message to the widget
    panel._handle_custom_msg({"do": button}, [])

def wait_for(key, state):
    while not any(c["key"] == key and c["state"] == state for column in panel.state["columns"] for c in column):
        changed.wait(10)
        changed.clear()
"""
STEP_TWICE = f"""{CLICK}
for key in ("create_record_1", "provision_laptop_2"):
    click("next")
    wait_for(key, "completed")
print(panel.state["pid"], end="")
"""
CRASH = "click('crash')"
RUN_ALL = f"""{CLICK}
wait_for("provision_laptop_2", "replayed")
click("all")
wait_for("send_welcome_email_4", "completed")
print(panel.state["pid"])
for column in panel.state["columns"]:
    for card in column:
        print(card["key"], card["state"])
"""


def run_cells(client, *cells: int) -> str:
    """Run some cells of the client's notebook; what the last of them printed."""
    for index in cells:
        cell = client.execute_cell(client.nb.cells[index], index)
    return "".join(output.get("text", "") for output in cell.outputs)


def start_again(client) -> None:
    """What Jupyter does after a kernel's death: a new kernel for the same notebook."""
    client.create_kernel_manager()
    run_sync(client.async_start_new_kernel)()
    run_sync(client.async_start_new_kernel_client)()


def shown_crash(client) -> dict:
    """What the dead kernel had told the page last."""
    states = [state["state"] for state in client.widget_state.values() if "columns" in state.get("state", {})]
    return states[-1]["crash"]


# ---- predictions answer themselves


@each_notebook
def test_each_prediction_is_answered_by_a_later_cell_that_shows_nothing_of_it_before(notebook):
    code = code_of(read(notebook))
    asked = [re.search(r'of="([\w.]+)"\)$', cell.source) for cell in code if "lab.predict(" in cell.source]

    assert asked and all(asked)
    for name in [found[1] for found in asked if found[1] != PANEL_RAN]:
        (where,) = [index for index, cell in enumerate(code) if f'of="{name}")' in cell.source]
        binds = [index for index, cell in enumerate(code) if name in bound_in(cell.source)]
        assert binds, f"no cell binds {name}"
        assert min(binds) > where


def bound_in(source: str) -> set[str]:
    """The names that a cell binds at its top level, also in blocks."""
    return {
        node.id
        for statement in parse(source).body
        if not isinstance(statement, ast.FunctionDef | ast.ClassDef)
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }


ASK = "from durable import lab\nasked = lab.predict('How many?', [1, 2], of='many')\nasked"
LOOK = "print(repr(asked.answer), repr(asked.is_found))"


def run_lines(folder: Path, *sources: str) -> list[str]:
    """Run cells in one kernel; what each showed, as text."""
    content = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    return ["\n".join(map(words_of, cell.outputs)) for cell in build.execute(content, folder).cells]


def test_a_prediction_is_revealed_below_the_cell_that_computes_its_answer(tmp_path):
    first = "many = 2  # what a run before has left"
    ran = run_lines(tmp_path, first, ASK, "asked.chosen = '1'", LOOK, "many = 2", LOOK, "many = 1", LOOK)

    assert ran[3] == "'' False\n"
    assert "you said: 1; the answer is: 2" in ran[4]
    assert ran[5] == "'2' False\n"
    assert ran[6:] == ["", "'2' False\n"]  # it is answered once


def test_a_prediction_that_is_made_after_the_answer_is_revealed_as_it_is_made(tmp_path):
    ran = run_lines(tmp_path, ASK, "many = 2", LOOK, "asked.chosen = '2'", LOOK)

    assert (ran[1], ran[2]) == ("", "'' True\n")
    assert ran[4] == "'2' True\n"


def test_a_cell_that_raises_answers_nothing(tmp_path):
    content = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in (ASK, "asked.chosen = '2'", "many = 2\n1 / 0", LOOK)]
    )
    content.cells[2].metadata["tags"] = ["raises-exception"]

    assert words_of(build.execute(content, tmp_path).cells[3].outputs[0]) == "'' False\n"


def test_a_question_to_recall_is_answered_as_soon_as_one_has_chosen(tmp_path):
    ask = "from durable import lab\nasked = lab.recall('01')\nfirst = asked.questions[0]\nasked"
    ran = run_lines(tmp_path, ask, "print(repr(first.answer))", "first.chosen = 'it has happened'; print(first.answer)")

    assert ran[0].count("Recall: ") == 3
    assert ran[1:] == ["''\n", "nothing\n"]


# ---- the imports of a notebook can be run again after a crash

IMPORT_AGAIN = """
from durable.lab.panel.imports import import_again
for code in ("from pathlib import Path", "Path('x').touch()", "import no_such_module"):
    try:
        import_again(code)
    except Exception as error:
        print(type(error).__name__)
print(Path("x").exists())
"""


def test_the_cells_that_only_import_are_run_again_and_nothing_else_is(tmp_path):
    collect = "from durable.lab.panel.imports import collect_imports\nprint(collect_imports())"
    ran = run_lines(tmp_path, "import json\nfrom pathlib import Path", "import os; x = 1", collect, IMPORT_AGAIN)

    assert ran[2] == "import json\nfrom pathlib import Path\n"
    assert ran[3] == "ValueError\nModuleNotFoundError\nFalse\n"


@pytest.mark.parametrize("lesson", ["zombies", "build_your_own", "samples"])
def test_a_copy_of_a_notebook_of_a_former_version_still_imports_its_lesson(lesson):
    assert importlib.import_module(f"durable.lab.course.{lesson}").__file__.endswith(f"{lesson}.py")
