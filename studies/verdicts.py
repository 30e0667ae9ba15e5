"""The tables of docs/verdicts.md: the shipped model calibrated, and long evidence in passages."""

from typing import Any

from pairscore.benchmarks.tables.table import Row, Table


def calibration_table(result: dict[str, Any]) -> Table:
    """One row a kind of pairs and precision, each figure before and after."""
    figures = ("log loss", "Brier score", "expected calibration error")
    rows = []
    for kind, found in result["kinds"].items():
        for precision, each in found["precisions"].items():
            cells = [f"{each[when][name]:.3f}" for name in figures for when in ("before", "after")]
            rows.append(Row((f"{kind}, {found['relevant'] / found['pairs']:.0%} relevant", precision, *cells)))
    counts = "; ".join(
        f"{kind}: fitted to {each['fitted_pairs']:,} pairs, judged on {each['judged_pairs']:,}"
        for kind, found in result["kinds"].items()
        for each in list(found["precisions"].values())[:1]
    )
    headings = [heading for name in figures for heading in (name, "calibrated")]
    return Table(("pairs", "precision", *headings), tuple(rows), (f"{counts}.",), words=("precision",))


def long_evidence_table(result: dict[str, Any]) -> Table:
    """Passages a second, split and cut by hand."""
    rates, data = result["passages_per_second"], result["data"]
    rows = [Row((name, f"{rate:,.1f}")) for name, rate in rates.items()]
    low, high = data["words"]
    notes = (
        f"{data['texts']:,} texts of {low:,} to {high:,} words, {data['passages']:,} passages, {result['precision']} "
        f"on {result['engine']}: split gives {result['split_to_by_hand']:.2f} times the passages of cutting by hand.",
        _sameness(result, data["texts"]),
    )
    return Table(("passages", "passages/s"), tuple(rows), notes)


def _sameness(result: dict[str, Any], texts: int) -> str:
    same = result["rows_with_the_same_score"]
    if same == texts:
        return "All texts have the same score both ways, to the last bit."
    return (
        f"{same:,} texts have the same score to the last bit, the others differ by at most "
        f"{result['largest_difference']:.2g}: a text that is cut within a word gets other tokens there."
    )
