"""What a result of `run_bench` says: tables of its systems, what a reader has to know about them, pictures.

A rate is printed with three digits, and a ratio is the quotient of the two rates that are printed.
"""

import math
import statistics
from collections.abc import Sequence
from typing import Any

from pairscore.benchmarks.tables.pictures import Series, plot
from pairscore.benchmarks.tables.table import Row, Table, table_of
from pairscore.runtime.report.pictures import Bar, bars

Result = dict[str, Any]
System = dict[str, Any]

# A difference of exactly zero has no place on a logarithmic axis.
SMALLEST_DIFFERENCE = 1e-9
# Share of processor time above which another process disturbed a run.
SHARED = 0.05
# A peer whose ranking is further from the reference's computes something else, and is no peer to beat.
COMPARABLE_SPEARMAN = 0.95

COLUMNS = {
    "system": lambda s: s["name"],
    "pairs/s": lambda s: rate_text(s["pairs_per_second"]),
    "tokens/s": lambda s: f"{s['tokens_per_second']:,.0f}",
    "to PyTorch": lambda s: f"{s['to_reference']:.2f}",
    "to the fastest peer": lambda s: _known(s.get("to_peer"), ".2f"),
    "max logit difference": lambda s: "reference" if s["reference"] else f"{s['parity']['max_logit_difference']:.1e}",
    "Spearman": lambda s: "" if s["reference"] else _known(s["parity"]["spearman"], ".5f"),
    "same top 1": lambda s: "" if s["reference"] else _known(s["parity"]["top1_agreement"], ".1%"),
    "MAP": lambda s: _known(s.get("ranking", {}).get("MAP"), ".4f"),
    "MRR@5": lambda s: _known(s.get("ranking", {}).get("MRR@5"), ".4f"),
    "NDCG@5": lambda s: _known(s.get("ranking", {}).get("NDCG@5"), ".4f"),
    "memory": lambda s: f"{s['peak_memory_bytes'] / 2**30:.2f} GiB",
    "of the limit": lambda s: _known(s.get("limit_share"), ".0%"),
}
FEW = (
    "system", "pairs/s", "to PyTorch", "to the fastest peer", "max logit difference", "Spearman", "same top 1",
    "memory",
)  # fmt: skip


def three_digits(rate: float) -> float:
    """The rate as it is printed."""
    return float(f"{rate:.3g}")


def rate_text(rate: float) -> str:
    """A rate with three digits: 7.05, 41.2, 427, 134,000."""
    decimals = max(0, 2 - math.floor(math.log10(rate))) if rate > 0 else 0
    return f"{three_digits(rate):,.{decimals}f}"


def quotient(rate: float, other: float) -> float:
    """How many times as high one rate is as another, both as printed."""
    return three_digits(rate) / three_digits(other)


def throughput_table(result: Result, headings: Sequence[str] = FEW) -> Table:
    """One row a system: rates, ratios to the reference and to the fastest peer of its precision, parity."""
    columns = {heading: COLUMNS[heading] for heading in headings if heading != "MAP" or _is_ranked(result)}
    best = best_peers(result)
    reference = reference_of(result)
    rows = []
    for each in result["systems"]:
        if "error" in each:
            rows.append(Row((each["name"], "did not run: see below")))
            continue
        rate = each["pairs_per_second"]
        known = {**each, "reference": each is reference}
        known["to_reference"] = quotient(rate, reference["pairs_per_second"]) if reference else math.nan
        if each["tier"] in best:
            known["to_peer"] = quotient(rate, best[each["tier"]]["pairs_per_second"])
        rows.append(table_of([known], columns).rows[0])
    notes = [f"{each['name']} did not run: {each['error']}." for each in result["systems"] if "error" in each]
    notes += remarks(result)
    if best:
        peers = " and ".join(f"{system['name']} in {tier}" for tier, system in sorted(best.items()))
        notes.append(f"The fastest other library is {peers}.")
    return Table(tuple(columns), tuple(rows), (*notes, measured(result)))


