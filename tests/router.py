"""A `text-embeddings-router` of our own: its documented protocol, with a score that a test can compute.

Its log gets a line for every request and for its end.
"""

import stat
import sys
from pathlib import Path

MOST_TEXTS = 3

_PROGRAM = """#!{python}
import argparse, json, signal, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

parser = argparse.ArgumentParser()
parser.add_argument("--model-id", required=True)
parser.add_argument("--hostname", default="0.0.0.0")
parser.add_argument("--port", type=int, default=3000)
options = parser.parse_args()
lock, log, flying, started = threading.Lock(), open({log!r}, "a", buffering=1), [0], time.monotonic()
{failure}

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def answer(self, status, content):
        text = json.dumps(content).encode() if content is not None else b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self):
        if self.path == "/health":
            self.answer(200 if time.monotonic() - started > 0.3 else 503, None)
        elif self.path == "/info":
            self.answer(200, {{"model_id": options.model_id, "max_client_batch_size": {most_texts}}})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/rerank" or not body["raw_scores"]:
            return self.answer(422, {{"error": "not what the test expects"}})
        if len(body["texts"]) > {most_texts}:
            return self.answer(413, {{"error": "batch size > maximum allowed batch size"}})
        with lock:
            flying[0] += 1
            log.write(f"{{len(body['texts'])}} texts, {{flying[0]}} in flight\\n")
        time.sleep(0.05)
        with lock:
            flying[0] -= 1
        scores = [len(body["query"]) - len(text) / 100 for text in body["texts"]]
        ranked = sorted(range(len(scores)), key=lambda place: -scores[place])
        self.answer(200, [{{"index": place, "score": scores[place]}} for place in ranked])

def end(*arguments):
    log.write("stopped\\n")
    sys.exit(0)

signal.signal(signal.SIGTERM, end)
ThreadingHTTPServer((options.hostname, options.port), Handler).serve_forever()
"""


def score(claim: str, evidence: str) -> float:
    """What the router below answers."""
    return len(claim) - len(evidence) / 100


def install(folder: Path, *, failure: str = "") -> Path:
    """Write the program into `folder`, for PATH; returns its log. `failure`: Python that it runs at its start."""
    log = folder / "router.log"
    program = folder / "text-embeddings-router"
    program.write_text(_PROGRAM.format(python=sys.executable, log=str(log), most_texts=MOST_TEXTS, failure=failure))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return log
