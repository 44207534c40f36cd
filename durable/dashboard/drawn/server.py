"""Server: the dashboard of one database for a browser on this machine. It changes nothing.

It listens on 127.0.0.1 alone. It answers GET requests whose path begins with its token and whose Host is its own, so
that neither another user of the machine nor a page of another site gets an answer.
"""

from __future__ import annotations

import json
import os
import secrets
import socketserver
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import msgspec

from durable.dashboard.drawn.page import LIVE_POLICY, live_page, live_script, style
from durable.dashboard.snapshot import read_question, take
from durable.dashboard.source import Source

ADDRESS = "127.0.0.1"
IDLE_SECONDS = 30  # an idle connection is closed after this time
_HEADERS = {
    "Content-Security-Policy": LIVE_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Server:
    """The server, which answers from threads of its own until it is closed."""

    def __init__(self, reader: Source, port: int = 0) -> None:
        """Listen on a port, or on a free one. Raises OSError if the port is taken."""
        self.reader, self.token = reader, secrets.token_urlsafe(24)
        self.is_closed = False
        self.files = {
            "": ("text/html", live_page(reader.name)),
            "dashboard.js": ("text/javascript", live_script()),
            "dashboard.css": ("text/css", style()),
        }
        self._server = _Listener(self, port)
        self.port = int(self._server.server_address[1])
        self.hosts = {f"{name}:{self.port}" for name in (ADDRESS, "localhost")}
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The address, with the token. A reader who has it sees the database while this is open."""
        return f"http://{ADDRESS}:{self.port}/{self.token}/"

    def answer(self, asked: str) -> tuple[HTTPStatus, dict[str, Any]]:
        """Return the answer to a question in JSON, or a problem in words."""
        try:
            return HTTPStatus.OK, take(self.reader, read_question(json.loads(asked)))
        except (ValueError, msgspec.ValidationError, OverflowError) as error:
            return HTTPStatus.BAD_REQUEST, {"problem": f"not a question: {error}"}
        except Exception as error:  # the driver of a database has errors of its own
            return HTTPStatus.SERVICE_UNAVAILABLE, {"problem": str(error)}

    def close(self) -> None:
        """Stop listening, and answer nothing more on connections that are open. May be called twice."""
        self.is_closed = True
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = os.name != "nt"  # there it would let another process take the port

    def __init__(self, owner: Server, port: int) -> None:
        self.owner = owner
        super().__init__((ADDRESS, port), _Handler)

    def server_bind(self) -> None:
        """Bind without asking for the name of this machine, which can take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = ADDRESS, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that has left."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Listener
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "durable", ""
    timeout = IDLE_SECONDS

    def do_GET(self) -> None:
        """Answer from the files of the dashboard, or from the database."""
        owner, url = self.server.owner, urlsplit(self.path)
        _, token, *rest = [*url.path.split("/"), ""]
        name = "/".join(rest).removesuffix("/")
        if owner.is_closed:
            self.close_connection = True
        elif self.headers.get("Host", "") not in owner.hosts:
            self._refuse(HTTPStatus.FORBIDDEN, "This server answers to its own name only.")
        elif not secrets.compare_digest(token.encode(), owner.token.encode()):
            self._refuse(HTTPStatus.FORBIDDEN, "The address lacks the token. Use the one that durable ui printed.")
        elif name == "snapshot":
            status, answer = owner.answer(parse_qs(url.query).get("question", ["{}"])[0])
            self._send(status, "application/json", json.dumps(answer, separators=(",", ":")))
        elif name in owner.files:
            self._send(HTTPStatus.OK, *owner.files[name])
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "There is no such page.")

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self._send(status, "text/plain", f"{why}\n")

    def _send(self, status: HTTPStatus, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        for name, value in (_HEADERS | {"Content-Type": f"{kind}; charset=utf-8"}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: each request has the token."""
