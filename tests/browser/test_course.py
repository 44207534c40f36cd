"""Notebooks 1, 4, 5 and 6 as a reader meets them: predict, run, see "not yet", write the solution, see "right".

And the button of notebook 7. A cell is rewritten only if the notebook asks the reader to write it.
"""

from __future__ import annotations

import pytest

from durable.examples.effects import list_effects
from durable.lab.questions.checks import read_solutions
from tests.browser.lesson import BEGIN_MS, PAGE_MS, TRIES
from tests.browser.server import start_server, write_settings
from tests.browser.test_everyone import violations
from tests.support.notebooks import FOLDER
from tests.support.patience import patient

pytestmark = [pytest.mark.browser, pytest.mark.thorough]

TRACKER = "jupyterlab/user-settings/@jupyterlab/notebook-extension/tracker.jupyterlab-settings"
RUN_MS = patient(180_000)
ERRORS = (
    ".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr'], .jp-OutputArea-output:has(.ansi-red-fg)"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """JupyterLab, which keeps all cells on the page, not only those in sight."""
    home = tmp_path_factory.mktemp("course")
    write_settings(home, TRACKER, {"windowingMode": "none"})
    server = start_server("lab", home, home)
    yield server
    server.stop()


class Reader:
    """Somebody who reads a notebook, that of the lesson or at another address."""

    def __init__(self, lesson, address: str = "") -> None:
        self.page, self.lesson = lesson.page, lesson
        self.page.set_default_timeout(RUN_MS)  # to a click as well: a page moves for as long as outputs come in
        self.page.goto(address or lesson.address)
        self.page.locator(".jp-CodeCell").first.wait_for(timeout=PAGE_MS)
        self.page.locator(".jp-NotebookPanel-toolbar", has_text="Python 3").wait_for(timeout=PAGE_MS)
        self.page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").first.wait_for(timeout=PAGE_MS)

    def cell(self, text: str):
        return self.page.locator(".jp-CodeCell", has=self.page.locator(".jp-InputArea", has_text=text)).last

    def run(self, which: str) -> None:
        """An entry of the menu Run."""
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.locator(f".lm-Menu-item[data-command='{which}']").click()

    def run_all_above(self, text: str, shows: str | None = None) -> None:
        """Run what stands above a cell; again where nothing happens, as on a page whose kernel is not there yet.

        It ends with a prediction on the page, or with a text in an output.
        """
        from playwright.sync_api import TimeoutError as NotSeenError  # where there is none, the tests are skipped

        prediction, dialog = self.page.locator(".durable-predict"), self.page.locator(".jp-Dialog")
        if shows is not None:
            prediction = self.page.locator(".jp-OutputArea-output", has_text=shows)
        begun = self.page.locator(".jp-InputPrompt", has_text="*").or_(prediction).or_(dialog)
        for patience in range(TRIES, -1, -1):
            self.lesson.choose_kernel()
            try:
                self.page.set_default_timeout(BEGIN_MS)  # a dialog that comes up just now catches the click
                self.select(text)
                self.run("notebook:run-all-above")
                begun.first.wait_for(timeout=BEGIN_MS)
                prediction.or_(dialog).first.wait_for(timeout=RUN_MS)
            except NotSeenError:
                if not patience:
                    raise
                self.page.set_default_timeout(RUN_MS)
                if not dialog.count():
                    self.page.keyboard.press("Escape")  # a menu that is open
            else:
                self.page.set_default_timeout(RUN_MS)
                if not dialog.count():  # one that asks for a kernel has nothing run
                    return
        raise AssertionError("the page goes on asking for a kernel")

    def select(self, text: str) -> None:
        self.cell(text).locator(".jp-InputPrompt").click()

    def run_cell(self, text: str) -> None:
        self.select(text)
        self.page.keyboard.press("Control+Enter")

    def predict(self, question: str, answer: str) -> None:
        self.page.locator(".durable-predict", has_text=question).get_by_text(answer, exact=True).click(timeout=RUN_MS)

    def write(self, text: str, code: str) -> None:
        """Replace the code of a cell, and run it."""
        self.cell(text).locator(".cm-content").click()
        self.page.keyboard.press("Control+a")
        self.page.keyboard.insert_text(code)
        self.page.keyboard.press("Control+Enter")

    def wait_for_verdict(self, check: str, words: str) -> None:
        self.cell(check).locator(".jp-OutputArea", has_text=words).wait_for(timeout=RUN_MS)

    def errors(self) -> list[str]:
        return self.page.locator(ERRORS).all_inner_texts()


LESSONS = {
    "01_crash_and_resume": (
        ("What will the row of provision_laptop_2 say?", "completed", "row_says ="),
        ("the answer is: running", "you said: completed"),
        [("my_guess = {", "01.q1", "q1.check(", "the answer is still empty", "all three. Only the gap")],
    ),
    "04_parallel": (
        ("In how many of 100 runs", "none, there is a lock", "runs = [run_naive()"),
        ("the answer is: most", "you said: none, there is a lock"),
        [
            ("class Keys:", "04.q1", "q1.check(Keys)", "in the branch laptop moves", "in all 6 orders"),
            ("is this parallel?", "04.q3", "q3.check(", "no two steps ran at the same time", "the steps overlap"),
        ],
    ),
    "05_zombies": (
        ("In which of these do the two tables differ?", "in none of them", "differ ="),
        ("right:", "you said: in none of them; and so it is"),
        [
            ("class Shop:", "05.q1", "q1.check(Shop)", "the shop has 2 orders", "one key, one order, one answer"),
            ("is that a good key?", "05.q2", "q2.check(", "Both steps had the same key", "kills, one laptop each"),
        ],
    ),
    "06_build_your_own": (
        ("It is killed everywhere, and run again.", "an effect happens twice", "early ="),
        ("the answer is: an effect never happens", "you said: an effect happens twice"),
        [
            ("def save(db", "06.q1", "judge.q1.check(", "the answer is still empty", "7 values, seen at once"),
            ("the replay rule goes here", "06.q2", "judge.q2.check(run)", "amnesia", "kills, each resumed."),
        ],
    ),
}


@pytest.mark.parametrize("name", LESSONS)
def test_a_reader_predicts_runs_is_told_not_yet_solves_and_is_told_right(name, server, open_lesson):
    (question, answer, computes), revealed, exercises = LESSONS[name]
    lesson = open_lesson(server, name, notebook=FOLDER / f"{name}.ipynb")
    reader = Reader(lesson)
    reader.run_all_above(computes)
    reader.predict(question, answer)
    reader.run_cell(computes)
    for words in revealed:
        reader.wait_for_verdict(computes, words)
    lesson.picture("revealed")
    reader.run("notebook:run-all-below")
    for stub, solution, check, not_yet, right in exercises:
        reader.wait_for_verdict(check, not_yet)
        reader.write(stub, read_solutions()[solution])
        if solution == "06.q2":
            reader.run_cell("workflow(Context(db, workflow_id))")
        reader.run_cell(check)
        reader.wait_for_verdict(check, right)
        lesson.picture(solution)

    assert reader.errors() == []


def test_the_button_of_notebook_7_grants_the_wish_that_waits_for_it(server, open_lesson):
    lesson = open_lesson(server, "07_waiting", notebook=FOLDER / "07_waiting.ipynb")
    reader = Reader(lesson)
    reader.run_all_above('engine.send("wish 1"')
    reader.page.get_by_role("button", name="Grant the wish").click(timeout=RUN_MS)
    reader.wait_for_verdict("Grant the wish", "sent to 'wish 1'")
    lesson.picture("granted")
    reader.run_cell("handle.result(timeout=10)")

    reader.wait_for_verdict("handle.result(timeout=10)", "'MacBook Pro: granted'")
    reader.page.get_by_role("button", name="Grant the wish").click(timeout=RUN_MS)
    reader.wait_for_verdict("Grant the wish", "sent before under this key: nothing was sent")
    lesson.picture("granted-again")
    assert reader.errors() == []


def test_the_first_prediction_outlives_the_crash_and_is_answered_by_the_resumed_workflow(server, open_lesson):
    lesson = open_lesson(server, "01_first_prediction", notebook=FOLDER / "01_crash_and_resume.ipynb")
    reader = Reader(lesson)
    question = reader.page.locator(".durable-predict", has_text="how many of the four steps will run")
    reader.run_all_above("lab.panel(")
    reader.predict("how many of the four steps will run", "4")
    reader.run_cell("lab.panel(")
    lesson.wait_for_phase("alive")
    lesson.click("Next step")
    lesson.wait_until_next("provision_laptop_2")
    lesson.click("Next step")
    lesson.wait_for_step("provision_laptop_2", "completed")
    lesson.click("Crash now")
    lesson.resume()
    assert question.get_attribute("data-state") == "chosen"
    lesson.picture("resumed")
    lesson.click("Run the imports again")
    reader.run_cell('lab.steps("workflow.db"')
    reader.wait_for_verdict('lab.steps("workflow.db"', "completed")
    lesson.panel.get_by_role("button", name="Run the imports again").wait_for(state="hidden", timeout=RUN_MS)
    lesson.wait_until_next("setup_access_3")
    lesson.click("Run all")
    lesson.wait_for_status("completed")

    question.get_by_text("You said 4. It is: 2.").wait_for(timeout=RUN_MS)
    lesson.picture("answered")
    assert reader.errors() == []


def test_in_notebook_5_two_crashes_in_the_gap_order_two_chairs_and_one_desk(server, open_lesson):
    lesson = open_lesson(server, "05_by_hand", notebook=FOLDER / "05_zombies.ipynb")
    reader = Reader(lesson)
    lesson.run_cell()
    for step in ("order_chair_1", "order_desk_2"):
        lesson.arm("executed", step)
        lesson.click("Run all")
        lesson.resume()
        lesson.wait_until_next(step)
    lesson.click("Run all")
    lesson.wait_for_status("completed")
    reader.run_cell("from durable.lab.lessons.zombies import crash_everywhere")
    reader.run_cell('list_effects("workflow.db", "equip_1")')
    effects = "'ordered a chair for Jane', 'ordered a chair for Jane', 'ordered a desk for Jane'"
    reader.page.locator(".jp-OutputArea-output pre", has_text="ordered a desk").first.wait_for(timeout=RUN_MS)
    lesson.picture("by-hand")

    said = reader.page.locator(".jp-OutputArea-output pre", has_text="ordered a desk").first.inner_text()
    assert " ".join(said.split()) == f"[{effects}]"
    assert reader.errors() == []


def test_in_notebook_7_a_wait_outlives_its_process_and_ends_with_a_message_from_the_panel(server, open_lesson):
    lesson = open_lesson(server, "07_by_hand", notebook=FOLDER / "07_waiting.ipynb")
    reader = Reader(lesson)
    lesson.run_cell()
    lesson.click("Next step")
    lesson.wait_until_next("answer_2")
    lesson.click("Next step")
    lesson.panel.get_by_label("message", exact=True).wait_for(timeout=RUN_MS)
    lesson.click("Crash now")
    lesson.resume()
    lesson.wait_for_step("ask_1", "replayed")
    lesson.picture("waits")
    lesson.panel.get_by_label("message", exact=True).fill("true")
    lesson.click("Send")
    lesson.click("Run all")
    lesson.wait_for_status("completed")
    lesson.picture("answered")

    assert list_effects(lesson.database, "wish_3") == [
        "asked for a MacBook Pro",
        "told the employee MacBook Pro: granted",
    ]
    assert reader.errors() == []


def test_in_notebook_8_a_crash_in_the_middle_of_undoing_leaves_the_rest_to_undo(server, open_lesson):
    lesson = open_lesson(server, "08_by_hand", notebook=FOLDER / "08_failures.ipynb")
    reader = Reader(lesson)
    lesson.run_cell()
    undoing = ("return_laptop_4/return_laptop_1", "remove_record_2/remove_record_1")
    for step in ("remove_record_2", "order_laptop_3", "return_laptop_4", "print_badge_5", *undoing):
        lesson.click("Next step")
        lesson.wait_until_next(step)
    lesson.picture("undoing")
    lesson.click("Crash now")
    lesson.resume()
    lesson.wait_for_step("return_laptop_4/return_laptop_1", "replayed")
    lesson.click("Run all")
    lesson.wait_for_status("failed")
    lesson.picture("undone")

    assert list_effects(lesson.database, "saga_1") == [
        "created a record for John Doe",
        "ordered a laptop for John Doe",
        "asked for a badge for John Doe",
        "gave the MacBook Pro back",
        "removed the record of John Doe",
    ]
    assert reader.errors() == []


def test_in_notebook_11_the_kernel_dies_in_a_durable_cell_and_the_page_goes_on(server, open_lesson):
    name = "11_durable_cells"
    lesson = open_lesson(server, name, notebook=FOLDER / f"{name}.ipynb")
    reader = Reader(lesson)
    reader.run_all_above("%%durable survey", shows="die in call")
    reader.page.get_by_role("button", name="Arm").click()
    reader.page.get_by_text("Armed: the kernel will die in call 5.").wait_for()
    reader.run_cell("%%durable survey")
    reader.wait_for_verdict("%%durable survey", "call 4: ")
    reader.page.locator(".jp-Dialog", has_text="died").wait_for(timeout=RUN_MS)
    lesson.picture("died")
    lesson.choose_kernel()
    assert read_bill(lesson) == ["0", "7", "193", "80", "176"]

    reader.run_all_above("lab.lives(", shows="call 8: ")
    lesson.picture("back")
    reader.run_cell("lab.lives(")
    reader.wait_for_verdict("lab.lives(", "completed")
    reader.cell("lab.lives(").scroll_into_view_if_needed()
    lesson.picture("lives")
    assert "crashed" in reader.cell("lab.lives(").inner_text()
    assert read_bill(lesson) == ["0", "7", "193", "80", "176", "176", "127", "177", "194"]
    assert reader.cell("%%durable shops").locator("img").count() == 1

    reader.run_all_above("story = crash_in(")
    reader.predict("How many calls does the second life make?", "8")
    reader.run_cell("story = crash_in(")
    reader.wait_for_verdict("story = crash_in(", "you said: 8; the answer is: 4")
    lesson.picture("told")
    reader.run("notebook:run-all-below")
    for stub, solution, check, not_yet, right in SURVIVES:
        reader.wait_for_verdict(check, not_yet)
        reader.write(stub, read_solutions()[solution])
        reader.run_cell(check)
        reader.wait_for_verdict(check, right)
        lesson.picture(solution)
    reader.wait_for_verdict('run_again("offer")', "Offer changed")
    reader.cell('run_again("offer")').scroll_into_view_if_needed()
    lesson.picture("aged")
    assert reader.errors() == []


SURVIVES = [
    ("%%durable mine", "11.q1", 'q1.check("mine")', "killed in call 2 and run again", "6 kills, and after each"),
    ("runs_again = {", "11.q2", "q2.check(", "the answer is still empty", "what counts is the content"),
    ("%%durable taxed", "11.q3", "q3.check(", "in the next kernel tax is 0.19", "when the file has changed"),
]


def read_bill(lesson) -> list[str]:
    """The shops that notebook 11 has asked."""
    return (lesson.folder / "bill.txt").read_text(encoding="utf-8").split()


def test_in_notebook_13_an_agent_dies_in_the_panel_and_its_payment_is_approved_on_the_page(server, open_lesson):
    name = "13_agents"
    lesson = open_lesson(server, name, notebook=FOLDER / f"{name}.ipynb")
    reader = Reader(lesson)
    lesson.run_cell()
    lesson.click("Next step")
    lesson.panel.locator(".durable-step[data-state=completed]").first.wait_for(timeout=RUN_MS)
    lesson.picture("asked")
    lesson.click("Crash now")
    lesson.resume()
    lesson.panel.locator(".durable-step[data-state=replayed]").first.wait_for(timeout=RUN_MS)
    lesson.click("Run all")
    lesson.panel.get_by_label("message", exact=True).fill("true", timeout=RUN_MS)
    lesson.picture("waits")
    lesson.click("Send")
    lesson.wait_for_status("completed")
    lesson.picture("paid")
    assert list_effects(lesson.database, "p3") == [
        *("model request 1", "looked up a desk", "model request 2", "paid 250 euros", "model request 3"),
    ]

    reader.run_all_above('at="pay:executed"')
    reader.predict("It goes on, and dies again when it has just paid.", "the payment")
    reader.run_cell('at="pay:executed"')
    reader.wait_for_verdict('at="pay:executed"', "you said: the payment; the answer is: the look-up and the payment")
    lesson.picture("twice")
    reader.select("steps = engine.steps(")
    reader.run("notebook:run-all-below")
    for stub, solution, check, not_yet, right in BUYS:
        reader.wait_for_verdict(check, not_yet)
        reader.write(stub, read_solutions()[solution])
        reader.run_cell(check)
        reader.wait_for_verdict(check, right)
        reader.cell(check).scroll_into_view_if_needed()
        lesson.picture(solution)
    assert reader.errors() == []


BUYS = [
    ("is that a good key?", "13.q1", "q1.check(pay_safely)", "250 euros were sent twice", "sent once in each"),
    ("fork_at = None", "13.q2", "q2.check(fork_at)", "the answer is still empty", "another answer to it"),
]


def test_a_question_to_recall_is_answered_by_a_click(server, open_lesson):
    lesson = open_lesson(server, "recall", notebook=FOLDER / "05_zombies.ipynb")
    reader = Reader(lesson)
    reader.run_cell("from durable.lab.lessons.zombies import crash_everywhere")
    reader.run_cell('lab.recall("05")')
    reader.predict("What is a good idempotency key?", "the employee's name")
    said = "You said the employee's name. It is: the workflow id and the step key. It is the same on each attempt"
    reader.page.locator(".durable-predict-said", has_text=said).wait_for(timeout=RUN_MS)
    reader.page.locator(".durable-predict", has_text=said).scroll_into_view_if_needed()
    lesson.picture("recall")

    assert violations(lesson, ".durable-predict") == []
    assert reader.errors() == []
