"""Peers that are servers: infinity by its Python engine, text-embeddings-inference over HTTP on this machine.

Loaders as in `loaders.py`. Both take one claim with its evidence a request, and batch across requests by themselves:
they get many requests at once, as their documentation recommends.
"""

import asyncio
import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from pairscore.benchmarks.loaders import CLOSING, Files, Logits, Pairs, Predict, rows_by_claim

ROUTER = "text-embeddings-router"
REQUESTS_IN_FLIGHT = 32
SECONDS_TO_START = 120
SECONDS_TO_ANSWER = 300
SECONDS_TO_STOP = 5


def infinity(files: Files, engine: str, batch_size: int) -> Predict:
    """The `AsyncEmbeddingEngine` of infinity. `engine`: torch, or optimum for ONNX Runtime."""
    os.environ["DO_NOT_TRACK"] = "1"  # it reports its use otherwise
    source = str(Path(files.checkpoint).resolve())
    if engine == "optimum":
        # Its paths to a folder's ONNX files suit optimum only when that folder is the current one and holds them at its
        # top. What it optimizes stays in the hub's cache, where another model in a current folder would be mixed up.
        folder = Path(files.onnx).resolve() / "infinity"
        os.environ["HF_HUB_CACHE"] = str(folder / "cache")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for file in [*Path(files.onnx).glob("*.json"), Path(files.onnx) / "onnx/model.onnx"]:
            shutil.copyfile(file, folder / file.name)
        os.chdir(folder)
        source = "."
    library: Any = import_module("infinity_emb")
    arguments = library.EngineArgs(
        model_name_or_path=source, engine=engine, device="cpu", batch_size=batch_size, model_warmup=False
    )
    model = library.AsyncEmbeddingEngine.from_args(arguments)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(model.astart())
    CLOSING.callback(lambda: loop.run_until_complete(model.astop()))

    async def ask(claim: str, rows: list[int], pairs: Pairs, logits: Logits) -> None:
        ranked, _ = await model.rerank(query=claim, docs=[pairs[row][1] for row in rows], raw_scores=True)
        for each in ranked:
            logits[rows[each.index]] = each.relevance_score

    async def ask_all(pairs: Pairs) -> Logits:
        logits = np.full(len(pairs), np.nan, np.float32)
        await asyncio.gather(*(ask(claim, rows, pairs, logits) for claim, rows in rows_by_claim(pairs).items()))
        return logits

    return lambda pairs: (loop.run_until_complete(ask_all(pairs)), {})


def text_embeddings_inference(files: Files) -> Predict:
    """`text-embeddings-router` on a free port of this machine, stopped when this process ends.

    Raises RuntimeError with the last line that it wrote when it ends or is not healthy in `SECONDS_TO_START`.
    """
    port = _free_port()
    log = Path(tempfile.mkstemp(suffix=".log")[1])
    CLOSING.callback(log.unlink, missing_ok=True)
    with log.open("w") as output:
        server = subprocess.Popen(
            [
                ROUTER,
                "--model-id",
                str(Path(files.checkpoint).resolve()),
                "--hostname",
                "127.0.0.1",
                "--port",
                str(port),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    CLOSING.callback(_stop, server)
    _wait_until_healthy(server, port, log)
    with closing(_connection(port)) as connection:
        most_texts = int(_asked(connection, "GET", "/info")["max_client_batch_size"])

    def predict(pairs: Pairs) -> tuple[Logits, dict[str, float]]:
        logits = np.full(len(pairs), np.nan, np.float32)
        requests = [
            (claim, rows[start : start + most_texts])
            for claim, rows in rows_by_claim(pairs).items()
            for start in range(0, len(rows), most_texts)
        ]
        with _Connections(port) as connections, ThreadPoolExecutor(REQUESTS_IN_FLIGHT) as pool:
            answers = pool.map(
                lambda request: _reranked(connections.mine(), request[0], [pairs[row][1] for row in request[1]]),
                requests,
            )
            for (_, rows), scores in zip(requests, answers, strict=True):
                logits[rows] = scores
        return logits, {}

    return predict


class _Connections:
    """A connection for each thread that asks for one, closed together."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._local = threading.local()
        self._stack = ExitStack()

    def __enter__(self) -> "_Connections":
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def mine(self) -> http.client.HTTPConnection:
        if not hasattr(self._local, "connection"):
            self._local.connection = self._stack.enter_context(closing(_connection(self._port)))
        connection: http.client.HTTPConnection = self._local.connection
        return connection


def _reranked(connection: http.client.HTTPConnection, claim: str, evidence: list[str]) -> list[float]:
    """Logits of each piece of evidence, in the order given; the server answers best first."""
    body = {"query": claim, "texts": evidence, "raw_scores": True, "return_text": False, "truncate": True}
    scores = {each["index"]: each["score"] for each in _asked(connection, "POST", "/rerank", body)}
    return [scores[place] for place in range(len(evidence))]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_until_healthy(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline:
        if server.poll() is not None:
            break
        try:
            with closing(_connection(port)) as connection:
                _asked(connection, "GET", "/health")
            return
        except (OSError, RuntimeError):
            time.sleep(0.1)
    ended = f"ended with {server.returncode}" if server.poll() is not None else "did not become healthy"
    _stop(server)
    last = [line for line in log.read_text(errors="replace").splitlines() if line.strip()][-1:]
    raise RuntimeError(f"{ROUTER} {ended}: {''.join(last)}")


def _asked(
    connection: http.client.HTTPConnection, method: str, path: str, body: Mapping[str, Any] | None = None
) -> Any:
    """The answer's JSON, None where it is empty. Raises RuntimeError with what the server says to a bad request."""
    text = None if body is None else json.dumps(body)
    connection.request(method, path, text, {} if text is None else {"Content-Type": "application/json"})
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{method} {path}: {answer.status} {content.decode(errors='replace')[:200]}")
    return json.loads(content) if content.strip() else None


def _connection(port: int) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS_TO_ANSWER)


def _stop(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        server.terminate()
        try:
            server.wait(SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
