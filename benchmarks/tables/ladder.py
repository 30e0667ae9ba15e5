"""Tables of the precision ladder, of memory at scale and of what the host can feed."""

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
    """One sentence on a run of `benchmarks/studies/large_jobs.py`."""
    data, summary = result["data"], result["summary"]
    return (
        f"{data['rows']:,} pairs in {data['files']} file{'s' if data['files'] > 1 else ''} with row groups of "
        f"{data['row_group_rows']:,}, {result['layers']} of the model's layers: peak memory "
        f"{summary['peak_memory_bytes'] / 2**20:.0f} MiB, outside the engine "
        f"{summary['share_outside_engine']:.1%} of the run. {_where(result)}"
    )


def host_table(result: dict[str, Any]) -> str:
    """One row an input and tokenizer of `benchmarks/studies/host.py`: rate, and where the run's CPU time went."""
    threads = ("read", "tokenize", "engine", "write")
    lines = [
        "| texts | tokenizer | pairs/s | CPU µs a pair | read | tokenize | assemble | write | libraries | memory |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    rows = result["data"]["rows"]
    for setting in result["settings"]:
        run = sorted(setting["runs"], key=lambda each: each["pairs_per_second"])[len(setting["runs"]) // 2]
        by_thread = run["cpu_seconds_by_thread"]
        named = {name: by_thread.get(name, 0.0) for name in threads}
        named["tokenize"] += by_thread.get("encode", 0.0)
        each = [*named.values(), by_thread["of libraries"]]
        cells = " | ".join(f"{seconds / rows * 1e6:.2f}" for seconds in (run["cpu_seconds"], *each))
        lines.append(
            f"| {setting['data']} | {setting['tokenizer']} | {setting['pairs_per_second']:,.0f} | {cells} | "
            f"{run['peak_memory_bytes'] / 2**20:.0f} MiB |"
        )
    waits, rounds = result["tokens_per_second"], len(result["settings"][0]["runs"])
    lines += [
        "",
        f"{rows:,} pairs in {result['files']} files, batches of {result['token_budget']:,} tokens, "
        f"{result['callers']} callers, an engine that "
        f"{f'takes {waits:,.0f} tokens/s' if waits else 'takes no time'}, median of {rounds} interleaved "
        f"rounds. {_where(result)}",
    ]
    return "\n".join(lines)


def _where(result: dict[str, Any]) -> str:
    machine = result["environment"]
    sets = ", ".join(machine["instruction_sets"]).replace("_", "-") or "no wide vectors"
    return (
        f"{machine['cores']} cores of {machine['processor']} ({sets}), commit {machine['commit'][:10]}, "
        f"{machine['time'][:10]}."
    )
