"""The HTML report of one benchmark: a single file that asks nothing of the network and runs no script."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from pairscore.benchmarks.tables import throughput
from pairscore.benchmarks.tables.throughput import COLUMNS, Result, limits_table, stages_table, throughput_table
from pairscore.runtime.report.page import figure, whole_page

_TEMPLATES = Environment(
    loader=PackageLoader("pairscore.benchmarks", "tables"), autoescape=True, undefined=StrictUndefined,
    trim_blocks=True, lstrip_blocks=True,
)  # fmt: skip


def render_page(result: Result) -> str:
    """The whole file, for a result of `run_bench`. Every name that a user chose is escaped."""
    others = [each for each in result["systems"] if "error" not in each and each["name"] != result["reference"]]
    best = "; ".join(throughput.frontier(others))
    pictures = [
        ("Pairs per second", throughput.throughput_picture(result), "Longer is better."),
        (
            "Accuracy against speed",
            throughput.accuracy_picture(result),
            "Up is faster, left is closer to PyTorch. On the frontier, where nothing else is both faster and closer: "
            f"{best}.",
        ),
        ("Scores against PyTorch's", throughput.scores_picture(result), "On the diagonal, both agree."),
        (
            "Padding by batching policy",
            throughput.padding_picture(result),
            "Share of computed tokens that are padding, counted on these pairs.",
        ),
    ]
    title = f"{result['checkpoint']} on {result['environment']['processor']}"
    body = _TEMPLATES.get_template("page.html.j2").render(
        title=title,
        figure=figure,
        result=result,
        systems=throughput_table(result, list(COLUMNS)),
        long=throughput_table({**result, **result["long"]}) if "long" in result else None,
        limits=limits_table(result),
        stages=stages_table(result),
        pictures=pictures,
        machine=_machine(result),
    )
    return whole_page(title, [body])


def _machine(result: Result) -> str:
    machine: dict[str, Any] = result["environment"]
    versions = ", ".join(f"{name} {release}" for name, release in machine["versions"].items())
    gpu = f", {machine['gpu']}" if machine.get("gpu") else ""
    return f"{machine['system']}{gpu}; {versions}; data {result['data']['sha256']}; {throughput.where(result)}"
