"""Write the tables of README.md, benchmarks/README.md and docs/, and the pictures, from the committed JSON.

    python -m pairscore.benchmarks.tables.pages           rewrite them
    python -m pairscore.benchmarks.tables.pages --check   exit with 1 if they differ from the JSON

A table stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->`; NAME is one of `TABLES`.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pairscore.benchmarks.agreement import compare
from pairscore.benchmarks.tables.gpu import gpu_chapter
from pairscore.benchmarks.tables.ladder import host_table, quantization_table, scale_line
from pairscore.benchmarks.tables.pipelines import billion_table, overhead_table, window_table
from pairscore.benchmarks.tables.report_page import remarks, statistic, throughput_picture
from pairscore.benchmarks.tables.scaling import length_picture, memory_picture, rate_picture, scaling_table

HERE = Path(__file__).resolve().parents[1]
PAGES = tuple(
    HERE.parent / name for name in ("README.md", "benchmarks/README.md", "docs/pipelines.md", "docs/billion-pairs.md")
)
RESULTS = HERE / "results"


def steps_line(steps: list[dict[str, Any]]) -> str:
    """How long the steps of `make bench` took."""
    told = ", ".join(f"{step['name']} {step['seconds']:.0f} s" for step in steps)
    return f"The steps of `make bench` add up to {sum(step['seconds'] for step in steps) / 60:.1f} minutes: {told}."


def agreement_line(again: dict[str, Any]) -> str:
    """How far a second run is from the first, in the ratios."""
    first = json.loads((RESULTS / "throughput.json").read_text())
    found = {each.name: each.difference for each in compare(first, again) if each.difference is not None}
    ours = {system["name"] for system in first["systems"] if system["ours"]}
    worst, worst_of_ours = (max(names, key=lambda name: found[name]) for names in (found, ours & found.keys()))
    return (
        f"Another run, of {again['rounds']} rounds, gave the same ratios within {found[worst]:.1%} ({worst}), and "
        f"ours within {found[worst_of_ours]:.1%}."
    )


def throughput_table(result: dict[str, Any]) -> str:
    """One row a system: pairs per second, the ratio to the reference, parity with it."""
    lines = [
        "| system | pairs/s | ratio | max logit difference | Spearman | same top 1 | MAP | peak memory |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for system in result["systems"]:
        if "error" in system:
            lines.append(f"| {system['name']} | | | | | | | see below |")
            continue
        parity = system["parity"]
        reference = system["name"] == result["reference"]
        name = f"**{system['name']}**" if system["ours"] else system["name"]
        difference = "reference" if reference else f"{parity['max_logit_difference']:.1e}"
        rank = "" if reference else f"{parity['spearman']:.5f}"
        top = "" if reference or parity["top1_agreement"] is None else f"{parity['top1_agreement']:.1%}"
        ranking = f"{system['ranking']['MAP']:.4f}" if system.get("ranking") else ""
        memory = f"{system['peak_memory_bytes'] / 2**30:.2f} GiB"
        lines.append(
            f"| {name} | {system['pairs_per_second']:.0f} | {system['ratio']:.2f} | {difference} | {rank} | {top} | "
            f"{ranking} | {memory} |"
        )
    failed = [f"{system['name']}: {system['error']}" for system in result["systems"] if "error" in system]
    if failed:
        lines += ["", "Did not run: " + "; ".join(failed).replace("|", "\\|").replace("<", "&lt;") + "."]
    lines += [line for remark in remarks(result) for line in ("", remark.replace("|", "\\|").replace("<", "&lt;"))]
    machine, data = result["environment"], result["data"]
    sets = ", ".join(machine["instruction_sets"]).replace("_", "-") or "no wide vectors"
    lines += [
        "",
        f"{data['pairs']:,} pairs of {data['file']} (mean {data['mean_tokens']:.0f} tokens), {statistic(result)} "
        f"of {result['rounds']} interleaved rounds, {machine['cores']} cores of {machine['processor']} ({sets}), "
        f"commit {machine['commit'][:10]}, {machine['time'][:10]}.",
    ]
    return "\n".join(lines)


def ablation_table(result: dict[str, Any]) -> str:
    """One row a setting: its rate, and how it compares with everything on."""
    lines = ["| setting | pairs/s | against everything on |", "|---|--:|--:|"]
    for each in result["settings"]:
        lines.append(f"| {each['name']} | {each['pairs_per_second']:.0f} | {each['ratio']:.2f} |")
    machine, data = result["environment"], result["data"]
    lines += [
        "",
        f"{data['pairs']:,} pairs of {data['file']}, {data['repeated']:.0%} of them added a second time; "
        f"{statistic(result)} of {result['rounds']} interleaved rounds, {machine['cores']} cores of "
        f"{machine['processor']}, commit {machine['commit'][:10]}, {machine['time'][:10]}.",
    ]
    return "\n".join(lines)


# marker -> (result file, renderer)
TABLES: dict[str, tuple[str, Callable[[Any], str]]] = {
    "gpu": ("gpu.json", lambda result: gpu_chapter(result, json.loads((RESULTS / "throughput.json").read_text()))),
    "throughput": ("throughput.json", throughput_table),
    "bench-steps": ("bench-steps.json", steps_line),
    "agreement": ("throughput-again.json", agreement_line),
    "ablations": ("ablations.json", ablation_table),
    "scaling": ("scaling.json", scaling_table),
    "quantization": ("quantization.json", quantization_table),
    "scale-million": ("scale-million.json", scale_line),
    "scale-row-group": ("scale-row-group.json", scale_line),
    "pipelines": ("pipelines.json", overhead_table),
    "windows": ("pipelines.json", window_table),
    "billion": ("pipelines.json", billion_table),
    "host": ("host.json", host_table),
}


# picture in results/ -> (result file, renderer)
PICTURES: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "throughput.svg": ("throughput.json", throughput_picture),
    "scaling-rate.svg": ("scaling.json", rate_picture),
    "scaling-memory.svg": ("scaling.json", memory_picture),
    "scaling-length.svg": ("scaling.json", length_picture),
}


def drawn() -> dict[Path, str]:
    """Every picture, drawn anew from its JSON."""
    return {
        RESULTS / name: render(json.loads((RESULTS / file).read_text())) + "\n"
        for name, (file, render) in PICTURES.items()
    }


def rendered(page: str) -> str:
    """The page with every marked table written anew from its JSON."""
    for name, (file, render) in TABLES.items():
        begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
        if begin in page:
            head, rest = page.split(begin, 1)
            tail = rest.split(end, 1)[1]
            path = RESULTS / file
            text = render(json.loads(path.read_text())) if path.is_file() else f"Not measured yet: no `results/{file}`."
            page = f"{head}{begin}{text}\n{end}{tail}"
    return page


def main() -> None:
    """Rewrite or check the pages."""
    parser = argparse.ArgumentParser(description="Write the tables of the README files from the committed JSON.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if a table is out of date")
    options = parser.parse_args()
    for path, text in {**{path: rendered(path.read_text()) for path in PAGES}, **drawn()}.items():
        if path.is_file() and path.read_text() == text:
            continue
        if options.check:
            raise SystemExit(
                f"{path.name} differs from benchmarks/results: run `python -m pairscore.benchmarks.tables.pages`"
            )
        path.write_text(text)


if __name__ == "__main__":
    main()
