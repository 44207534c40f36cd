"""An MCP server as a process of its own: `python mcp_server.py LOG` notes each call, with its process, in a file."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mcp.server import MCPServer

server = MCPServer("shop")


@server.tool()
def price_of(item: str) -> int:
    """Return the price of an item."""
    with Path(sys.argv[1]).open("a", encoding="utf-8") as log:
        log.write(f"{item} {os.getpid()}\n")
    return {"laptop": 900, "desk": 250}[item]


if __name__ == "__main__":
    server.run("stdio")
