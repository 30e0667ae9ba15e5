"""A Hugging Face hub on this machine: the part of its protocol that fetching and uploading a model needs.

Source of the protocol: what `huggingface_hub` 0.36 and 2.4 send. Repositories are held in memory.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Hub:
    """Repositories of a hub. `requests`: method and path of every request so far, in order."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self._commits: dict[str, dict[str, dict[str, bytes]]] = {}  # repository -> commit -> path -> content
        self._names: dict[str, dict[str, str]] = {}  # repository -> branch or tag -> commit

    def put(self, name: str, folder: Path, revision: str = "main") -> str:
        """Commit what is in a folder; returns the commit."""
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        return self.commit(name, files, revision)

    def commit(self, name: str, files: dict[str, bytes], revision: str = "main") -> str:
        commits = self._commits.setdefault(name, {})
        commit = hashlib.sha1(f"{name} {revision} {len(commits)}".encode()).hexdigest()
        commits[commit] = files
        self._names.setdefault(name, {})[revision] = commit
        return commit

    def find(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | str:
        """The commit and its files, or the hub's code for why not."""
        if name not in self._commits:
            return "RepoNotFound"
        commit = self._names[name].get(revision, revision)
        files = self._commits[name].get(commit)
        return (commit, files) if files is not None else "RevisionNotFound"

    def downloads(self) -> list[str]:
        """Paths of the files that were sent, in order."""
        return [
            path.partition("/resolve/")[2]
            for method, path in self.requests
            if (method, "/resolve/" in path) == ("GET", True)
        ]


@contextmanager
def running_hub() -> Generator[tuple[Hub, str], None, None]:
    """A hub and its address, for as long as the block lasts."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def _answer(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.requests.append((self.command, path))
            body = self._body()
            if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                self._file(*found.groups())
            elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path):
                self._model(*found.groups())
            elif path == "/api/repos/create":
                given = json.loads(body)
                name = f"{given['organization']}/{given['name']}" if given.get("organization") else given["name"]
                hub.commit(name, {})
                self._json({"url": f"/{name}", "name": name})
            elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/([^/]+)", path):
                wanted = [each["path"] for each in json.loads(body)["files"]]
                self._json(
                    {"files": [{"path": each, "uploadMode": "regular", "shouldIgnore": False} for each in wanted]}
                )
            elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/([^/]+)", path):
                self._commit(found[1], found[2], body)
            elif path == "/api/validate-yaml":
                self._json({"errors": [], "warnings": []})
            else:
                self._json({"error": f"no {path}"}, 404)

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def _file(self, name: str, revision: str, path: str) -> None:
            found = hub.find(name, revision)
            if isinstance(found, str):
                return self._refuse(found)
            commit, files = found
            if path not in files:
                return self._refuse("EntryNotFound", commit)
            etag = hashlib.sha256(files[path]).hexdigest()
            self._send(200, files[path], {"X-Repo-Commit": commit, "ETag": f'"{etag}"'})

        def _model(self, name: str, kind: str | None, revision: str | None) -> None:
            found = hub.find(name, revision or "main")
            if isinstance(found, str):
                return self._refuse(found)
            commit, files = found
            if kind == "tree":
                return self._json(
                    [{"type": "file", "path": path, "size": len(data), "oid": "0" * 40} for path, data in files.items()]
                )
            self._json({"id": name, "sha": commit, "siblings": [{"rfilename": path} for path in files]})

        def _commit(self, name: str, revision: str, body: bytes) -> None:
            files = dict(hub.find(name, revision)[1])
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            commit = hub.commit(name, files, revision)
            self._json({"commitUrl": f"/{name}/commit/{commit}", "commitOid": commit, "success": True})

        def _refuse(self, code: str, commit: str | None = None) -> None:
            self._send(404, b"", {"X-Error-Code": code, **({"X-Repo-Commit": commit} if commit else {})})

        def _json(self, content: object, status: int = 200) -> None:
            self._send(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

        def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
