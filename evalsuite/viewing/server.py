"""A small server for one reader: the report of a results folder, and the progress of what is running.

It listens on loopback and answers under a key alone, which the address holds, as notebooks do: other users of the
machine, and pages of other sites in the reader's browser, cannot read the results.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from evalsuite.errors import EvalsuiteError, UsageError
from evalsuite.progress import running_commands
from evalsuite.report.build import build_report
from evalsuite.report.page import template_folder
from evalsuite.results.reading import require_folder

LOOPBACK = "127.0.0.1"
_LOOK_EVERY_S = 2.0
_WATCHED = (
    "*/scores.json",
    "*/manifest.json",
    "*/records/*.jsonl",
    "comparisons/*/*.json*",
    "analyses/*/*.json",
    "ratings/*/factors.json",
)
_TYPES = {".html": "text/html; charset=utf-8", ".csv": "text/csv; charset=utf-8"}


class LiveReport:
    """The latest report of a results folder, in its own folder; ``version`` grows with every new one."""

    def __init__(self, results: Path) -> None:
        require_folder(results)
        self.results = results
        self.version = 0
        self.fault = ""
        self._seen: Any = None
        self._scratch = tempfile.TemporaryDirectory(prefix="evalsuite-view-")
        self.folder = Path(self._scratch.name)

    def refresh(self) -> bool:
        """Build the report again if the results have changed; return whether it did. Faults are kept, not raised."""
        seen = self._signature()
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            build_report(self.results, self.folder / "leaderboard.html")
        except (EvalsuiteError, OSError) as error:
            self.fault = str(error)
            return False
        self.fault = ""
        self.version += 1
        return True

    def state(self) -> dict[str, Any]:
        """Return what the page asks for every few seconds."""
        return {"version": self.version, "fault": self.fault, "running": running_commands(self.results)}

    def close(self) -> None:
        self._scratch.cleanup()

    def _signature(self) -> list[tuple[str, int, int]]:
        found = []
        for pattern in _WATCHED:
            for path in sorted(self.results.glob(pattern)):
                try:
                    known = path.stat()
                except OSError:
                    continue
                found.append((str(path), known.st_size, known.st_mtime_ns))
        return found


@contextmanager
def serving(report: LiveReport, port: int = 0) -> Iterator[str]:
    """Serve a report while the context lasts and yield its address; raises UsageError where the port is taken."""
    key = secrets.token_urlsafe(24)
    try:
        server = ThreadingHTTPServer((LOOPBACK, port), _handler(report, key))
    except OSError as error:
        report.close()
        raise UsageError(f"--port {port}: {error.strerror or error}; give another one, or 0 for a free one") from error
    stopping = threading.Event()
    report.refresh()
    threads = [
        threading.Thread(target=server.serve_forever, daemon=True),
        threading.Thread(target=_follow, args=(report, stopping), daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        yield f"http://{LOOPBACK}:{server.server_port}/{key}/"
    finally:
        stopping.set()
        server.shutdown()
        server.server_close()
        for thread in threads:
            thread.join()
        report.close()


def _follow(report: LiveReport, stopping: threading.Event) -> None:
    while not stopping.wait(_LOOK_EVERY_S):
        report.refresh()


def live_page() -> tuple[str, str]:
    """Return the page around the report and the policy that it is served under."""
    folder = template_folder()
    script = (folder / "live.js").read_text(encoding="utf-8")
    style = (folder / "live.css").read_text(encoding="utf-8")
    page = (folder / "live.html").read_text(encoding="utf-8")
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (script, style)]
    policy = (
        f"default-src 'none'; script-src 'sha256-{hashes[0]}'; style-src 'sha256-{hashes[1]}'; connect-src 'self'; "
        "frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page.replace("/*style*/", style).replace("/*script*/", script), policy


def _handler(report: LiveReport, key: str) -> type[BaseHTTPRequestHandler]:
    page, policy = live_page()

    class Handler(BaseHTTPRequestHandler):
        """Answers GET under the key: the page, its state, and the files of the report."""

        server_version = "evalsuite"
        sys_version = ""

        def do_GET(self) -> None:
            _, given, *rest = self.path.partition("?")[0].split("/")
            port = self.connection.getsockname()[1]
            # A page of another site can make a browser ask us, under a name of its own (DNS rebinding).
            hosts = {f"{LOOPBACK}:{port}", f"localhost:{port}"}
            if self.headers.get("Host") not in hosts or not secrets.compare_digest(given.encode(), key.encode()):
                self._answer(
                    HTTPStatus.FORBIDDEN, "text/plain", b"the key is missing or wrong: use the printed address\n"
                )
            elif rest == [""]:
                self._answer(HTTPStatus.OK, _TYPES[".html"], page.encode(), policy)
            elif rest == ["state"]:
                self._answer(HTTPStatus.OK, "application/json", json.dumps(report.state()).encode())
            else:
                self._file("/".join(rest))

        def _file(self, name: str) -> None:
            path = (report.folder / name).resolve()
            if not path.is_relative_to(report.folder.resolve()) or not path.is_file() or path.suffix not in _TYPES:
                self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"not found\n")
                return
            self._answer(HTTPStatus.OK, _TYPES[path.suffix], path.read_bytes())

        def _answer(self, status: HTTPStatus, kind: str, body: bytes, policy: str | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("Referrer-Policy", "no-referrer")
            self.send_header("X-Content-Type-Options", "nosniff")
            if policy:
                self.send_header("Content-Security-Policy", policy)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing: every poll would be a line."""

    return Handler
