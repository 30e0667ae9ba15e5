"""The chapter on GPUs, from results/gpu.json: rates, parity, where the time goes, and cost beside a CPU's."""

from typing import Any

# The bars of a run on one H200 with 16 cores; shown beside what was measured.
END_TO_END, ENGINE_ALONE, TIMES_PEER = 100_000, 150_000, 10.0
_KERNELS = 8


def gpu_chapter(result: dict[str, Any], cpu: dict[str, Any]) -> str:
    """cpu: results/throughput.json, for the comparison of cost."""
    machine = result["environment"]
    name = result["limits"].get("name", result["device"]) if "limits" in result else result["device"]
    lines = [
        f"{name}, {machine['cores']} cores of {machine['processor']}, {result['precision']}, commit "
        f"{machine['commit'][:10]}, {machine['time'][:10]}.",
        "",
        *_rates(result),
        *_parity(result),
        *_attention(result),
        *_profile(result),
        *_cost(result, cpu),
    ]
    failed = [
        f"{section}: {found['error']}"
        for section, found in result.items()
        if isinstance(found, dict) and "error" in found
    ]
    if failed:
        lines += ["", "Did not run: " + "; ".join(failed).replace("|", "\\|").replace("<", "&lt;") + "."]
    return "\n".join(lines).rstrip()


def _section(result: dict[str, Any], name: str) -> dict[str, Any] | None:
    found: dict[str, Any] = result.get(name, {})
    return found if found and "error" not in found else None


def _rates(result: dict[str, Any]) -> list[str]:
    lines = ["| what | pairs/s | bar | remarks |", "|---|--:|--:|---|"]
    if job := _section(result, "job"):
        best = max(job["runs"], key=lambda run: run["pairs_per_second"])
        remarks = [
            f"{best['rows']:,} pairs in {best['seconds']:.1f} s, and {best['load_seconds']:.1f} s to load",
            f"engine idle {best['engine_idle_share']:.1%} of the run",
            best["tuning"] or "untuned",
        ]
        if watched := best["gpu"]:
            remarks.append(f"at most {watched['memory_mib'] / 1024:.1f} GiB of the GPU's memory")
        lines.append(
            f"| `pairscore score`, Parquet to Parquet | {best['pairs_per_second']:,.0f} | {END_TO_END:,} | "
            f"{'; '.join(remarks)} |"
        )
    if engine := _section(result, "engine"):
        shares = [
            f"{engine[key]:.0%} of {what}"
            for key, what in (("matrix_share", "the measured matrix rate"), ("bandwidth_share", "the memory bandwidth"))
            if key in engine
        ]
        lines.append(
            f"| engine alone | {engine['pairs_per_second']:,.0f} | {ENGINE_ALONE:,} | {engine['callers']} streams, "
            f"{engine['token_budget']:,} tokens a batch, mean {engine['mean_tokens']:.0f}; {'; '.join(shares)} |"
        )
    if peers := _section(result, "peers"):
        ours, *theirs = sorted(peers["systems"], key=lambda system: not system["name"].startswith("pairscore"))
        best_peer = max(theirs, key=lambda system: system["pairs_per_second"], default=None)
        ratio = ours["pairs_per_second"] / best_peer["pairs_per_second"] if best_peer else None
        bar = f"{TIMES_PEER:.0f} x the best peer" if ratio else ""
        told = f"texts in memory to scores in memory, {peers['pairs']:,} pairs" + (f"; {ratio:.1f} x" if ratio else "")
        lines.append(f"| {ours['name']}, in memory | {ours['pairs_per_second']:,.0f} | {bar} | {told} |")
        for system in sorted(theirs, key=lambda system: -system["pairs_per_second"]):
            lines.append(f"| {system['name']} | {system['pairs_per_second']:,.0f} | | |")
    return [*lines, ""]


def _parity(result: dict[str, Any]) -> list[str]:
    found = _section(result, "parity")
    if found is None:
        return []
    lines = [
        "| precision | pairs | max logit difference | max score difference | Spearman | promise |",
        "|---|---|--:|--:|--:|---|",
    ]
    for precision, sets in found.items():
        if not isinstance(sets, dict) or "error" in sets:
            continue
        for name, report in sets.items():
            rank = "" if report["spearman"] is None else f"{report['spearman']:.6f}"
            lines.append(
                f"| {precision} | {report['pairs']:,} {'long ones' if name == 'long_pairs' else ''} | "
                f"{report['max_logit_difference']:.1e} | {report['max_score_difference']:.1e} | {rank} | "
                f"{'broken' if report['violations'] else 'kept'} |"
            )
    return [*lines, ""]


def _attention(result: dict[str, Any]) -> list[str]:
    found = _section(result, "attention")
    if not found or not found["kernels"]:
        return []
    told = [
        f"{each['kernel']} ({each['operator']}, {each['type']}, {each['count']} times)" for each in found["kernels"]
    ]
    return [f"Attention, by ONNX Runtime's own log: {', '.join(told)}.", ""]


def _profile(result: dict[str, Any]) -> list[str]:
    found = _section(result, "profile")
    if found is None:
        return []
    kernels = [f"{each['share']:.0%} {each['name']}" for each in found["kernels"][:_KERNELS]]
    return [
        f"A kernel ran in {found['busy_share']:.0%} of the time. By share of the kernels' time:",
        "",
        *(f"- `{kernel}`" for kernel in kernels),
        "",
    ]


def _cost(result: dict[str, Any], cpu: dict[str, Any]) -> list[str]:
    job = _section(result, "job")
    if job is None:
        return []
    ours = [system for system in cpu["systems"] if system["ours"] and "pairs_per_second" in system]
    prices, cores = result["prices"], cpu["environment"]["cores"]
    rows = [(f"GPU, {result['precision']}", job["pairs_per_second"], prices["gpu_hour"])]
    rows += [
        (f"{cores} CPU cores, {system['name'].removeprefix('pairscore ')}", system["pairs_per_second"], each)
        for system in ours
        for each in [prices["core_hour"] * cores]
    ]
    return [
        "| machine | pairs/s | dollars an hour, assumed | pairs for a dollar |",
        "|---|--:|--:|--:|",
        *(f"| {name} | {rate:,.0f} | {price:.2f} | {rate * 3600 / price:,.0f} |" for name, rate, price in rows),
    ]
