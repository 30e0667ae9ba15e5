"""The HTML report of one benchmark: a single file that asks nothing of the network and runs no script."""

from collections.abc import Sequence
from html import escape
from typing import Any

from pairscore.runtime.report.page import figure, whole_page
from pairscore.runtime.report.pictures import Bar, Series, bars, plot

# A difference of exactly zero has no place on a logarithmic axis.
SMALLEST_DIFFERENCE = 1e-9
# Of the processors: more than the operating system itself takes.
SHARED = 0.05


def render_page(result: dict[str, Any]) -> str:
    """The whole file, for a result of `run_bench`. Every name that a user chose is escaped."""
    machine, data = result["environment"], result["data"]
    title = f"{result['checkpoint']} on {machine['processor']}"
    gpu = f", {machine['gpu']}" if machine.get("gpu") else ""
    body = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{data['pairs']:,} pairs of {escape(data['file'])}, {data['mean_tokens']:.0f} tokens on average; "
        f"{statistic(result)} of {result['rounds']} interleaved rounds after a warm-up; {machine['cores']} cores"
        f"{escape(gpu)}; {escape(machine['time'][:10])}.</p>",
        "<p class=soft>Timing runs from texts in memory to logits in memory. Ratios and differences are against "
        f"{escape(result['reference'])}, in the same run.</p>",
        '<div class="wide">',
        _table(result),
        "</div>",
        *_broken(result),
        *(f"<p class=soft>{escape(remark)}</p>" for remark in remarks(result)),
        '<div class="pictures">',
        *(figure(name, picture, caption) for name, picture, caption in pictures(result)),
        "</div>",
        "<h2>Stages</h2>",
        '<div class="wide">',
        _stages(result),
        "</div>",
        "<h2>Machine</h2>",
        f"<p class=soft>{escape(_machine(result))}</p>",
    ]
    return whole_page(title, body)


