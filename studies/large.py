"""A model of 560 million parameters, of random weights: what each precision costs to make, and how fast it scores.

    python -m studies.large --checkpoint models/climate-claims-minilm-l6 --pairs FILE --folder out/large \
        --output benchmarks/results/large.json

It writes a checkpoint of XLM-RoBERTa-large's sizes, with the tokenizer of --checkpoint, exports it in a process a
precision, and scores some pairs with PyTorch and with each engine in turns.
"""

import statistics
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
import torch
from transformers import AutoTokenizer, XLMRobertaConfig, XLMRobertaForSequenceClassification

from pairscore.export.checkpoint import open_checkpoint
from pairscore.export.reference import load_reference
from pairscore.runtime.bundle.manifest import Bundle
from pairscore.runtime.pairs_file import read_pairs
from pairscore.runtime.scorer import Scorer
from studies.harness import study_options, study_result, time_in_turns, write_result

# Pairs of claims and evidence are shorter.
MAX_LENGTH = 128
# Pairs that int8 is fitted to and judged on, and those that are timed.
_CALIBRATION, _TIMED = 64, 16
# Random weights order pairs by chance, so the ranks of int8 are reported and not promised.
PRECISIONS: dict[str, list[str]] = {
    "fp32": ["--max-length", str(MAX_LENGTH)],
    "fp16": ["--precision", "fp16"],
    "int8": ["--precision", "int8", "--engine", "native", "--min-spearman", "0"],
}


def main() -> None:
    """Make it, time it and write the JSON."""
    parser = study_options(__doc__, bundle=False)
    parser.add_argument("--folder", required=True, type=Path, help="7 GB: the checkpoint and its bundle")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    source, bundle = options.folder / "xlm-roberta-large", options.folder / "bundle"
    write_checkpoint(options.checkpoint, source)
    calibration = options.folder / "calibration.parquet"
    pq.write_table(pq.read_table(options.pairs).slice(0, _CALIBRATION), calibration)
    costs: dict[str, Any] = {}
    for precision, more in PRECISIONS.items():
        fitted = ["--calibration", str(calibration)] if precision == "int8" else []
        costs[precision] = run("export", source, bundle, "--overwrite", *more, *fitted)
        files = Bundle.open(bundle).variant(precision).files
        costs[precision]["bytes"] = sum((bundle / name).stat().st_size for name in files)
        print(precision, costs[precision], flush=True)
    write_result(options.output, timed(options, source, bundle, costs))


def timed(options: Any, source: Path, bundle: Path, costs: dict[str, Any]) -> dict[str, Any]:
    """PyTorch and every engine in turns."""
    pairs = read_pairs(options.pairs, "claim", "evidence", _TIMED)
    reference = load_reference(open_checkpoint(str(source)), MAX_LENGTH)
    ours = {name: Scorer.from_pretrained(bundle, precision=name).predict for name in ("fp32", "int8")}
    systems: dict[str, Any] = {"pytorch": reference.logits, **ours}
    seconds, _ = time_in_turns(systems, pairs, options.rounds)
    parameters = sum(weight.numel() for weight in reference.encoder.parameters())
    return study_result(
        options,
        {"timed": len(pairs), "mean_tokens": float(np.mean([len(ids) for ids in reference.input_ids(pairs)]))},
        parameters=parameters,
        weights_bytes=4 * parameters,
        exports={
            name: cost | {"max_score_difference": Bundle.open(bundle).variant(name).parity.max_score_difference}
            for name, cost in costs.items()
        },
        seconds=seconds,
        pairs_per_second={name: len(pairs) / statistics.median_low(each) for name, each in seconds.items()},
    )


def write_checkpoint(tokenizer_of: Path, folder: Path) -> None:
    """Random weights of XLM-RoBERTa-large's sizes."""
    inputs = {"model_max_length": 512, "model_input_names": ["input_ids", "attention_mask"]}
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_of, **inputs)
    config = XLMRobertaConfig(
        vocab_size=250_002,
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        max_position_embeddings=513 + tokenizer.pad_token_id,
        type_vocab_size=1,
        num_labels=1,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    XLMRobertaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def run(*arguments: object) -> dict[str, float]:
    """Seconds of `pairscore` in a process, and the most memory that it held, in bytes: its own, and with mapped files.

    Raises RuntimeError where it fails.
    """
    command = [str(Path(sys.executable).with_name("pairscore")), *map(str, arguments)]
    started, own, resident = time.perf_counter(), 0, 0
    process = psutil.Popen(command)
    while process.poll() is None:
        with suppress(psutil.Error):  # it may have ended
            now = process.memory_info()
            own, resident = max(own, now.rss - now.shared), max(resident, now.rss)
        time.sleep(0.01)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return {"seconds": time.perf_counter() - started, "peak_bytes": own, "peak_resident_bytes": resident}


if __name__ == "__main__":
    main()
