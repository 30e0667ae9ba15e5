"""Tables of the precision ladder and of memory at scale."""

from typing import Any


def quantization_table(result: dict[str, Any]) -> str:
    """One row a way to run the model: speed, parity on short and on long pairs, and whether it passes."""
    lines = [
        "| way | pairs/s | ratio | max score difference | Spearman | alone or in a batch | long pairs | int8 promise |",
        "|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    for system in result["systems"]:
        if "error" in system:
            lines.append(f"| {system['name']} | | | | | | | did not run: {system['error']} |")
            continue
        parity, long = system["parity"], system["parity_long"]
        lines.append(
            f"| {system['name']} | {system['pairs_per_second']:.0f} | {system['ratio']:.2f} | "
            f"{parity['max_score_difference']:.1g} | {parity['spearman']:.5f} | {parity['batch_difference']:.0e} | "
            f"{long['max_score_difference']:.1g} | {'broken' if parity['violations'] else 'kept'} |"
        )
    first = result["systems"][0]
    lines += [
        "",
        f"Fitted to {result['fitted_pairs']} pairs of {result['data']['file']}, judged on {first['parity']['pairs']:,} "
        f"pairs of other claims and on {first['parity_long']['pairs']} long ones; speed over {result['data']['timed']} "
        f"pairs, median of {len(result['reference']['seconds'])} interleaved rounds, as a ratio to "
        f"{result['reference']['name']}. {_where(result)}",
    ]
    return "\n".join(lines)


def scale_line(result: dict[str, Any]) -> str:
    """One sentence on a run of `benchmarks/scale.py`."""
    data, summary = result["data"], result["summary"]
    return (
        f"{data['rows']:,} pairs in {data['files']} file{'s' if data['files'] > 1 else ''} with row groups of "
        f"{data['row_group_rows']:,}, {result['layers']} of the model's layers: peak memory "
        f"{summary['peak_memory_bytes'] / 2**20:.0f} MiB, padding {summary['padding_share']:.2%}, outside the engine "
        f"{summary['share_outside_engine']:.1%} of the run. {_where(result)}"
    )


def _where(result: dict[str, Any]) -> str:
    machine = result["environment"]
    sets = ", ".join(machine["instruction_sets"]).replace("_", "-") or "no wide vectors"
    return (
        f"{machine['cores']} cores of {machine['processor']} ({sets}), commit {machine['commit'][:10]}, "
        f"{machine['time'][:10]}."
    )
