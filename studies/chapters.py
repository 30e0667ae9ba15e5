"""The table of each study's result. Below it stands a sentence on its pairs and machine."""

from collections.abc import Callable, Mapping
from typing import Any

from pairscore.benchmarks.tables.table import Row, Table, table_of
from pairscore.benchmarks.tables.throughput import quotient, rate_text, statistic, where
from studies.processors import GPU_HOUR, ON_DEMAND_CORE_HOUR

Result = dict[str, Any]
Columns = Mapping[str, Callable[[Any], str]]


def int8_table(result: Result) -> Table:
    """One row a way to run a model: speed and parity on short and on long pairs, and whether int8's promise holds.

    Speed is relative to fp32 of the same run: absolute rates are those of `make bench`.
    """
    fp32 = next(each for each in result["systems"] if each["name"] == "fp32, onnxruntime")

    def against_fp32(kind: str) -> Callable[[Any], str]:
        rate = f"pairs_per_second{kind}"
        return lambda each: f"{each[rate] / fp32[rate]:.2f}"

    def parity(kind: str, field: str, digits: str) -> Callable[[Any], str]:
        return lambda each: format(each[f"parity{kind}"][field], digits)

    def promise(each: Any) -> str:
        return "broken" if each["parity"]["violations"] or each["parity_long"]["violations"] else "kept"

    columns: Columns = {
        "way": lambda each: each["name"],
        "speed": against_fp32(""),
        "max score difference": parity("", "max_score_difference", ".1g"),
        "Spearman": parity("", "spearman", ".5f"),
        "alone or in a batch": parity("", "batch_difference", ".0e"),
        "long: speed": against_fp32("_long"),
        "long: max score difference": parity("_long", "max_score_difference", ".1g"),
        "long: Spearman": parity("_long", "spearman", ".5f"),
        "int8 promise": promise,
    }
    rows = tuple(
        Row((each["name"], f"did not run: {each['error']}")) if "error" in each else table_of([each], columns).rows[0]
        for each in result["systems"]
    )
    data = result["data"]
    judged, judged_long = (fp32[kind]["pairs"] for kind in ("parity", "parity_long"))
    note = (
        f"Fitted to {result['fitted_pairs']} pairs of {result['fitted_file']}, judged on {judged:,} pairs of other "
        f"claims and on {judged_long} of 256 to 512 tokens. Speed is relative to fp32 on ONNX Runtime in the same run, "
        f"over {data['timed']:,} short and {data['timed_long']} long pairs, {statistic(result)} of "
        f"{len(fp32['seconds'])} interleaved rounds. {where(result)}"
    )
    return Table(tuple(columns), rows, (note,), ("int8 promise",))


def gpu_line(result: Result) -> str:
    """The whole job on a GPU, the engine alone, and what kept the device from more."""
    job, engine, top, precision = (result[name] for name in ("job", "engine", "limits", "precision"))
    matrix, copy = top["matrix_flops_per_second"][precision] / 1e12, top["bytes_per_second"] / 1e12
    return (
        f"**{job['pairs']:,} pairs from Parquet to Parquet in {job['seconds']:.1f} s: "
        f"{job['pairs_per_second']:,.0f} pairs/s**, {job['mean_tokens']:.0f} tokens a pair, in {precision}, on one "
        f"{top['name']}. By the driver, kernels were at work for {job['driver_busy_share']:.0%} of that time. The "
        f"engine alone, with batches made before the clock starts: {engine['pairs_per_second']:,.0f} pairs/s, "
        f"{engine['matrix_share']:.0%} of what the device was measured to multiply in matrices of the model's shapes "
        f"({matrix:.0f} TFLOP/s) and {engine['bandwidth_share']:.0%} of what it was measured to copy ({copy:.1f} TB/s)."
        f" {where(result)}"
    )


def gpu_table(result: Result) -> Table:
    """One row a system, on the device or on the processor beside it: rate, price, parity on short and on long pairs."""
    found, core_hours = result["systems"], result["environment"]["cores"] * ON_DEMAND_CORE_HOUR
    ran = [each for each in found["systems"] if "error" not in each]
    rates: dict[str, float] = {each["name"]: each["crossed"]["pairs_per_second"] for each in ran}
    theirs = [each["name"] for each in ran if not each["ours"] and "torch" not in each["name"]]
    on_gpu = max((name for name in theirs if "cuda" in name), key=lambda name: rates[name])
    on_cpu = next(name for name in rates if "torch fp32" in name)

    def price(name: str) -> float:
        return (GPU_HOUR if "cuda" in name else core_hours) / rates[name] / 3600 * 1e6

    def parity(kind: str, field: str, digits: str) -> Callable[[Any], str]:
        return lambda each: format(each[kind]["parity"][field], digits)

    columns: Columns = {
        "system": lambda each: each["name"],
        "pairs/s": lambda each: rate_text(rates[each["name"]]),
        "to PyTorch": lambda each: (
            f"{quotient(rates[each['name']], rates[on_gpu if 'cuda' in each['name'] else on_cpu]):.2f}"
        ),
        "$ a million pairs": lambda each: f"{price(each['name']):.2f}",
        "max score difference": parity("judged", "max_score_difference", ".4f"),
        "Spearman": parity("judged", "spearman", ".5f"),
        "long: pairs/s": lambda each: "" if "cuda" in each["name"] else rate_text(each["long"]["pairs_per_second"]),
        "long: max score difference": parity("long", "max_score_difference", ".4f"),
        "long: Spearman": parity("long", "spearman", ".5f"),
    }
    ran.sort(key=lambda each: -rates[each["name"]])
    notes = (
        f"Up to {found['sample']:,} crossed pairs, as many as last some seconds, from texts in memory to logits in "
        f"memory. To PyTorch: on the GPU, to its fastest row, {on_gpu}; on the processor, to {on_cpu}. Parity is with "
        f"{found['systems'][0]['name']}, on {found['judged']:,} pairs of {result['judged']} and on "
        f"{found['long']['pairs']:,} of 256 to 512 tokens, which are too few to show a GPU's rate. {where(result)} "
        f"GPU: {result['environment']['gpu']}.",
        f"Assumed prices, not quotes: ${GPU_HOUR:.2f} an hour for the machine with its GPU, ${core_hours:.2f} for one "
        "with its cores alone.",
        *(f"{each['name']} did not run: {each['error']}" for each in found["systems"] if "error" in each),
    )
    return table_of(ran, columns, *notes)
