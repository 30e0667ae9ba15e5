"""An S3 server on this machine, and a proxy before it that breaks requests on demand."""

import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BUCKET = "bucket"


@dataclass
class Faults:
    """`choose`: given method, path and the request's number, what to do with it: None, or one of

    "error" (answer 500), "throttle" (503 with S3's code), "reset" (drop the connection), "cut" (drop it within the
    body), "stall" (answer after `stall_seconds`). `log`: (method, path, fault) of every request.
    """

    choose: Callable[[str, str, int], str | None] = lambda method, path, number: None
    stall_seconds: float = 5.0
    log: list[tuple[str, str, str | None]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def of(self, method: str, path: str) -> str | None:
        with self.lock:
            fault = self.choose(method, path, len(self.log))
            self.log.append((method, path, fault))
            return fault


@contextmanager
def proxy(target: tuple[str, int], faults: Faults) -> Iterator[str]:
    """A proxy before `target`; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = faults.of(self.command, self.path)
            if fault == "stall":
                time.sleep(faults.stall_seconds)
            if fault == "reset":
                self._drop()
                return
            if fault in ("error", "throttle"):
                code = "InternalError" if fault == "error" else "SlowDown"
                answer = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
                self._answer(500 if fault == "error" else 503, [("Content-Type", "application/xml")], answer)
                return
            upstream = http.client.HTTPConnection(*target)
            upstream.request(self.command, self.path, body, dict(self.headers))
            response = upstream.getresponse()
            content = response.read()
            headers = [(name, value) for name, value in response.getheaders() if name.lower() not in _HOP_BY_HOP]
            upstream.close()
            length = response.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
            self._answer(response.status, [*headers, ("Content-Length", length or "0")], content, fault == "cut")

        def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes, cut: bool = False) -> None:
            self.send_response_only(status)
            names = {name.lower() for name, _ in headers}
            if "content-length" not in names:
                headers.append(("Content-Length", str(len(content))))
            for name, value in headers:
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content[: len(content) // 2] if cut else content)
            if cut:
                self._drop()

        def _drop(self) -> None:
            """Close with a reset instead of a polite end."""
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()

        def finish(self) -> None:
            with suppress(OSError):  # dropped above, or by a client that did not wait
                super().finish()

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = forward  # noqa: N815 (names of http.server)

        def log_message(self, *arguments: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *arguments: object) -> None:
            pass  # clients that give up are part of the tests

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


_HOP_BY_HOP = ("connection", "keep-alive", "transfer-encoding", "content-length", "server", "date")
