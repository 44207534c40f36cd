"""Lives are forked, so that each need not import all libraries again; Windows cannot."""

from __future__ import annotations

import os

collect_ignore_glob = [] if hasattr(os, "fork") else ["test_*.py"]
