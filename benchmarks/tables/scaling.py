"""The table and the pictures of `scaling.py`'s result."""

from collections.abc import Sequence
from typing import Any

from pairscore.runtime.report.pictures import Series, plot

Point = dict[str, Any]


def scaling_table(result: dict[str, Any]) -> str:
    """One row a size and length: rates and memory."""
    lines = ["| pairs | mean tokens | pairs/s | tokens/s | peak memory |", "|--:|--:|--:|--:|--:|"]
    for each in result["points"]:
        lines.append(
            f"| {each['pairs']:,} | {each['mean_tokens']:.0f} | {each['pairs_per_second']:.0f} | "
            f"{each['tokens_per_second']:,.0f} | {each['peak_memory_bytes'] / 2**30:.2f} GiB |"
        )
    machine = result["environment"]
    lines += [
        "",
        f"{result['layers']} of the model's layers, fp32, one run each, {machine['cores']} cores of "
        f"{machine['processor']}, commit {machine['commit'][:10]}, {machine['time'][:10]}.",
    ]
    return "\n".join(lines)


def rate_picture(result: dict[str, Any]) -> str:
    """Pairs per second against the number of pairs."""
    points = by_pairs(result["points"])
    return _by_pairs("Pairs per second by number of pairs", "pairs/s", [_rate("pairs per second", points)])


def memory_picture(result: dict[str, Any]) -> str:
    """Peak memory against the number of pairs, beside the size of the input where it is known."""
    points = by_pairs(result["points"])
    series = [_memory("peak memory of the process", points, "peak_memory_bytes")]
    if all("input_bytes" in point for point in points):
        series.append(_memory("size of the Parquet files", points, "input_bytes"))
    return _by_pairs("Memory by number of pairs", "MiB", series)


def length_picture(result: dict[str, Any]) -> str:
    """Tokens per second against a pair's mean tokens."""
    points = [(point["mean_tokens"], point["tokens_per_second"]) for point in by_length(result["points"])]
    return plot(
        "Tokens per second by length",
        "mean tokens a pair",
        "tokens/s",
        [Series("tokens per second", points)],
        lines=True,
    )


def by_pairs(points: Sequence[Point]) -> list[Point]:
    """Those that are as long as the first, fewest pairs first."""
    first = points[0]["mean_tokens"]
    return sorted(
        (point for point in points if abs(point["mean_tokens"] / first - 1) < 0.1), key=lambda point: point["pairs"]
    )


def by_length(points: Sequence[Point]) -> list[Point]:
    """Those of as many pairs as the last, shortest first."""
    return sorted(
        (point for point in points if point["pairs"] == points[-1]["pairs"]), key=lambda point: point["mean_tokens"]
    )


def _by_pairs(title: str, unit: str, series: list[Series]) -> str:
    return plot(title, "pairs (log)", unit, series, lines=True, log_x=True)


def _rate(name: str, points: Sequence[Point]) -> Series:
    return Series(name, [(point["pairs"], point["pairs_per_second"]) for point in points])


def _memory(name: str, points: Sequence[Point], key: str) -> Series:
    return Series(name, [(point["pairs"], point[key] / 2**20) for point in points])
