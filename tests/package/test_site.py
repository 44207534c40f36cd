"""The site: it builds without a warning and without a network, no link of it is broken, and it can be searched."""

from __future__ import annotations

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.browser.conftest import ARGUMENTS, find_chromium
from tests.support.patience import patient

ROOT = Path(__file__).parents[2]
LOADED = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src")}


class Page(HTMLParser):
    """What a page names: its anchors, its links, and what the browser loads for it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.anchors |= {value for key in ("id", "name") if (value := named.get(key))}
        if tag == "a" and named.get("href"):
            self.links.append(named["href"] or "")
        is_other_page = named.get("rel") in ("next", "prev", "index", "search", "author", "copyright")
        self.loaded += [value for key, value in attrs if (tag, key) in LOADED and value and not is_other_page]


def faults_of(site: Path) -> list[str]:
    """The links of a site that lead nowhere, and what its pages would load from elsewhere."""
    pages = {
        path: Page(path.read_text(encoding="utf-8"))
        for path in sorted(site.rglob("*.html"))
        if "_static" not in path.parts
    }
    faults = []
    for path, page in pages.items():
        for link in [*page.links, *page.loaded]:
            where = urlsplit(link)
            if where.scheme or where.netloc:
                if link in page.loaded and where.scheme != "data":
                    faults.append(f"{path.relative_to(site)} loads {link}")
                continue
            target = (path.parent / unquote(where.path)).resolve() if where.path else path
            anchors = pages[target].anchors if target in pages else {where.fragment}
            if not target.is_file() or (where.fragment and where.fragment not in anchors | {"top"}):
                faults.append(f"{path.relative_to(site)} links to {link}")
    return faults


def found(site: Path, word: str) -> list[str]:
    """The titles of the pages that the search finds, where the site is opened as files, and what went wrong."""
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=find_chromium(), args=ARGUMENTS)
        page = browser.new_page()
        page.goto(f"{(site / 'search.html').as_uri()}?q={word}")
        page.wait_for_selector("#search-results li a", timeout=patient(30) * 1000)
        titles = [link.inner_text() for link in page.query_selector_all("#search-results li a")]
        browser.close()
    return titles


@pytest.mark.thorough
def test_the_site_builds_strictly_has_no_broken_link_and_is_searched_without_a_server(tmp_path: Path) -> None:
    site = tmp_path / "the site"
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", str(site)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=patient(300))

    assert (done.returncode, done.stderr) == (0, "")
    assert faults_of(site) == []
    if find_chromium() is None:
        pytest.skip("no chromium on the path")
    assert "Glossary" in found(site, "idempotency")


def test_a_broken_link_and_a_script_from_elsewhere_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<p id="here"></p><a href="#here"></a><a href="b.html#there"></a><a href="c.html"></a><a href="#gone"></a>'
        '<script src="https://elsewhere.example/x.js"></script><a href="https://elsewhere.example"></a>'
    )
    (tmp_path / "b.html").write_text('<a href="a.html#here"></a>')

    assert faults_of(tmp_path) == [
        "a.html links to b.html#there",
        "a.html links to c.html",
        "a.html links to #gone",
        "a.html loads https://elsewhere.example/x.js",
    ]