def reference_of(result: Result) -> System | None:
    """The system that ratios are to; None where it did not run."""
    return next((each for each in _ran(result) if each["name"] == result["reference"]), None)


def stages_table(result: Result) -> Table:
    """One row a stage of each of our systems, of its warm-up."""
    stages = [
        {"name": system["name"], "stage": stage, **found}
        for system in result["systems"]
        for stage, found in system.get("stages", {}).items()
    ]
    columns = {
        "system": lambda s: s["name"],
        "stage": lambda s: s["stage"],
        "seconds": lambda s: f"{s['seconds']:.3f}",
        "pairs/s": lambda s: f"{s['pairs_per_second']:,.0f}",
        "tokens/s": lambda s: f"{s['tokens_per_second']:,.0f}",
    }
    return table_of(stages, columns, words=("stage",))


def limits_table(result: Result) -> Table:
    """The machine's rate of matrix products by precision, and how near to it our systems come."""
    columns = {
        "precision": lambda s: s["precision"],
        "operations/s": lambda s: f"{s['operations_per_second'] / 1e9:,.0f} G",
        "measured with": lambda s: s["library"],
        "shape": lambda s: " × ".join(map(str, s["shape"])),
        "pairs/s at most": lambda s: rate_text(s["pairs_per_second"]) if "pairs_per_second" in s else "",
        "to PyTorch at most": lambda s: _known(s.get("ratio"), ".2f"),
        "the fastest of ours": lambda s: s["nearest"],
    }
    found = []
    reference = reference_of(result)
    for precision, limit in result.get("limits", {}).items():
        most, nearest, ratio = limit.get("pairs_per_second"), "", None
        best = fastest_of_ours(result).get(precision)
        if most and best:
            nearest = f"{best['name']}: {quotient(best['pairs_per_second'], most):.0%}"
        if most and reference:
            ratio = quotient(most, reference["pairs_per_second"])
        found.append({"precision": precision, **limit, "ratio": ratio, "nearest": nearest})
    return table_of(found, columns, words=("measured with", "shape", "the fastest of ours"))


def fastest_of_ours(result: Result) -> dict[str, System]:
    """Precision -> the fastest of our systems."""
    ours = [each for each in _ran(result) if each["ours"]]
    return {each["tier"]: each for each in sorted(ours, key=lambda each: each["pairs_per_second"])}


def best_peers(result: Result) -> dict[str, System]:
    """Precision -> the fastest peer of it that computes this model."""
    peers = [each for each in _ran(result) if not each["ours"] and _is_comparable(each)]
    return {each["tier"]: each for each in sorted(peers, key=lambda each: each["pairs_per_second"])}


def _is_comparable(system: System) -> bool:
    rank = system["parity"]["spearman"]
    return rank is None or bool(rank >= COMPARABLE_SPEARMAN)


def remarks(result: Result) -> list[str]:
    """What a reader of the table has to know about single systems."""
    ran = _ran(result)
    found = [f"{system['name']}: {system['note']}." for system in ran if "note" in system]
    broken = [f"{each['name']}: {'; '.join(each['violations'])}" for each in ran if each["ours"] and each["violations"]]
    if broken:
        found.append(f"Breaks its promise on these pairs: {'. '.join(broken)}.")
    alone = [system["name"] for system in ran if not system.get("confirmed", True)]
    if alone:
        found.append(f"Unstable: two rounds differ by more than 5 % for {'; '.join(alone)}.")
    shared = [system["name"] for system in ran if _shared(system)]
    if shared:
        found.append(f"Other processes took more than 5 % of the processor time beside {'; '.join(shared)}.")
    return found