def pictures(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(heading, SVG, caption) of every picture."""
    ran = [system for system in result["systems"] if "error" not in system]
    own = [system["name"] for system in ran if system["ours"]]
    others = [system for system in ran if system["name"] != result["reference"]]
    return [
        ("Pairs per second", throughput_picture(result), "Longer is better."),
        (
            "Accuracy against speed",
            plot(
                "Largest score difference against pairs per second",
                "largest score difference from PyTorch (log)",
                "pairs per second",
                [
                    Series(
                        system["name"],
                        [
                            (
                                max(system["parity"]["max_score_difference"], SMALLEST_DIFFERENCE),
                                system["pairs_per_second"],
                            )
                        ],
                        system["ours"],
                    )
                    for system in others
                ],
                log_x=True,
                numbered=True,
            ),
            "Up is faster, left is closer to PyTorch. On the frontier, where nothing else is both faster and closer: "
            + "; ".join(frontier(others))
            + ".",
        ),
        (
            "Scores against PyTorch's",
            plot(
                "Scores against PyTorch scores",
                "PyTorch's score",
                "score",
                [
                    Series(name, list(zip(result["scores"][result["reference"]], result["scores"][name], strict=True)))
                    for name in own
                ],
                diagonal=all(0 <= score <= 1 for scores in result["scores"].values() for score in scores),
                radius=2.5,
            ),
            "A point a pair; on the diagonal, both agree.",
        ),
        (
            "By pair length",
            plot(
                "Pairs per second by pair length",
                "tokens a pair",
                "pairs per second",
                _lines(result["by_length"], "mean_tokens"),
                lines=True,
            ),
            "Pairs grouped by their tokens.",
        ),
        (
            "Padding by batching policy",
            bars(
                "Padding by batching policy",
                [
                    Bar(
                        each["policy"],
                        each["padding_share"],
                        f"{each['padding_share']:.1%}",
                        "pairscore" in each["policy"],
                    )
                    for each in result["padding"]
                ],
            ),
            "Share of computed tokens that are padding, counted on these pairs.",
        ),
        (
            "By threads",
            plot(
                "Pairs per second by threads",
                "threads",
                "pairs per second",
                _lines(result["by_threads"], "threads"),
                lines=True,
                whole_x=True,
            ),
            "Ours on the CPU, interleaved.",
        ),
    ]


def statistic(result: dict[str, Any]) -> str:
    """What a figure is of its repeats: older results are medians."""
    return str(result.get("statistic", "median"))


def remarks(result: dict[str, Any]) -> list[str]:
    """What a reader of the table has to know about single systems."""
    ran = [system for system in result["systems"] if "error" not in system]
    found = [f"{system['name']}: {system['note']}." for system in ran if "note" in system]
    broken = [f"{each['name']}: {'; '.join(each['violations'])}" for each in ran if each["ours"] and each["violations"]]
    if broken:
        found.append(f"Breaks its promise on these pairs: {'. '.join(broken)}.")
    fewer = [system["name"] for system in ran if len(system["seconds"]) < result["rounds"]]
    if fewer:
        found.append(f"Much slower than the reference, so measured in fewer rounds: {'; '.join(fewer)}.")
    alone = [system["name"] for system in ran if not system.get("confirmed", True) and system["name"] not in fewer]
    if alone:
        found.append(f"The fastest run is faster than all others by more than 3%: {'; '.join(alone)}.")
    shared = [system["name"] for system in ran if _shared(system)]
    if shared:
        found.append(
            f"Other processes took more than 5% of the processors during the fastest run: {'; '.join(shared)}."
        )
    return found


def _shared(system: dict[str, Any]) -> bool:
    """Whether others computed during the fastest run; unknown is no."""
    runs = list(zip(system["seconds"], system.get("others_share", ()), strict=False))
    return bool(runs) and (min(runs, key=lambda run: run[0])[1] or 0) > SHARED


def throughput_picture(result: dict[str, Any]) -> str:
    """Bars, fastest first."""
    ran = [system for system in result["systems"] if "error" not in system]
    ran.sort(key=lambda system: -system["pairs_per_second"])
    return bars(
        "Pairs per second",
        [
            Bar(
                system["name"],
                system["pairs_per_second"],
                f"{system['pairs_per_second']:.0f} · {system['ratio']:.2f}×",
                system["ours"],
            )
            for system in ran
        ],
    )


def frontier(systems: Sequence[dict[str, Any]]) -> list[str]:
    """Names of those that no other beats in both rate and largest score difference, fastest first."""

    def beaten(system: dict[str, Any]) -> bool:
        rate, difference = system["pairs_per_second"], system["parity"]["max_score_difference"]
        return any(
            other["pairs_per_second"] >= rate
            and other["parity"]["max_score_difference"] <= difference
            and (other["pairs_per_second"] > rate or other["parity"]["max_score_difference"] < difference)
            for other in systems
        )

    best = [system for system in systems if not beaten(system)]
    return [system["name"] for system in sorted(best, key=lambda system: -system["pairs_per_second"])]


def _lines(rows: Sequence[dict[str, Any]], key: str) -> list[Series]:
    names = dict.fromkeys(row["system"] for row in rows)
    return [
        Series(name, [(row[key], row["pairs_per_second"]) for row in rows if row["system"] == name]) for name in names
    ]


def _table(result: dict[str, Any]) -> str:
    ranked = any(system.get("ranking") for system in result["systems"])
    figures = ("MAP", "MRR@5", "NDCG@5") if ranked else ()
    headings = (
        "system", "pairs/s", "tokens/s", "ratio", "max logit difference", "mean difference", "Spearman", "same top 1",
        *figures, "peak memory", "padding", "of GEMM rate",
    )  # fmt: skip
    lines = ["<table><thead><tr>", *(f"<th>{heading}</th>" for heading in headings), "</tr></thead><tbody>"]
    for system in result["systems"]:
        name = f"<td>{escape(system['name'])}</td>"
        if "error" in system:
            why = f'<td class="why soft" colspan="{len(headings) - 1}">did not run: {escape(system["error"])}</td>'
            lines.append(f"<tr>{name}{why}</tr>")
            continue
        parity = system["parity"]
        cells = [
            f"{system['pairs_per_second']:.1f}",
            f"{system['tokens_per_second']:,.0f}",
            f"{system['ratio']:.2f}",
            f"{parity['max_logit_difference']:.1e}",
            f"{parity['mean_logit_difference']:.1e}",
            _known(parity["spearman"], ".5f"),
            _known(parity["top1_agreement"], ".1%"),
            *(_known(system.get("ranking", {}).get(figure), ".4f") for figure in figures),
            f"{system['peak_memory_bytes'] / 2**30:.2f} GiB",
            _known(system.get("padding_share"), ".1%"),
            _known(system.get("gemm_share"), ".0%"),
        ]
        row = "".join(f"<td>{cell}</td>" for cell in cells)
        lines.append(f"<tr{' class=ours' if system['ours'] else ''}>{name}{row}</tr>")
    return "".join([*lines, "</tbody></table>"])


def _broken(result: dict[str, Any]) -> list[str]:
    return [
        f"<p class=bad>{escape(system['name'])} breaks its promise: {escape('; '.join(system['violations']))}.</p>"
        for system in result["systems"]
        if system["ours"] and system.get("violations")
    ]


def _stages(result: dict[str, Any]) -> str:
    lines = ["<table><thead><tr>"]
    lines += [f"<th>{heading}</th>" for heading in ("system", "stage", "seconds", "pairs/s", "tokens/s")]
    lines.append("</tr></thead><tbody>")
    for system in result["systems"]:
        for stage, figures in system.get("stages", {}).items():
            lines.append(
                f"<tr><td>{escape(system['name'])}</td><td>{stage}</td><td>{figures['seconds']:.3f}</td>"
                f"<td>{figures['pairs_per_second']:,.0f}</td><td>{figures['tokens_per_second']:,.0f}</td></tr>"
            )
    return "".join([*lines, "</tbody></table>"])


def _machine(result: dict[str, Any]) -> str:
    machine = result["environment"]
    sets = ", ".join(machine["instruction_sets"]) or "no wide vectors"
    versions = ", ".join(f"{name} {release}" for name, release in machine["versions"].items())
    return (
        f"{machine['system']}, {machine['cores']} cores, {sets}; {versions}; "
        f"commit {machine['commit'] or 'unknown'}; data {result['data']['sha256']}."
    )


def _known(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
