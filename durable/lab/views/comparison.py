"""The table at a crash beside the one now, as a DataFrame that marks changed rows if a notebook shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler  # type: ignore[import-untyped]

CHANGE = ("", "change")
MARKS = {  # the word in the last column says the same; the colours read on light and on dark pages
    "new": "background-color: rgba(0, 122, 90, 0.18)",
    "tried again": "background-color: rgba(176, 80, 140, 0.24); font-weight: bold",
    "completed since": "background-color: rgba(0, 114, 178, 0.18)",
    "failed since": "background-color: rgba(200, 80, 0, 0.24); font-weight: bold",
    "taken back": "background-color: rgba(91, 100, 114, 0.24)",
}


class Comparison(pd.DataFrame):  # type: ignore[misc]
    """A DataFrame like any other; in a notebook the changed rows are marked."""

    @property
    def _constructor(self) -> Any:
        return pd.DataFrame  # a selection of it is a plain table

    def marked(self) -> Styler:
        """Return the styled view."""
        return self.style.apply(_mark, axis=1).format(na_rep="").set_properties(**{"text-align": "left"})

    def _repr_html_(self) -> str:
        return str(self.marked().set_uuid("compare").to_html())  # the same letters each time, so that diffs stay quiet


def _mark(row: Any) -> list[str]:
    return [MARKS.get(row[CHANGE], "")] * len(row)
