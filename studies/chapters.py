"""The table of each study's result. Below it stands a sentence on its pairs and machine."""

from collections.abc import Callable, Mapping
from typing import Any

from pairscore.benchmarks.tables.pictures import Series, plot
from pairscore.benchmarks.tables.table import Row, Table, table_of
from pairscore.benchmarks.tables.throughput import statistic, where

Result = dict[str, Any]
Columns = Mapping[str, Callable[[Any], str]]

# A plan's assumptions. Prices are examples, in US dollars: put your provider's in their place.
BILLION = 1_000_000_000
CORES = 32
ON_DEMAND_CORE_HOUR, INTERRUPTIBLE_CORE_HOUR = 0.05, 0.02
MARGIN = 0.25
CLUSTERS = (4, 16, 64)
# Of a machine with one H100 and sixteen cores.
GPU_HOUR = 4.0
# What a kernel's name holds -> what it computes.
GPU_WORK = {
    "flash": "attention", "fmha": "attention", "sdpa": "attention", "nvjet": "matrix products",
    "gemm": "matrix products", "BiasGelu": "bias and GELU", "SkipLayerNorm": "residual and norm",
    "BinaryElementWise": "the queries' bias", "EmbedLayerNorm": "embeddings",
}  # fmt: skip

_RATE: Columns = {"pairs/s": lambda each: f"{each['pairs_per_second']:,.0f}"}


def ablation_table(result: Result) -> Table:
    """One row a setting: its rate, and how it compares with everything on."""
    columns = {
        "setting": lambda each: each["name"],
        **_RATE,
        "against everything on": lambda each: f"{each['ratio']:.2f}",
    }
    data = result["data"]
    note = (
        f"{data['pairs']:,} pairs of {data['file']}, {data['repeated']:.0%} of them added a second time; "
        f"{statistic(result)} of {result['rounds']} interleaved rounds, {where(result)}"
    )
    return table_of(result["settings"], columns, note)


def exporters_table(result: Result) -> Table:
    """One row an exporter and engine: the graph's size, its rate against the first exporter's, and its parity."""
    columns: Columns = {
        "exporter": lambda each: each["exporter"].removeprefix("exported by "),
        "transformers": lambda each: each["transformers"],
        "nodes": lambda each: str(each["nodes"]),
        "engine": lambda each: f"{each['precision']} on {each['engine']}",
        "speed against the first": lambda each: f"{each['ratio']:.3f}",
        "logits, to PyTorch": lambda each: f"{each['max_logit_difference_to_pytorch']:.1e}",
        "to the first on ONNX Runtime": lambda each: f"{each['max_logit_difference']:.1e}",
    }
    rows = [{**bundle, **system} for bundle in result["bundles"] for system in bundle["systems"]]
    data = result["data"]
    note = (
        f"{result['source']}, {data['pairs']:,} pairs of {data['file']}; speed by processor time, fastest of "
        f"{result['rounds']} interleaved rounds; the machine's load before it: {result['load']:.0f}. {where(result)}"
    )
    return table_of(rows, columns, note, words=("engine",))


def int8_table(result: Result) -> Table:
    """One row a way to run a model: speed and parity on short and on long pairs, and whether int8's promise holds."""
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
        **_RATE,
        "to PyTorch": lambda each: f"{each['ratio']:.2f}",
        "to fp32 on ONNX Runtime": against_fp32(""),
        "max score difference": parity("", "max_score_difference", ".1g"),
        "Spearman": parity("", "spearman", ".5f"),
        "alone or in a batch": parity("", "batch_difference", ".0e"),
        "long: pairs/s": lambda each: f"{each['pairs_per_second_long']:,.0f}",
        "long: to fp32 on ONNX Runtime": against_fp32("_long"),
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
        f"claims and on {judged_long} of 256 to 512 tokens; speed over {data['timed']:,} short and "
        f"{data['timed_long']} long ones, {statistic(result)} of {len(fp32['seconds'])} interleaved rounds. PyTorch is "
        f"{result['reference']['name']}. {where(result)}"
    )
    return Table(tuple(columns), rows, (note,), ("int8 promise",))


