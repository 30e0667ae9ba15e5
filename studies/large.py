"""A model of 560 million parameters, of random weights: what each precision costs to make, and how fast it scores.

    python -m studies.large make --checkpoint models/climate-claims-minilm-l6 --pairs FILE --folder out/large \
        --output benchmarks/results/large.json
    python -m studies.large time --checkpoint models/climate-claims-minilm-l6 --pairs FILE --folder out/large \
        --output benchmarks/results/large.json

`make` writes a checkpoint of XLM-RoBERTa-large's sizes, with the tokenizer of --checkpoint, and exports it in a process
for each precision: seconds, peak memory, size. `time` scores some pairs with PyTorch and every variant in turns.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from transformers import AutoTokenizer, XLMRobertaConfig, XLMRobertaForSequenceClassification

from pairscore.export.checkpoint import open_checkpoint
from pairscore.export.reference import load_reference
from pairscore.runtime.bundle.manifest import Bundle
from pairscore.runtime.pairs_file import read_pairs
from pairscore.runtime.scorer import Scorer
from studies.harness import study_options, study_result, time_in_turns, write_result

TOKENS = 512
# Of the exported bundle: pairs of claims and evidence are shorter, and each parity pair costs less.
MAX_LENGTH = 128
# Random weights order pairs by chance, so the ranks of int8 are reported and not promised.
PRECISIONS: dict[str, list[str]] = {
    "fp32": [],
    "fp16": ["--precision", "fp16"],
    "int8": ["--precision", "int8", "--engine", "native", "--min-spearman", "0"],
}


def main() -> None:
    """Make the bundle, or time it and write the JSON."""
    parser = study_options(__doc__)
    parser.add_argument("step", choices=("make", "time"))
    parser.add_argument("--folder", required=True, type=Path, help="7 GB: the checkpoint and its bundle")
    parser.add_argument("--calibration-pairs", type=int, default=64)
    parser.add_argument("--timed", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    (make if options.step == "make" else measure)(options)


def make(options: argparse.Namespace) -> None:
    """Write the checkpoint and the bundle, and what each export cost."""
    source, bundle = options.folder / "xlm-roberta-large", options.folder / "bundle"
    if not source.is_dir():
        write_checkpoint(options.checkpoint, source)
    pq.write_table(pq.read_table(options.pairs).slice(0, options.calibration_pairs), options.folder / "pairs.parquet")
    costs: dict[str, Any] = {}
    shutil.rmtree(bundle, ignore_errors=True)
    for precision, more in PRECISIONS.items():
        calibration = ["--calibration", options.folder / "pairs.parquet"] if precision == "int8" else []
        seconds, peak = run(
            [Path(sys.executable).with_name("pairscore"), "export", source, bundle, *more, *calibration]
            # Other precisions take the first one's length.
            + (["--max-length", MAX_LENGTH] if precision == "fp32" else [])
        )
        files = Bundle.open(bundle).manifest.variants[precision].files
        size = sum((bundle / name).stat().st_size for name in files)
        costs[precision] = {"seconds": round(seconds, 1), "peak_bytes": peak, "bytes": size}
        print(precision, costs[precision], flush=True)
        (options.folder / "costs.json").write_text(json.dumps(costs, indent=2) + "\n")


def measure(options: argparse.Namespace) -> None:
    """Time PyTorch and every variant in turns, and write the result."""
    bundle = options.folder / "bundle"
    pairs = read_pairs(options.pairs, "claim", "evidence", options.timed)
    reference = load_reference(open_checkpoint(str(options.folder / "xlm-roberta-large")), MAX_LENGTH)
    scorers = {precision: Scorer.from_pretrained(bundle, precision=precision) for precision in ("fp32", "int8")}
    systems: dict[str, Callable[[Any], Any]] = {
        "pytorch": reference.logits,
        **{name: each.predict for name, each in scorers.items()},
    }
    seconds, _ = time_in_turns(systems, pairs, options.rounds)
    typical = {name: statistics.median_low(each) for name, each in seconds.items()}
    reports = {name: each.parity for name, each in Bundle.open(bundle).manifest.variants.items()}
    parameters = sum(weight.numel() for weight in reference.encoder.parameters())
    tokens = float(np.mean([len(ids) for ids in reference.input_ids(pairs)]))
    found = study_result(
        options,
        {"timed": len(pairs), "mean_tokens": tokens},
        parameters=parameters,
        weights_bytes=4 * parameters,
        exports=json.loads((options.folder / "costs.json").read_text()),
        parity={
            name: {"max_score_difference": each.max_score_difference, "spearman": each.spearman}
            for name, each in reports.items()
        },
        seconds=seconds,
        pairs_per_second={name: len(pairs) / each for name, each in typical.items()},
        ratio={name: typical["pytorch"] / each for name, each in typical.items()},
    )
    write_result(options.output, found)
    print(json.dumps({name: found[name] for name in ("exports", "pairs_per_second", "ratio")}, indent=2))


def write_checkpoint(tokenizer_of: Path, folder: Path) -> None:
    """Random weights of XLM-RoBERTa-large's sizes."""
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_of, model_max_length=TOKENS)
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    config = XLMRobertaConfig(
        vocab_size=250_002,
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        max_position_embeddings=TOKENS + 1 + tokenizer.pad_token_id,
        type_vocab_size=1,
        num_labels=1,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    XLMRobertaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text()) | {"model_input_names": tokenizer.model_input_names}
    path.write_text(json.dumps(settings, indent=2))


def run(command: list[Any]) -> tuple[float, int]:
    """Seconds and peak memory of a process, in bytes. Raises RuntimeError where it fails."""
    started = time.perf_counter()
    process = subprocess.Popen(list(map(str, command)))
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - started, usage.ru_maxrss * 1024


if __name__ == "__main__":
    main()