def measured(result: Result) -> str:
    """Pairs, rounds and machine, in plain sentences."""
    data = result["data"]
    made = ", made by joining pieces of evidence" if data.get("made") else ""
    fewer = any(len(each["seconds"]) < result["rounds"] for each in _ran(result))
    rounds = "one round" if result["rounds"] == 1 else f"at least {result['rounds']} interleaved rounds"
    slow = "; a system that is not much faster than the reference ran in one" if fewer else ""
    return (
        f"Measured on {data['pairs']:,} pairs of {data['file']} ({data['mean_tokens']:.0f} tokens on average{made}). A "
        f"rate is the {result['statistic']} of {rounds}{slow}. Machine: {where(result)}"
    )


def where(result: Result) -> str:
    """Processor, commit and day of any result."""
    machine = result["environment"]
    sets = ", ".join(machine["instruction_sets"]).replace("_", "-") or "no wide vectors"
    changed = " with uncommitted changes" if machine.get("uncommitted_changes") else ""
    commit = (machine["commit"] or "unknown")[:10] + changed
    return f"{machine['cores']} cores of {machine['processor']} ({sets}), commit {commit}, {machine['time'][:10]}."


def frontier(systems: Sequence[System]) -> list[str]:
    """Names of the systems that no other one beats both in rate and in largest score difference, fastest first."""
    places = [(-each["pairs_per_second"], each["parity"]["max_score_difference"], each["name"]) for each in systems]

    def beaten(rate: float, difference: float) -> bool:
        return any(a <= rate and b <= difference and (a, b) != (rate, difference) for a, b, _ in places)

    best = [place for place in places if not beaten(*place[:2])]
    return [name for *_, name in sorted(best, key=lambda place: place[0])]


# Pictures -----------------------------------------------------------------------------------------------


def throughput_picture(result: Result) -> str:
    """Bars, fastest first."""
    ran, reference = sorted(_ran(result), key=lambda system: -system["pairs_per_second"]), reference_of(result)
    return bars(
        "Pairs per second",
        [
            Bar(each["name"], rate, f"{rate_text(rate)} · {quotient(rate, reference['pairs_per_second']):.2f}×",
                each["ours"])
            for each in ran
            if reference
            for rate in [each["pairs_per_second"]]
        ],
    )  # fmt: skip


def accuracy_picture(result: Result) -> str:
    """A point a system: its largest score difference and its rate."""
    points = [
        Series(
            each["name"],
            [(max(each["parity"]["max_score_difference"], SMALLEST_DIFFERENCE), each["pairs_per_second"])],
            each["ours"],
        )
        for each in _ran(result)
        if each["name"] != result["reference"]
    ]
    title = "Largest score difference against pairs per second"
    return plot(title, "largest score difference (log)", "pairs per second", points, log_x=True, numbered=True)


def scores_picture(result: Result) -> str:
    """A point a pair and system of ours: PyTorch's score and its."""
    scores = result["scores"]
    series = [
        Series(each["name"], list(zip(scores[result["reference"]], scores[each["name"]], strict=True)))
        for each in _ran(result)
        if each["ours"]
    ]
    within = all(0 <= score <= 1 for each in scores.values() for score in each)
    return plot("Scores against PyTorch scores", "PyTorch's score", "score", series, diagonal=within, size=3)


def padding_picture(result: Result) -> str:
    """Bars: the share of computed tokens that are padding, by the way to make batches."""
    rows = [
        Bar(each["policy"], each["padding_share"], f"{each['padding_share']:.1%}", "pairscore" in each["policy"])
        for each in result["padding"]
    ]
    return bars("Padding by batching policy", rows)


def _ran(result: Result) -> list[System]:
    return [system for system in result["systems"] if "error" not in system]


def _is_ranked(result: Result) -> bool:
    return any(system.get("ranking") for system in result["systems"])


def _shared(system: System) -> bool:
    """Whether other processes computed meanwhile; False where nobody knows."""
    return statistics.fmean(share or 0 for share in system.get("others_share", [0])) > SHARED


def _known(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
