"""What `report.py` renders from results/pipelines.json: overhead by engine, rate by window, a billion pairs."""

from typing import Any

# A plan's assumptions. Prices are examples, in US dollars: put your provider's in their place.
BILLION = 1_000_000_000
CORES = 32
ON_DEMAND_CORE_HOUR = 0.05
INTERRUPTIBLE_CORE_HOUR = 0.02
MARGIN = 0.25
CLUSTERS = (4, 16, 64)


def overhead_table(result: dict[str, Any]) -> str:
    """One row a system: seconds, overhead, promise."""
    lines = ["| job | seconds | against `pairscore score` | promised | rounds |", "|---|--:|--:|--:|--:|"]
    for system in result["systems"]:
        reference = system["name"] == "pairscore score"
        overhead = "reference" if reference else f"{system['overhead']:+.1%}"
        promise = "" if system["promise"] is None else f"≤ {system['promise']:.0%}"
        missed = system["promise"] is not None and system["overhead"] > system["promise"]
        lines.append(
            f"| {system['name']} | {system['seconds']:.1f} | {overhead} | {promise}{', missed' if missed else ''} | "
            f"{system['rounds']} |"
        )
    machine, data, layers = result["environment"], result["data"], result["layers"]
    lines += [
        "",
        f"{data['pairs']:,} different pairs (mean {data['mean_tokens']:.0f} tokens) from one Parquet file to Parquet, "
        f"{layers} layer{'s' if layers > 1 else ''} of {result['checkpoint']}, {machine['cores']} cores of "
        f"{machine['processor']}, engine started and warm, bundle opened within the job (Spark's workers keep theirs), "
        f"commit {machine['commit'][:10]}, {machine['time'][:10]}.",
    ]
    return "\n".join(lines)


def window_table(result: dict[str, Any]) -> str:
    """Pairs per second by rows that are sorted together."""
    windows = result["windows"]
    best = max(rate["pairs_per_second"] for rate in windows["rates"])
    lines = ["| rows at a time | pairs/s | of the best |", "|--:|--:|--:|"]
    for rate in windows["rates"]:
        share = rate["pairs_per_second"] / best
        lines.append(f"| {rate['rows']:,} | {rate['pairs_per_second']:.0f} | {share:.0%} |")
    lines += ["", f"{windows['pairs']:,} pairs in memory, {windows['layers']} layers, the same machine."]
    return "\n".join(lines)


def core_hours(result: dict[str, Any], pairs: int) -> float:
    """Core-hours for so many pairs with the whole checkpoint, margin included."""
    shipped: dict[str, float] = result["shipped"]
    return pairs / shipped["pairs_per_second"] * shipped["cores"] / 3600 * (1 + MARGIN)


def billion_table(result: dict[str, Any]) -> str:
    """Hours and cost by the number of machines."""
    shipped, hours, windows = result["shipped"], core_hours(result, BILLION), result["windows"]
    lines = [
        f"Measured: {shipped['pairs_per_second']:.0f} pairs/s on {shipped['cores']} cores with all layers of "
        f"{result['checkpoint']} in fp32, {shipped['pairs_per_second'] / shipped['cores']:.0f} a core. With "
        f"{MARGIN:.0%} on top for retries, stragglers and what does not scale: **{hours:,.0f} core-hours** for a "
        "billion pairs.",
        "",
        f"| machines of {CORES} cores | hours | on demand | interruptible |",
        "|--:|--:|--:|--:|",
    ]
    for machines in CLUSTERS:
        lines.append(
            f"| {machines} | {hours / machines / CORES:.1f} | ${hours * ON_DEMAND_CORE_HOUR:,.0f} | "
            f"${hours * INTERRUPTIBLE_CORE_HOUR:,.0f} |"
        )
    lines += [
        "",
        f"At ${ON_DEMAND_CORE_HOUR:.2f} a core-hour on demand and ${INTERRUPTIBLE_CORE_HOUR:.2f} interruptible. "
        "Both are assumed prices, not quotes. The measured file, whose texts repeat, takes "
        f"{windows['file_bytes'] / windows['pairs']:.0f} bytes a pair; a score adds 4.",
    ]
    return "\n".join(lines)
