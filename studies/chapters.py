"""The table of each study's result. Below it stands a sentence on its pairs and machine."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from pairscore.benchmarks.tables.table import Row, Table, table_of
from pairscore.benchmarks.tables.throughput import quotient, rate_text, where
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
        f"over {data['timed']:,} short and {data['timed_long']} long pairs, {result['statistic']} of "
        f"{len(fp32['seconds'])} interleaved rounds. {where(result)}"
    )
    return Table(tuple(columns), rows, (note,), ("int8 promise",))


def large_table(result: Result) -> Table:
    """One row a precision: what its export took, and its speed beside PyTorch's."""
    rates, weights = result["pairs_per_second"], result["weights_bytes"]
    columns: Columns = {
        "precision": lambda each: each["name"],
        "seconds": lambda each: f"{each['seconds']:.0f}",
        "memory, GB": lambda each: f"{each['peak_bytes'] / 1e9:.1f}",
        "of the weights": lambda each: f"{each['peak_bytes'] / weights:.2f}",
        "with mapped files, GB": lambda each: f"{each['peak_resident_bytes'] / 1e9:.1f}",
        "files, GB": lambda each: f"{each['bytes'] / 1e9:.2f}",
        "max score difference": lambda each: f"{each['max_score_difference']:.1g}",
        "speed to PyTorch": lambda each: (
            f"{rates[name] / rates['pytorch']:.2f}" if (name := each["name"]) in rates else ""
        ),
    }
    note = (
        f"{result['parameters'] / 1e6:.0f} million parameters, {weights / 1e9:.2f} GB in fp32. Memory is the most that "
        "the export held, without files that it mapped: the system drops those when memory is short. Speed is that of "
        f"{result['data']['timed']} pairs of {result['data']['mean_tokens']:.0f} tokens on average; PyTorch scores "
        f"{rates['pytorch']:.1f} of them a second. {where(result)}"
    )
    return table_of([{"name": name, **cost} for name, cost in result["exports"].items()], columns, note)


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


def calibration_table(result: Result) -> Table:
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


def verdicts_table(result: Result) -> Table:
    """How well three labels are told apart: `evaluation.json` and `training.json` of `pairscore train`."""
    (found,), training = result["evaluation"], result["training"]
    heads = ("system", "accuracy", "macro-F1", *(f"F1 {label}" for label in found["labels"]))
    rows = [
        Row((each["system"], *(f"{value:.3f}" for value in (each["accuracy"], each["macro_f1"], *each["f1"].values()))))
        for each in found["systems"]
    ]
    seconds, processor = training["seconds"], training["machine"]["processor"]
    note = (
        f"{found['pairs']:,} pairs of {found['claims']} claims of {found['files'][0]['file']}, not trained on; "
        f"{training['steps']} steps, which took {seconds / 60:.0f} minutes on {processor} beside other work."
    )
    return Table(heads, tuple(rows), (note,))


def long_evidence_table(result: Result) -> Table:
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


def _sameness(result: Result, texts: int) -> str:
    same = result["rows_with_the_same_score"]
    if same == texts:
        return "All texts have the same score both ways, to the last bit."
    return (
        f"{same:,} texts have the same score to the last bit, the others differ by at most "
        f"{result['largest_difference']:.2g}: a text that is cut within a word gets other tokens there."
    )


def fuzz_table(result: Result) -> Table:
    """One row a kind of damage: how the cases ended."""
    ends = {"exit 0": "exit code 0", "exit 2": "one line", "process ended": "process ended"}
    kinds: dict[str, Counter[str]] = {}
    for name, count in result["counts"].items():
        kind, _, end = name.partition(": ")
        kinds.setdefault(kind, Counter())[end] += count
    rows = tuple(
        Row((kind, f"{counts.total():,}", *(f"{counts[end]:,}" for end in ends)))
        for kind, counts in sorted(kinds.items())
    )
    cases = sum(counts.total() for counts in kinds.values())
    return Table(
        ("damaged", "cases", *ends.values()), rows, (f"{cases:,} cases; {len(result['bad'])} ended otherwise.",)
    )


def kills_table(result: Result) -> Table:
    """One row a place and a disturbance: how many hit each kind of job, and what was lost."""
    cells = result["cells"]
    asked = tuple(dict.fromkeys(cell["asked"] for cell in cells))
    tried: Counter[tuple[str, ...]] = Counter()
    lost: Counter[tuple[str, ...]] = Counter()
    for cell in cells:
        tried[cell["place"], cell["fault"], cell["asked"]] += cell["tried"]
        lost[cell["place"], cell["fault"]] += cell["lost"]
    rows = []
    for place, fault in dict.fromkeys((cell["place"], cell["fault"]) for cell in cells):
        counts = [tried[place, fault, each] for each in asked]
        total, gone = sum(counts), lost[place, fault]
        rows.append(Row((place, fault, *map(str, counts), str(total), str(total - gone), str(gone))))
    total, gone, jobs = tried.total(), lost.total(), sum(cell["jobs"] for cell in cells)
    note = f"{total} disturbances of {jobs} jobs: {total - gone} survived, {gone} lost."
    return Table(
        ("where", "disturbance", *asked, "tried", "survived", "lost"), tuple(rows), (note,), words=("disturbance",)
    )


def refine_table(*results: Result) -> Table:
    """One row a number of candidates and of best rows: what `--refine fp32` costs, and how far it agrees with fp32."""
    rows = []
    for candidates, found in (each for result in results for each in result["candidates"].items()):
        int8, fp32 = (found[name]["processor_seconds"] for name in ("int8", "fp32"))
        for best, each in found["best"].items():
            bytes_ = "the same bytes" if each["same_bytes"] else "no"
            cells = (f"{each['processor_seconds'] / int8:.2f}", f"{fp32 / int8:.2f}", f"{each['rows_again']:.1%}")
            agreement = (f"{each['agreement']:.1%}", bytes_, f"{each['agreement_of_int8']:.1%}")
            rows.append(Row((candidates, best, f"{found['pairs']:,}", f"{each['margin']:.2f}", *cells, *agreement)))
    data, environment = (results[0][name] for name in ("data", "environment"))
    notes = (f"Processor time as a multiple of int8 alone, on pairs of {data['file']}, {environment['processor']}.",)
    heads = ("candidates a claim", "best", "pairs", "margin", "time", "of fp32", "computed again", "agrees with fp32")
    return Table((*heads, "output", "int8 alone"), tuple(rows), notes)
