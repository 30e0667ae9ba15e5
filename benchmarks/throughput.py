"""Pairs per second and parity, ours and peers, interleaved in one run.

    python -m benchmarks.throughput --checkpoint models/climate-claims-minilm-l6 --bundle out/bundle \
        --pairs ../shared/climate-fever/train.parquet --output benchmarks/results/throughput.json

Timing runs from a list of text pairs in memory to logits in memory; loading and a warm-up are outside.
Each system has a process of its own and only one of them runs at a time. Systems take turns, and every ratio
compares two runs of one round, so that a machine that slows down slows both.
"""

import argparse
import json
import random
import resource
import statistics
import time
from dataclasses import asdict
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from tokenizers import Tokenizer

from benchmarks.environment import environment
from benchmarks.systems import REFERENCE, SYSTEMS, Files, Pairs, System
from pairscore.runtime.activation import activate
from pairscore.runtime.bundle import sha256
from pairscore.runtime.parity import TIERS, compare

WARM_UP_PAIRS = 64


def main() -> None:
    """Measure and write the JSON; exit with 1 when one of our own systems breaks its tier's promise."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--pairs", required=True, type=Path, help="Parquet with columns claim and evidence")
    parser.add_argument("--limit", type=int, default=2000, help="pairs taken after a seeded shuffle")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", required=True, type=Path)
    options = parser.parse_args()

    pairs = read_pairs(options.pairs, options.limit)
    files = Files(options.checkpoint, options.bundle)
    result = {
        "environment": environment(),
        "checkpoint": Path(options.checkpoint).name,
        "data": {
            "file": options.pairs.name,
            "sha256": sha256(options.pairs),
            "pairs": len(pairs),
            "mean_tokens": mean_tokens(Path(options.checkpoint) / "tokenizer.json", pairs),
        },
        "rounds": options.rounds,
        "reference": REFERENCE.name,
        "systems": measure(files, pairs, options.rounds),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    for system in result["systems"]:
        if "error" in system:
            print(f"{system['name']:55} did not run: {system['error']}")
            continue
        parity = system["parity"]
        print(
            f"{system['name']:55} {system['pairs_per_second']:8.1f} pairs/s  x {system['ratio']:.2f}  "
            f"max logit {parity['max_logit_difference']:.2g}"
        )
    broken = [system["name"] for system in result["systems"] if system.get("ours") and system.get("violations")]
    if broken:
        raise SystemExit(f"parity broken by {', '.join(broken)}")


def read_pairs(path: Path, limit: int) -> Pairs:
    """`limit` pairs of a Parquet file, in a seeded random order."""
    table = pq.read_table(path, columns=["claim", "evidence"])
    pairs = list(zip(table["claim"].to_pylist(), table["evidence"].to_pylist(), strict=True))
    random.Random(0).shuffle(pairs)
    return pairs[:limit]


def mean_tokens(tokenizer_file: Path, pairs: Pairs) -> float:
    """Tokens of a pair, special tokens included."""
    encodings = Tokenizer.from_file(str(tokenizer_file)).encode_batch(pairs)
    return statistics.fmean(len(encoding.ids) for encoding in encodings)


def measure(files: Files, pairs: Pairs, rounds: int) -> list[dict[str, Any]]:
    """Every system's seconds, ratios, memory and parity; a system that cannot run says why."""
    context = get_context("spawn")
    workers: dict[str, Connection] = {}
    results: dict[str, dict[str, Any]] = {}
    processes = []
    for system in SYSTEMS:
        results[system.name] = {"name": system.name, "tier": system.tier, "ours": system.ours, "seconds": []}
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, system.name, files, pairs), daemon=True)
        process.start()
        theirs.close()
        processes.append(process)
        answer = ours.recv()  # loaded and warm, or why not
        if answer is None:
            workers[system.name] = ours
        else:
            results[system.name]["error"] = answer
    logits: dict[str, np.ndarray] = {}
    for turn in range(rounds):
        names = list(workers)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            workers[name].send("run")
            seconds, logits[name], memory = workers[name].recv()
            results[name]["seconds"].append(seconds)
            results[name]["peak_memory_bytes"] = memory
    for connection in workers.values():
        connection.send("stop")
    for process in processes:
        process.join()
    for name in workers:
        results[name] |= _figures(results[name], results[REFERENCE.name], logits[name], logits[REFERENCE.name], pairs)
    return list(results.values())


def _figures(
    result: dict[str, Any], reference: dict[str, Any], logits: np.ndarray, expected: np.ndarray, pairs: Pairs
) -> dict[str, Any]:
    ours, theirs = logits.reshape(-1, 1), expected.reshape(-1, 1)
    claims = [claim for claim, _ in pairs]
    parity = compare(ours, theirs, activate("sigmoid", ours), activate("sigmoid", theirs), claims)
    return {
        "pairs_per_second": len(pairs) / statistics.median(result["seconds"]),
        "ratio": statistics.median(
            slow / fast for slow, fast in zip(reference["seconds"], result["seconds"], strict=True)
        ),
        "parity": asdict(parity),
        "violations": parity.violations(TIERS[result["tier"]]),
    }


def _serve(connection: Connection, name: str, files: Files, pairs: Pairs) -> None:
    """The other process: load, warm up, then run whenever told to."""
    system: System = next(each for each in SYSTEMS if each.name == name)
    try:
        predict = system.load(files)
        predict(pairs[:WARM_UP_PAIRS])
    except Exception as error:  # whatever a peer raises is its reason for not running
        connection.send(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
        return
    connection.send(None)
    while connection.recv() == "run":
        started = time.perf_counter()
        logits = np.asarray(predict(pairs), dtype=np.float32)
        seconds = time.perf_counter() - started
        connection.send((seconds, logits, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


if __name__ == "__main__":
    main()
