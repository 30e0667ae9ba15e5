"""Rate and memory of `pairscore score` by the number of pairs, by their length and by the size of a row group.

    python -m studies.scaling --checkpoint models/climate-claims-minilm-l6 \
        --pairs ../shared/climate-fever/train.parquet --output benchmarks/results/scaling.json [--chapters rate memory]

Every point is a job from Parquet to Parquet in a process of its own. All chapters but "length" cross the file's claims
with its evidence; "length" makes pairs of a claim and a stretch of the evidence's words. "rate" scores with the whole
model, the others with its first layers: the host's work and memory are the same for every model, and a million pairs
through all layers take hours on two cores. "row-group" has all pairs in one row group.

Chapters that are not measured again stay in the output as they are, each with the machine that it was measured on.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pairscore.benchmarks.samples import made_pairs
from pairscore.export.bundle import export_bundle
from pairscore.runtime.pairs_file import read_pairs
from studies import harness

CHAPTERS = ("rate", "memory", "length", "row-group")
ROWS_A_FILE = 50_000
# A pair's tokens lie within this share of the mean, where the model takes so many.
SPREAD = 0.25


def main() -> None:
    """Measure the points of each chapter and write the JSON after each."""
    parser = harness.study_options(__doc__)
    parser.add_argument("--chapters", nargs="+", choices=CHAPTERS, default=list(CHAPTERS))
    parser.add_argument("--bundle", type=Path, help="of the whole model, for --precision in the chapter rate")
    parser.add_argument("--precision", default="fp32", help="of the chapter rate")
    parser.add_argument("--device", default="cpu", help="of the chapter rate")
    parser.add_argument("--layers", type=int, default=1, help="that the other chapters keep")
    parser.add_argument("--rates", type=int, nargs="+", default=[200, 1_000, 10_000, 100_000], help="numbers of pairs")
    parser.add_argument("--counts", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--lengths", type=int, nargs="+", default=[32, 64, 128, 256, 512], help="mean tokens of a pair")
    parser.add_argument("--by-length", type=int, default=3000, help="pairs of each length")
    parser.add_argument("--row-group", type=int, default=5_000_000, help="rows of the one row group")
    options = parser.parse_args()
    found = json.loads(options.output.read_text())["chapters"] if options.output.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        small, whole = work / "bundle", options.bundle or work / "whole"
        export_bundle(str(harness.keep_layers(options.checkpoint, work / "checkpoint", options.layers)), small)
        if "rate" in options.chapters and options.bundle is None:
            export_bundle(str(options.checkpoint), whole)
        for chapter in options.chapters:
            precision, layers, bundle = "fp32", options.layers, small
            more = ["--engine", "onnxruntime", "--no-tuning"]
            if chapter == "rate":
                precision, layers, bundle = options.precision, None, whole
                more = ["--precision", precision, "--device", options.device]
            points = []
            for place, size in enumerate(_sizes(chapter, options)):
                data = work / f"{chapter}-{place}"
                _write(chapter, size, options, bundle / "tokenizer.json", data)
                points.append(measure(bundle, data, *more))
                print(f"{chapter}: {points[-1]}", flush=True)
            found[chapter] = harness.study_result(options, {}, layers=layers, precision=precision, points=points)
            ordered = {name: found[name] for name in CHAPTERS if name in found}
            harness.write_result(options.output, {"chapters": ordered})


def _sizes(chapter: str, options: argparse.Namespace) -> list[int]:
    """Numbers of pairs, or, of the chapter length, of tokens."""
    given: dict[str, list[int]] = {"rate": options.rates, "memory": options.counts, "length": options.lengths}
    return given.get(chapter, [options.row_group])


def _write(chapter: str, size: int, options: argparse.Namespace, tokenizer: Path, folder: Path) -> None:
    if chapter != "length":
        group = size if chapter == "row-group" else ROWS_A_FILE
        harness.write_crossed(options.pairs, folder, size, 1 if chapter == "row-group" else -(-size // group), group)
        return
    texts = read_pairs(options.pairs, "claim", "evidence")
    most = json.loads((tokenizer.parent / "pairscore.json").read_text())["max_length"] or size * 2
    # Where the model takes no more tokens than the mean, every pair is longer and is truncated to as many.
    shortest, longest = round(size * (1 - SPREAD)), round(size * (1 + SPREAD))
    bounds = (shortest, longest) if longest <= most else (longest, size * 2)
    claims, evidence = map(list, zip(*made_pairs(tokenizer, texts, options.by_length, *bounds), strict=True))
    folder.mkdir()
    pq.write_table(pa.table({"claim": claims, "evidence": evidence}), folder / "pairs.parquet")


def measure(bundle: Path, data: Path, *more: object) -> dict[str, Any]:
    """One point, by the summary of `pairscore score`. Loading is outside of its seconds, not of its memory."""
    summary = harness.score(bundle, data, data.with_name(f"{data.name}-scored"), "--quiet", *more)
    kept = (
        "pairs", "seconds", "pairs_per_second", "tokens_per_second", "peak_memory_bytes",
        "share_outside_engine", "engine_idle_share", "seconds_by_stage", "engine",
    )  # fmt: skip
    return {
        **{name: summary[name] for name in kept},
        "mean_tokens": summary["tokens"] / summary["pairs"],
        "input_bytes": sum(path.stat().st_size for path in data.glob("*.parquet")),
    }


if __name__ == "__main__":
    main()
