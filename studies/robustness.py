"""The tables of docs/robustness.md, what `make fuzz` and `make kills` found, and of docs/daily-jobs.md."""

from collections import Counter
from typing import Any

from pairscore.benchmarks.tables.table import Row, Table


def fuzz_table(result: dict[str, Any]) -> Table:
    """One row a kind of damage: how the cases ended."""
    ends = {"exit 0": "exit code 0", "exit 2": "one line", "process ended": "process ended"}
    kinds: dict[str, Counter[str]] = {}
    for name, count in result["counts"].items():
        kind, _, end = name.partition(": ")
        kinds.setdefault(kind, Counter())[end] += count
    rows = tuple(
        Row((kind, f"{counts.total():,}", *(f"{counts[end]:,}" for end in ends)))
        for kind, counts in sorted(kinds.items())
    )
    cases = sum(counts.total() for counts in kinds.values())
    return Table(
        ("damaged", "cases", *ends.values()), rows, (f"{cases:,} cases; {len(result['bad'])} ended otherwise.",)
    )


def kills_table(result: dict[str, Any]) -> Table:
    """One row a place and a disturbance: how many hit each kind of job, and what was lost."""
    cells = result["cells"]
    asked = tuple(dict.fromkeys(cell["asked"] for cell in cells))
    tried: Counter[tuple[str, ...]] = Counter()
    lost: Counter[tuple[str, ...]] = Counter()
    for cell in cells:
        tried[cell["place"], cell["fault"], cell["asked"]] += cell["tried"]
        lost[cell["place"], cell["fault"]] += cell["lost"]
    rows = []
    for place, fault in dict.fromkeys((cell["place"], cell["fault"]) for cell in cells):
        counts = [tried[place, fault, each] for each in asked]
        total, gone = sum(counts), lost[place, fault]
        rows.append(Row((place, fault, *map(str, counts), str(total), str(total - gone), str(gone))))
    total, gone, jobs = tried.total(), lost.total(), sum(cell["jobs"] for cell in cells)
    note = f"{total} disturbances of {jobs} jobs: {total - gone} survived, {gone} lost."
    return Table(
        ("where", "disturbance", *asked, "tried", "survived", "lost"), tuple(rows), (note,), words=("disturbance",)
    )


def refine_table(*results: dict[str, Any]) -> Table:
    """One row a number of candidates and of best rows: what `--refine fp32` costs, and how far it agrees with fp32."""
    rows = []
    for candidates, found in (each for result in results for each in result["candidates"].items()):
        int8, fp32 = (found[name]["processor_seconds"] for name in ("int8", "fp32"))
        for best, each in found["best"].items():
            bytes_ = "the same bytes" if each["same_bytes"] else "no"
            cells = (f"{each['processor_seconds'] / int8:.2f}", f"{fp32 / int8:.2f}", f"{each['rows_again']:.1%}")
            agreement = (f"{each['agreement']:.1%}", bytes_, f"{each['agreement_of_int8']:.1%}")
            rows.append(Row((candidates, best, f"{found['pairs']:,}", *cells, *agreement)))
    data, environment = (results[0][name] for name in ("data", "environment"))
    notes = (f"Processor time as a multiple of int8 alone, on pairs of {data['file']}, {environment['processor']}.",)
    heads = (
        "candidates a claim",
        "best",
        "pairs",
        "time",
        "of fp32",
        "computed again",
        "agrees with fp32",
        "output",
        "int8 alone",
    )
    return Table(heads, tuple(rows), notes)
