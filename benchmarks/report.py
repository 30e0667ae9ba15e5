"""Write the tables of README.md, benchmarks/README.md and docs/ from the committed JSON.

    python -m pairscore.benchmarks.report           rewrite them
    python -m pairscore.benchmarks.report --check   exit with 1 if they differ from the JSON

A table stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->`; NAME is one of `TABLES`.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pairscore.benchmarks.pipeline_tables import billion_table, overhead_table, window_table

HERE = Path(__file__).resolve().parent
PAGES = tuple(
    HERE.parent / name for name in ("README.md", "benchmarks/README.md", "docs/pipelines.md", "docs/billion-pairs.md")
)
RESULTS = HERE / "results"


def throughput_table(result: dict[str, Any]) -> str:
    """One row a system: pairs per second, the ratio to the reference, parity with it."""
    lines = [
        "| system | pairs/s | ratio | max logit difference | Spearman | peak memory |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for system in result["systems"]:
        if "error" in system:
            lines.append(f"| {system['name']} | did not run: {system['error']} | | | | |")
            continue
        parity = system["parity"]
        reference = system["name"] == result["reference"]
        name = f"**{system['name']}**" if system["ours"] else system["name"]
        difference = "reference" if reference else f"{parity['max_logit_difference']:.1e}"
        rank = "" if reference else f"{parity['spearman']:.5f}"
        memory = f"{system['peak_memory_bytes'] / 2**30:.2f} GiB"
        lines.append(
            f"| {name} | {system['pairs_per_second']:.0f} | {system['ratio']:.2f} | {difference} | {rank} | {memory} |"
        )
    machine, data = result["environment"], result["data"]
    sets = ", ".join(machine["instruction_sets"]).replace("_", "-") or "no wide vectors"
    lines += [
        "",
        f"{data['pairs']:,} pairs of {data['file']} (mean {data['mean_tokens']:.0f} tokens), median of "
        f"{result['rounds']} interleaved rounds, {machine['cores']} cores of {machine['processor']} ({sets}), "
        f"commit {machine['commit'][:10]}, {machine['time'][:10]}.",
    ]
    return "\n".join(lines)


# marker -> (result file, renderer)
TABLES: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "throughput": ("throughput.json", throughput_table),
    "pipelines": ("pipelines.json", overhead_table),
    "windows": ("pipelines.json", window_table),
    "billion": ("pipelines.json", billion_table),
}


def rendered(page: str) -> str:
    """The page with every marked table written anew from its JSON."""
    for name, (file, render) in TABLES.items():
        begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
        if begin in page:
            head, rest = page.split(begin, 1)
            tail = rest.split(end, 1)[1]
            page = f"{head}{begin}{render(json.loads((RESULTS / file).read_text()))}\n{end}{tail}"
    return page


def main() -> None:
    """Rewrite or check the pages."""
    parser = argparse.ArgumentParser(description="Write the tables of the README files from the committed JSON.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if a table is out of date")
    options = parser.parse_args()
    for path in PAGES:
        page = path.read_text()
        if rendered(page) == page:
            continue
        if options.check:
            raise SystemExit(
                f"{path.name} differs from benchmarks/results: run `python -m pairscore.benchmarks.report`"
            )
        path.write_text(rendered(page))


if __name__ == "__main__":
    main()
