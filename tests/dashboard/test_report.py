"""`durable report`: one page that is complete, small, and shows hostile text as text."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import durable
from durable import Engine
from tests.dashboard.flows import HOSTILE_ID, parcel
from tests.support.command_line import durable as run
from tests.support.command_line import error_of
from tests.support.patience import patient

WITHOUT_LAB = """
import sys
for name in ("anywidget", "ipywidgets", "IPython", "pandas", "numpy", "matplotlib", "traitlets", "dbos"):
    sys.modules[name] = None
from durable.terminal.cli import main
sys.argv = ["durable", *sys.argv[1:]]
main()
"""
ADDRESS = re.compile(r"""(?:src|href|action)=["']?(?!data:)[^"'> ]+|https?:|url\(|@import|//\w+\.\w+/""")


class Elements(HTMLParser):
    """The elements of a page, as a browser finds them, and the texts of its blocks of data."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.data: dict[str, object] = {}
        self._id: str | None = None
        self.feed(text)

    def handle_starttag(self, tag, attributes) -> None:
        self.tags.append(tag)
        found = dict(attributes)
        self._id = found.get("id") if found.get("type") == "application/json" else None

    def handle_data(self, data) -> None:
        if self._id is not None:
            self.data[self._id] = json.loads(data)

    def handle_endtag(self, tag) -> None:
        self._id = None


@pytest.fixture(scope="module")
def page(world):
    out = world.parent / "my report.html"
    done = run("report", str(world), "-o", str(out))
    assert done.stdout.startswith(f"wrote {out}: 12 workflows, ")
    return out


def test_the_page_holds_all_workflows_and_is_small(page) -> None:
    elements = Elements(page.read_text(encoding="utf-8"))
    listed = elements.data.pop("durable-list")
    data = sum(len(json.dumps(each)) for each in (listed, *elements.data.values()))

    assert [elements.data[f"durable-workflow-{place}"]["id"] for place in range(12)] == [
        row["id"] for row in listed["rows"]
    ]
    assert page.stat().st_size - data < 100_000  # 500 kB are allowed


def test_no_text_of_a_workflow_becomes_an_element_or_ends_a_block(page) -> None:
    text = page.read_text(encoding="utf-8")
    elements = Elements(text)

    assert "img" not in elements.tags
    assert elements.tags.count("script") == 1 + 1 + 12
    assert elements.data["durable-list"]["rows"][5]["id"] == HOSTILE_ID
    assert "\u2028" not in text


def test_the_page_names_no_address_and_its_policy_forbids_requests(page) -> None:
    text = page.read_text(encoding="utf-8")
    markup = re.sub(r'<script type="application/json".*?</script>', "", text, flags=re.DOTALL)

    assert ADDRESS.findall(markup) == []
    assert "default-src 'none'" in markup
    assert ADDRESS.findall('<img src="x">') != []


def test_a_report_needs_no_extra(world, tmp_path) -> None:
    out = tmp_path / "report.html"
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_LAB, "report", str(world), "-o", str(out), "--limit", "3"],
        check=False, capture_output=True, text=True, timeout=patient(30),
        cwd=Path(durable.__file__).parents[1],
    )  # fmt: skip

    assert done.stderr == ""
    assert re.fullmatch(r"wrote .*: the latest 3 of 12 workflows, \d+ kB; --limit 12 takes all\n", done.stdout)
    assert len(Elements(out.read_text(encoding="utf-8")).data["durable-list"]["rows"]) == 3


def test_a_file_that_exists_is_kept_unless_it_is_to_be_replaced(world, tmp_path) -> None:
    out = tmp_path / "report.html"
    out.write_text("mine")

    assert error_of("report", str(world), "-o", str(out)) == (
        f"error: {str(out)!r} exists; name another file with -o, or pass --overwrite\n"
    )
    assert out.read_text() == "mine"
    run("report", str(world), "-o", str(out), "--overwrite")
    assert out.read_text().startswith("<!doctype html>")
    assert list(tmp_path.iterdir()) == [out]


def test_a_database_that_is_missing_empty_or_none_is_refused_in_words(tmp_path) -> None:
    empty, none = tmp_path / "empty.db", tmp_path / "none.db"
    with Engine(empty):
        pass
    out = str(tmp_path / "report.html")

    assert error_of("report", str(empty), "-o", out) == (
        f"error: database {empty.name!r} has no workflows to report; `durable run` begins one\n"
    )
    assert error_of("report", str(none), "-o", out) == (
        f"error: there is no database {str(none)!r}; `durable run` makes one\n"
    )
    (tmp_path / "text.db").write_text("no database" * 100)
    assert "file is not a database" in error_of("report", str(tmp_path / "text.db"), "-o", out)
    assert not Path(out).exists()
    assert not none.exists()


def test_a_folder_that_is_missing_is_named(tmp_path) -> None:
    with Engine(tmp_path / "w.db") as engine:
        engine.run("w", parcel, "a lamp")

    assert "no/report.html" in error_of("report", str(tmp_path / "w.db"), "-o", str(tmp_path / "no" / "report.html"))
