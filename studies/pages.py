"""Write the tables of README.md, benchmarks/README.md and docs/, and the pictures, from the committed JSON.

    python -m studies.pages
    python -m studies.pages --publish out/bench/bench.json [--again]   first take a result of `make bench`

A table stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->`; NAME is one of `tables()`.
"""

import argparse
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pairscore.benchmarks.agreement import compare
from pairscore.benchmarks.environment import processor_kind
from pairscore.benchmarks.tables.table import Table, markdown
from pairscore.benchmarks.tables.throughput import limits_table, throughput_picture, throughput_table
from studies import chapters, kernel_profile, processors, sizes
from studies.processors import RESULTS, kinds, load

ROOT = Path(__file__).resolve().parents[1]
PAGES = tuple(sorted([ROOT / "README.md", *ROOT.glob("benchmarks/*.md"), *ROOT.glob("docs/*.md")]))


def agreement_lines(kind: str) -> str:
    """How far the ratios of further runs of the same commit are from those of the first, one sentence a run."""
    first = load(f"throughput-{kind}")
    ours = {system["name"] for system in first["systems"] if system["ours"]}
    lines = []
    for path in sorted(RESULTS.glob(f"throughput-{kind}-again*.json"), key=lambda path: path.stem):
        again = load(path.stem)
        if again["environment"]["commit"] != first["environment"]["commit"]:
            continue
        found = {each.name: each.difference for each in compare(first, again) if each.difference is not None}
        worst = max(found, key=lambda name: found[name])
        own = max(found[name] for name in ours & found.keys())
        lines.append(f"Another run's ratios differed by at most {found[worst]:.1%} ({worst}), ours by {own:.1%}.")
    return "\n\n".join(lines) or "No other run of this commit is published."


def _profile(kind: str) -> Table:
    return kernel_profile.profile_table(load(f"kernel-profile-{kind}"))


def tables() -> dict[str, Callable[[], Table | str]]:
    """Name -> what renders it."""
    found: dict[str, Callable[[], Table | str]] = {
        "summary": processors.summary_table,
        "processors": processors.processors_table,
        "machines": processors.machines_line,
        "billion": processors.billion_table,
        "quantization": lambda: chapters.int8_table(load("quantization")),
        "deberta": lambda: chapters.int8_table(load("deberta")),
        "large": lambda: chapters.large_table(load("large")),
        "gpu": lambda: chapters.gpu_line(load("gpu")),
        "gpu-systems": lambda: chapters.gpu_table(load("gpu")),
        "sizes": lambda: sizes.sizes_table(load("sizes")),
        "fuzz": lambda: chapters.fuzz_table(load("fuzz")),
        "refine": lambda: chapters.refine_table(*map(load, ("refine-200000", "refine-20000", "refine"))),
        "kills": lambda: chapters.kills_table(load("kills")),
        "verdicts": lambda: chapters.verdicts_table(load("verdicts")),
        "long-evidence": lambda: chapters.long_evidence_table(load("long-evidence")),
        "calibration": lambda: chapters.calibration_table(load("calibration")),
    }
    for kind, result in kinds().items():
        found[kind] = partial(throughput_table, result)
        found[f"{kind}-long"] = partial(throughput_table, {**result, **result["long"]})
        found[f"{kind}-limits"] = partial(limits_table, result)
        found[f"{kind}-agreement"] = partial(agreement_lines, kind)
        if (RESULTS / f"kernel-profile-{kind}.json").is_file():
            found[f"{kind}-profile"] = partial(_profile, kind)
    return found


def drawn() -> dict[Path, str]:
    """The bars of each processor's table, drawn anew from its JSON."""
    return {RESULTS / f"throughput-{kind}.svg": throughput_picture(result) + "\n" for kind, result in kinds().items()}


def rendered(page: str) -> str:
    """The page with every marked table written anew from its JSON."""
    for name, render in tables().items():
        begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
        if begin in page:
            head, rest = page.split(begin, 1)
            tail = rest.split(end, 1)[1]
            try:
                found = render()
            except FileNotFoundError:
                found = "Not measured yet."
            page = f"{head}{begin}{found if isinstance(found, str) else markdown(found)}\n{end}{tail}"
    return page


def publish(result: Path, *, again: bool = False) -> None:
    """Put a result among the committed ones, under its processor's kind. again: as a further run, beside the first."""
    kind = processor_kind(json.loads(result.read_text())["environment"]["instruction_sets"])
    shutil.copyfile(result, RESULTS / f"throughput-{kind}{'-again' if again else ''}.json")


def main() -> None:
    """Take a result where one is given, and rewrite the pages."""
    parser = argparse.ArgumentParser(description="Write the tables of the README files from the committed JSON.")
    parser.add_argument("--publish", type=Path, help="a result of `make bench`, to be committed")
    parser.add_argument("--again", action="store_true", help="it is a further run of what is published already")
    options = parser.parse_args()
    if options.publish:
        publish(options.publish, again=options.again)
    for path in PAGES:
        path.write_text(rendered(path.read_text()))
    for path, text in drawn().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
