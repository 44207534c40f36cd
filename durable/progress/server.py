"""The page within the Jupyter server of `durable lab`, which asks for the server's token as every page of it does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.utils import url_path_join
from tornado.web import HTTPError, authenticated

from durable.progress import record
from durable.progress.page import Lesson, draw_file, draw_page, list_lessons

ADDRESS = "durable/course"


class _Course(JupyterHandler):
    """The course as it was installed, and the reader's progress in it."""

    @property
    def file(self) -> Path:
        """Return the file of the progress."""
        return Path(os.environ[record.FILE])

    @property
    def shipped(self) -> Path:
        """Return the folder of the course as it was installed."""
        return Path(os.environ[record.SHIPPED])

    @property
    def lessons(self) -> list[Lesson]:
        """Return the notebooks of the course."""
        return list_lessons(self.shipped)


class PageHandler(_Course):
    """The page, and the reset of a notebook."""

    @authenticated
    def get(self) -> None:
        """Show the page."""
        self._show("")

    @authenticated
    def post(self) -> None:
        """Reset a notebook."""
        name = self.get_body_argument("notebook")
        if name not in {lesson.name for lesson in self.lessons}:
            raise HTTPError(404)
        kept = record.begin_anew(self.file, self.shipped, name)
        self._show(f"{name} begins anew; your copy is {kept}")

    def _show(self, said: str) -> None:
        token = self.xsrf_form_html()
        self.finish(draw_page(self.lessons, record.read(self.file), base=self.base_url, token=token, said=said))


class FileHandler(_Course):
    """The summary as a file."""

    @authenticated
    def get(self) -> None:
        """Send the file."""
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Content-Disposition", 'attachment; filename="durable-progress.html"')
        self.finish(draw_file(self.lessons, record.read(self.file), self.get_argument("reader", "").strip()))


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": __name__}]


def _load_jupyter_server_extension(app: Any) -> None:
    if record.FILE in os.environ:
        address = url_path_join(app.web_app.settings["base_url"], ADDRESS)
        app.web_app.add_handlers(".*$", [(address, PageHandler), (url_path_join(address, "file"), FileHandler)])
