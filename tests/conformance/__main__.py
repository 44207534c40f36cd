"""Writes `docs/engines.md`: python -m tests.conformance."""

from tests.conformance.page import PATH, page

PATH.write_text(page(), encoding="utf-8")
print(f"written: {PATH}")
