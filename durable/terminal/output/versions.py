"""The installed versions of packages, found without importing them."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

LAB_EXTRA = ("jupyterlab", "notebook", "ipykernel", "ipywidgets", "anywidget", "pandas", "matplotlib", "nbclient")
INSTALL_LAB = 'python -m pip install -e ".[lab]"'


def find_version(distribution: str) -> str | None:
    """Return the installed version, or None."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def version_of(distribution: str) -> str:
    """Return the installed version, or words that say there is none."""
    return find_version(distribution) or "(not installed)"
