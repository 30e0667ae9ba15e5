"""Write the tables of README.md, benchmarks/README.md and docs/, and the pictures, from the committed JSON.

    python -m studies.pages           rewrite them
    python -m studies.pages --check   exit with 1 if they differ from the JSON

A table stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->`; NAME is one of `TABLES`.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pairscore.benchmarks.agreement import compare
from pairscore.benchmarks.tables.table import Table, markdown
from pairscore.benchmarks.tables.throughput import limits_table, throughput_picture, throughput_table
from studies import chapters, robustness

ROOT = Path(__file__).resolve().parents[1]
PAGES = tuple(
    ROOT / name
    for name in (
        "README.md",
        "benchmarks/README.md",
        "docs/daily-jobs.md",
        "docs/pipelines.md",
        "docs/billion-pairs.md",
        "docs/robustness.md",
    )
)
RESULTS = ROOT / "benchmarks/results"


def steps_line(steps: list[dict[str, Any]]) -> str:
    """How long the steps of `make bench` took."""
    told = ", ".join(f"{step['name']} {step['seconds']:.0f} s" for step in steps)
    return f"The steps of `make bench` add up to {sum(step['seconds'] for step in steps) / 60:.1f} minutes: {told}."


def agreement_avx512(again: dict[str, Any]) -> str:
    """`agreement_line` beside the first run on AVX-512."""
    return agreement_line(again, "throughput-avx512.json")


def agreement_line(again: dict[str, Any], first_file: str = "throughput.json") -> str:
    """How far another run is from the first, in the ratios."""
    first = json.loads((RESULTS / first_file).read_text())
    found = {each.name: each.difference for each in compare(first, again) if each.difference is not None}
    ours = {system["name"] for system in first["systems"] if system["ours"]}
    worst, worst_of_ours = (max(names, key=lambda name: found[name]) for names in (found, ours & found.keys()))
    return (
        f"Another run, of {again['rounds']} rounds, gave the same ratios within {found[worst]:.1%} ({worst}), and "
        f"ours within {found[worst_of_ours]:.1%}."
    )


def summary_table(result: dict[str, Any]) -> Table:
    """Ours and the best of each peer."""
    return throughput_table(result, summary=True)


def long_table(result: dict[str, Any]) -> Table | str:
    """The second set, where it was measured."""
    return throughput_table({**result, **result["long"]}) if "long" in result else "Not measured yet."


def limits(result: dict[str, Any]) -> Table | str:
    """What the machine can do, where it was measured."""
    return limits_table(result) if result.get("limits") else "Not measured yet."


# name -> (result file, renderer)
TABLES: dict[str, tuple[str, Callable[[Any], Table | str]]] = {
    "summary": ("throughput.json", summary_table),
    "throughput": ("throughput.json", throughput_table),
    "long": ("throughput.json", long_table),
    "limits": ("throughput.json", limits),
    "agreement": ("throughput-again.json", agreement_line),
    "avx512": ("throughput-avx512.json", throughput_table),
    "avx512-long": ("throughput-avx512.json", long_table),
    "avx512-limits": ("throughput-avx512.json", limits),
    "avx512-agreement": ("throughput-avx512-again.json", agreement_avx512),
    "avx512-third": ("throughput-avx512-third.json", agreement_avx512),
    "bench-steps": ("bench-steps.json", steps_line),
    "ablations": ("ablations.json", chapters.ablation_table),
    "exporters": ("exporters.json", chapters.exporters_table),
    "scaling": ("scaling.json", chapters.scaling_table),
    "million": ("scaling.json", chapters.million_line),
    "row-group": ("scaling.json", chapters.row_group_line),
    "quantization": ("quantization.json", chapters.int8_table),
    "modernbert": ("modernbert.json", chapters.int8_table),
    "reuse": ("reuse.json", chapters.reuse_table),
    "pipelines": ("pipelines.json", chapters.overhead_table),
    "billion": ("pipelines.json", chapters.billion_table),
    "gpu": ("gpu.json", chapters.gpu_line),
    "gpu-summary": ("gpu.json", chapters.gpu_summary),
    "gpu-kernels": ("gpu.json", chapters.gpu_kernels_table),
    "gpu-systems": ("gpu.json", chapters.gpu_table),
    "host": ("host.json", chapters.host_table),
    "fuzz": ("fuzz.json", robustness.fuzz_table),
    "kills": ("kills.json", robustness.kills_table),
}
# picture in results/ -> (result file, renderer, which may have nothing to draw yet)
PICTURES: dict[str, tuple[str, Callable[[Any], str | None]]] = {
    "throughput.svg": ("throughput.json", throughput_picture),
    "scaling-rate.svg": ("scaling.json", chapters.rate_picture),
    "scaling-memory.svg": ("scaling.json", chapters.memory_picture),
    "scaling-length.svg": ("scaling.json", chapters.length_picture),
}


def drawn() -> dict[Path, str]:
    """Every picture, drawn anew from its JSON."""
    found = {name: render(json.loads((RESULTS / file).read_text())) for name, (file, render) in PICTURES.items()}
    return {RESULTS / name: picture + "\n" for name, picture in found.items() if picture}


def rendered(page: str) -> str:
    """The page with every marked table written anew from its JSON."""
    for name, (file, render) in TABLES.items():
        begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
        if begin in page:
            head, rest = page.split(begin, 1)
            tail = rest.split(end, 1)[1]
            found = render(json.loads((RESULTS / file).read_text()))
            page = f"{head}{begin}{found if isinstance(found, str) else markdown(found)}\n{end}{tail}"
    return page


def main() -> None:
    """Rewrite or check the pages; pictures are checked by a test, since Matplotlib's last digits may differ."""
    parser = argparse.ArgumentParser(description="Write the tables of the README files from the committed JSON.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if a table is out of date")
    options = parser.parse_args()
    for path in PAGES:
        text = rendered(path.read_text())
        if options.check and path.read_text() != text:
            raise SystemExit(f"{path.name} differs from its results: `python -m studies.pages`")
        path.write_text(text)
    for path, text in drawn().items() if not options.check else ():
        path.write_text(text)


if __name__ == "__main__":
    main()