def host_table(result: Result) -> Table:
    """One row an input and tokenizer: rate, and where the run's CPU time went."""
    rows = result["data"]["rows"]
    settings = []
    for setting in result["settings"]:
        run = sorted(setting["runs"], key=lambda each: each["pairs_per_second"])[len(setting["runs"]) // 2]
        spent = run["cpu_seconds_by_thread"]
        seconds = {
            "all": run["cpu_seconds"],
            "read": spent.get("read", 0.0),
            "tokenize": spent.get("tokenize", 0.0) + spent.get("encode", 0.0),
            "assemble": spent.get("engine", 0.0),
            "write": spent.get("write", 0.0),
            "libraries": spent["of libraries"],
        }
        micro = {name: f"{value / rows * 1e6:.2f}" for name, value in seconds.items()}
        settings.append({**setting, "micro": micro, "memory": f"{run['peak_memory_bytes'] / 2**20:.0f} MiB"})
    columns: Columns = {
        "texts": lambda each: each["data"],
        "tokenizer": lambda each: each["tokenizer"],
        **_RATE,
        "CPU µs a pair": lambda each: each["micro"]["all"],
        **{name: _micro(name) for name in ("read", "tokenize", "assemble", "write", "libraries")},
        "memory": lambda each: each["memory"],
    }
    waits, rounds = result["tokens_per_second"], len(result["settings"][0]["runs"])
    engine = f"takes {waits:,.0f} tokens/s" if waits else "takes no time"
    note = (
        f"{rows:,} pairs in {result['files']} files, batches of {result['token_budget']:,} tokens, "
        f"{result['callers']} callers, an engine that {engine}, median of {rounds} interleaved rounds. {where(result)}"
    )
    return table_of(settings, columns, note, words=("tokenizer",))


def _micro(name: str) -> Callable[[Any], str]:
    return lambda each: str(each["micro"][name])


def scaling_table(result: Result) -> Table:
    """One row a point of every chapter: rates and memory."""
    points = [
        {**point, "layers": chapter["layers"] if chapter["layers"] is not None else "all"}
        for chapter in result["chapters"].values()
        for point in chapter["points"]
    ]
    columns: Columns = {
        "pairs": lambda each: f"{each['pairs']:,}",
        "mean tokens": lambda each: f"{each['mean_tokens']:.0f}",
        "layers": lambda each: str(each["layers"]),
        **_RATE,
        "tokens/s": lambda each: f"{each['tokens_per_second']:,.0f}",
        "memory": lambda each: f"{each['peak_memory_bytes'] / 2**30:.2f} GiB",
    }
    notes = [f"{name}: {each['precision']}, {where(each)}" for name, each in result["chapters"].items()]
    return table_of(points, columns, " ".join(["One run each.", *notes]))


def million_line(result: Result) -> str:
    """One sentence on the memory of the largest job."""
    chapter = result["chapters"]["memory"]
    point = max(chapter["points"], key=lambda each: each["pairs"])
    layers = "all" if chapter["layers"] is None else chapter["layers"]
    return (
        f"{point['pairs']:,} pairs of {point['mean_tokens']:.0f} tokens, {layers} of the model's layers: at most "
        f"{point['peak_memory_bytes'] / 2**20:.0f} MiB of memory. {where(chapter)}"
    )


def row_group_line(result: Result) -> str:
    """One sentence on a file that is one row group."""
    chapter = result["chapters"]["row-group"]
    (point,) = chapter["points"]
    return (
        f"{point['pairs']:,} pairs in one row group, {chapter['layers']} of the model's layers: at most "
        f"{point['peak_memory_bytes'] / 2**20:.0f} MiB of memory, outside the engine "
        f"{point['share_outside_engine']:.1%} of the run. {where(chapter)}"
    )


def overhead_table(result: Result) -> Table:
    """One row a pipeline: seconds, overhead, promise."""

    def promise(each: Any) -> str:
        bound = each["promise"]
        return "" if bound is None else f"≤ {bound:.0%}" + (", missed" if each["overhead"] > bound else "")

    columns: Columns = {
        "job": lambda each: each["name"],
        "seconds": lambda each: f"{each['seconds']:.1f}",
        "against `pairscore score`": lambda each: (
            "reference" if each["name"] == "pairscore score" else f"{each['overhead']:+.1%}"
        ),
        "promised": promise,
        "rounds": lambda each: str(each["rounds"]),
    }
    data, layers = result["data"], result["layers"]
    kept = ("all layers" if layers is None else f"{layers} layers") + f" in {result.get('precision', 'fp32')}"
    note = (
        f"{data['pairs']:,} different pairs (mean {data['mean_tokens']:.0f} tokens) from one Parquet file to Parquet, "
        f"{result['checkpoint']} with {kept}, engine started and warm, bundle opened within the job (Spark's workers "
        f"keep theirs), {where(result)}"
    )
    return table_of(result["systems"], columns, note)


def billion_table(result: Result) -> Table | str:
    """Hours and cost by the number of machines, from the rate of the whole model."""
    if "whole" not in result:
        return "Not measured yet with the whole model."
    shipped = result["whole"]
    hours = BILLION / shipped["pairs_per_second"] * shipped["cores"] / 3600 * (1 + MARGIN)
    columns: Columns = {
        f"machines of {CORES} cores": str,
        "hours": lambda machines: f"{hours / machines / CORES:.1f}",
        "on demand": lambda _: f"${hours * ON_DEMAND_CORE_HOUR:,.0f}",
        "interruptible": lambda _: f"${hours * INTERRUPTIBLE_CORE_HOUR:,.0f}",
    }
    rows = tuple(Row(tuple(cell(machines) for cell in columns.values())) for machines in CLUSTERS)
    rate = shipped["pairs_per_second"]
    return Table(
        tuple(columns),
        rows,
        (
            f"Measured: {rate:.0f} pairs/s on {shipped['cores']} cores with all layers of {result['checkpoint']} in "
            f"{result.get('precision', 'fp32')}, {rate / shipped['cores']:.0f} a core. With {MARGIN:.0%} on top for "
            f"retries, stragglers and what does not scale: **{hours:,.0f} core-hours** for a billion pairs.",
            f"At ${ON_DEMAND_CORE_HOUR:.2f} a core-hour on demand and ${INTERRUPTIBLE_CORE_HOUR:.2f} interruptible. "
            "Both are assumed prices, not quotes. The measured file, whose texts repeat, takes "
            f"{result['data']['bytes_a_pair']:.0f} bytes a pair; a score adds 4.",
        ),
    )


def rate_picture(result: Result) -> str | None:
    """Pairs per second against the number of pairs, of the whole model; None where that was not measured."""
    if "rate" not in result["chapters"]:
        return None
    points = result["chapters"]["rate"]["points"]
    series = [Series("pairs per second", [(each["pairs"], each["pairs_per_second"]) for each in points])]
    return plot("Pairs per second by number of pairs", "pairs (log)", "pairs/s", series, lines=True, log_x=True)


def memory_picture(result: Result) -> str:
    """Peak memory against the number of pairs, beside the size of the input."""
    points = result["chapters"]["memory"]["points"]
    series = [
        Series(name, [(each["pairs"], each[key] / 2**20) for each in points])
        for name, key in (("peak memory of the process", "peak_memory_bytes"), ("size of the files", "input_bytes"))
    ]
    return plot("Memory by number of pairs", "pairs (log)", "MiB", series, lines=True, log_x=True)


def length_picture(result: Result) -> str:
    """Tokens per second against a pair's mean tokens."""
    points = [(each["mean_tokens"], each["tokens_per_second"]) for each in result["chapters"]["length"]["points"]]
    series = [Series("tokens per second", points)]
    return plot("Tokens per second by length", "mean tokens a pair", "tokens/s", series, lines=True)


def reuse_table(result: Result) -> Table:
    """The whole job, the job with an old output, and the same with many old pairs more."""
    jobs = [
        {"name": "everything computed", **result["whole"]},
        {"name": "with the old output", **result["reusing"]},
        {"name": f"with {result['old_pairs']:,} old pairs more", **result["reusing_many"]},
    ]
    columns: Columns = {
        "job": lambda each: each["name"],
        "computed": lambda each: f"{each['pairs']:,}",
        "reused": lambda each: f"{each['reused']:,}",
        "seconds": lambda each: f"{each['wall_seconds']:.0f}",
        "processor seconds": lambda each: f"{each['processor_seconds']:.0f}",
        "memory": lambda each: f"{each['peak_memory_bytes'] / 2**20:,.0f} MiB",
    }
    note = (
        f"{result['data']['rows']:,} pairs with all of the model's layers in {result['whole']['precision']} on "
        f"{result['whole']['engine']}, {result['old_share']:.0%} of them scored before: {result['share_of_time']:.1%} "
        f"of the time and {result['share_of_processor_time']:.1%} of the processor time of the whole, start and "
        f"loading included, and the same bits. {where(result)}"
    )
    return table_of(jobs, columns, note)


def gpu_line(result: Result) -> str:
    """The whole job on a GPU, the engine alone, and what kept the device from more."""
    job, engine, top, precision = (result[name] for name in ("job", "engine", "limits", "precision"))
    kernels = ", ".join(each["kernel"].lower().replace("_", " ") for each in result["attention"]["kernels"])
    matrix, copy = top["matrix_flops_per_second"][precision] / 1e12, top["bytes_per_second"] / 1e12
    return (
        f"**{job['pairs']:,} pairs from Parquet to Parquet in {job['seconds']:.1f} s: "
        f"{job['pairs_per_second']:,.0f} pairs/s**, {job['mean_tokens']:.0f} tokens a pair, in {precision}, on one "
        f"{top['name']}. By the driver, kernels were at work for {job['driver_busy_share']:.0%} of that time. The "
        f"engine alone, with batches made before the clock starts: {engine['pairs_per_second']:,.0f} pairs/s, "
        f"{engine['matrix_share']:.0%} of what the device was measured to multiply in matrices of the model's shapes "
        f"({matrix:.0f} TFLOP/s) and {engine['bandwidth_share']:.0%} of what it was measured to copy ({copy:.1f} TB/s)."
        f" Attention ran in: {kernels}. {where(result)}"
    )


def gpu_summary(result: Result) -> str:
    """What a GPU made of a million pairs, and what int8 made of the cores beside it, in two sentences."""
    job, machine = result["job"], result["environment"]
    amx = " with AMX" if "amx_int8" in machine["instruction_sets"] else ""
    rates = {each["name"]: each["crossed"]["pairs_per_second"] for each in result["systems"]["systems"]}
    int8, torch = rates["pairscore int8, native"], rates["sentence-transformers, torch fp32, batch 32"]
    return (
        f"On one {result['limits']['name']}, {job['pairs']:,} pairs went from Parquet to Parquet in "
        f"{job['seconds']:.1f} s ({result['precision']}). On the {machine['cores']} cores beside it, of an "
        f"{machine['processor']}{amx}, our int8 scored {int8:,.0f} pairs/s, {int8 / torch:.1f} times what "
        "sentence-transformers did with torch in fp32."
    )


def gpu_kernels_table(result: Result) -> Table:
    """Where the device's time goes, by what a kernel computes."""
    shares: dict[str, float] = {}
    for kernel in result["profile"]["kernels"]:
        work = next((work for part, work in GPU_WORK.items() if part in kernel["name"]), "all else")
        shares[work] = shares.get(work, 0.0) + kernel["share"]
    shares["all else"] = shares.get("all else", 0.0) + 1 - sum(shares.values())
    rows = [{"work": work, "share": share} for work, share in sorted(shares.items(), key=lambda each: -each[1])]
    columns: Columns = {"kernels": lambda each: each["work"], "of their time": lambda each: f"{each['share']:.0%}"}
    return table_of(rows, columns)


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
        "pairs/s": lambda each: f"{rates[each['name']]:,.0f}",
        "to PyTorch": lambda each: f"{rates[each['name']] / rates[on_gpu if 'cuda' in each['name'] else on_cpu]:.1f}",
        "$ a million pairs": lambda each: f"{price(each['name']):.2f}",
        "max score difference": parity("judged", "max_score_difference", ".4f"),
        "Spearman": parity("judged", "spearman", ".5f"),
        "long: pairs/s": lambda each: "" if "cuda" in each["name"] else f"{each['long']['pairs_per_second']:.0f}",
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
