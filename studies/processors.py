"""What stands first on the pages: each processor's rates beside other libraries', and what a billion pairs cost on it.

Rows come from the committed results of `make bench`, one file a kind of processor, and of `studies.gpu`, which has the
rates of a GPU and of the cores beside it.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairscore.benchmarks.environment import processor_kind
from pairscore.benchmarks.tables.table import Row, Table
from pairscore.benchmarks.tables.throughput import (
    best_peers,
    fastest_of_ours,
    quotient,
    rate_text,
    reference_of,
    where,
)

Result = dict[str, Any]

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks/results"
# Kind of processor, as `processor_kind` names it -> what a reader calls it.
KINDS = {"avx2": "AVX2", "avx512": "AVX-512 without VNNI", "vnni": "AVX-512 with VNNI", "amx": "AMX", "other": "other"}

# The assumptions of a plan. Prices are examples in US dollars, not quotes.
BILLION = 1_000_000_000
MACHINES, CORES = 16, 32
ON_DEMAND_CORE_HOUR, INTERRUPTIBLE_CORE_HOUR = 0.05, 0.02
GPU_HOUR = 4.0
MARGIN = 0.25


@dataclass(frozen=True)
class Measured:
    """The fastest of our systems in one precision on one processor, in pairs a second.

    `torch`: PyTorch in fp32. `peer`: the fastest other library in this precision, which may break its promise.
    `limit`: what nothing but the model's matrix products would reach. None: not measured.
    """

    processor: str
    kind: str
    cores: int
    precision: str
    engine: str
    rate: float
    spearman: float
    torch: float
    peer: str | None
    peer_rate: float | None
    limit: float | None


def load(name: str) -> Result:
    """A committed result. name: of its file, without the suffix."""
    result: Result = json.loads((RESULTS / f"{name}.json").read_text())
    return result


def kinds() -> dict[str, Result]:
    """The committed results of `make bench` by the kind of their processor, from the narrowest vectors on."""
    return {kind: load(f"throughput-{kind}") for kind in KINDS if (RESULTS / f"throughput-{kind}.json").is_file()}


def measured_rates() -> list[Measured]:
    """One row a processor and precision of ours."""
    found = kinds()
    beside = {kind: result for kind, result in _of_gpu(load("gpu")).items() if kind not in found}
    return [row for kind, result in (found | beside).items() for row in _rows(kind, result)]


def _rows(kind: str, result: Result) -> Iterator[Measured]:
    machine, reference, peers = result["environment"], reference_of(result), best_peers(result)
    if reference is None:
        raise ValueError(f"the result of {kind} has no rate of {result['reference']}")
    processor = machine["processor"].replace("(R)", "").replace(" Processor", "")
    for precision, system in fastest_of_ours(result).items():
        peer = peers.get(precision)
        yield Measured(
            f"GPU: one {processor}" if kind == "gpu" else f"{KINDS[kind]}: {machine['cores']} cores of {processor}",
            kind,
            machine["cores"],
            precision,
            system["name"].split(", ")[1],
            system["pairs_per_second"],
            system["parity"]["spearman"],
            reference["pairs_per_second"],
            peer["name"] + (" (breaks the promise)" if peer["violations"] else "") if peer else None,
            peer["pairs_per_second"] if peer else None,
            result["limits"].get(precision, {}).get("pairs_per_second"),
        )


def _of_gpu(result: Result) -> dict[str, Result]:
    """What `studies.gpu` measured on the processor beside the GPU and on the GPU, in the form of `make bench`."""
    machine, engine, limits = result["environment"], result["engine"], result["limits"]
    rates = limits["matrix_flops_per_second"]
    # At this rate, nothing but the model's matrix products would keep the GPU busy.
    top = engine["pairs_per_second"] / engine["matrix_share"] / rates[result["precision"]]
    most = {precision: {"pairs_per_second": top * rate} for precision, rate in rates.items()}
    ran = [
        {**each, **each["judged"], **each["crossed"]} for each in result["systems"]["systems"] if "error" not in each
    ]
    found = {}
    for kind, processor, known in (
        (processor_kind(machine["instruction_sets"]), machine["processor"], {}),
        ("gpu", limits["name"], most),
    ):
        here = {"systems": [each for each in ran if ("cuda" in each["name"]) == (kind == "gpu")], "limits": known}
        # On the GPU the fastest batch size; on the processor the reference alone runs PyTorch.
        reference = best_peers(here)["fp32"]["name"]
        found[kind] = {**here, "reference": reference, "environment": {**machine, "processor": processor}}
    return found


_COLUMNS: dict[str, Callable[[Measured], str]] = {
    "processor": lambda row: row.processor,
    "precision": lambda row: f"{row.precision} on {row.engine}",
    "pairs/s": lambda row: rate_text(row.rate),
    "of the limit": lambda row: "" if row.limit is None else f"{quotient(row.rate, row.limit):.0%}",
    "PyTorch fp32, pairs/s": lambda row: rate_text(row.torch),
    "to PyTorch": lambda row: f"{quotient(row.rate, row.torch):.2f}",
    "fastest other library in this precision": lambda row: row.peer or "",
    "its pairs/s": lambda row: "" if row.peer_rate is None else rate_text(row.peer_rate),
    "to that library": lambda row: "" if row.peer_rate is None else f"{quotient(row.rate, row.peer_rate):.2f}",
    "Spearman": lambda row: f"{row.spearman:.5f}",
}


def processors_table() -> Table:
    """One row a processor and precision: ours, PyTorch, the fastest peer, both ratios, the share of the limit."""
    return _table(measured_rates(), _COLUMNS)


def summary_table() -> Table:
    """The README's rows: int8 on processors of two cores, fp16 on a GPU."""
    chosen = [
        row
        for row in measured_rates()
        if (row.precision == "fp16" if row.kind == "gpu" else (row.precision, row.cores) == ("int8", 2))
    ]
    headings = ("processor", "precision", "pairs/s", "to PyTorch", "to that library", "Spearman")
    names = {
        "to PyTorch": "times PyTorch in fp32",
        "to that library": "times the fastest other library in this precision",
    }
    columns = {names.get(heading, heading): _COLUMNS[heading] for heading in headings}
    return _table(chosen, columns)


def billion_table() -> Table:
    """Hours and dollars of a billion pairs by processor and precision, from the rates of `processors_table`."""

    def hours(row: Measured) -> float:
        return BILLION / row.rate / 3600 * (1 + MARGIN) * (1 if row.kind == "gpu" else row.cores)

    def dollars(row: Measured, core_hour: float) -> str:
        return f"${hours(row) * (GPU_HOUR if row.kind == 'gpu' else core_hour):,.0f}"

    columns: dict[str, Callable[[Measured], str]] = {
        "processor": lambda row: row.processor,
        "precision": lambda row: row.precision,
        "pairs/s": lambda row: rate_text(row.rate),
        "core-hours": lambda row: "" if row.kind == "gpu" else f"{hours(row):,.0f}",
        f"hours on {MACHINES} machines of {CORES} cores": lambda row: (
            f"{hours(row):.1f} on one GPU" if row.kind == "gpu" else f"{hours(row) / MACHINES / CORES:.1f}"
        ),
        "on demand": lambda row: dollars(row, ON_DEMAND_CORE_HOUR),
        "interruptible": lambda row: "" if row.kind == "gpu" else dollars(row, INTERRUPTIBLE_CORE_HOUR),
    }
    return _table(
        measured_rates(),
        columns,
        "Rates are those of the first table of benchmarks/README.md. Core-hours and dollars have "
        f"{MARGIN:.0%} on top, for retries, stragglers and what does not scale.",
        f"Assumed prices, not quotes: ${ON_DEMAND_CORE_HOUR:.2f} a core-hour on demand, ${INTERRUPTIBLE_CORE_HOUR:.2f} "
        f"interruptible, ${GPU_HOUR:.2f} an hour for a machine with one GPU.",
    )


def machines_line() -> str:
    """Which machine, commit and day each kind of processor stands for."""
    found = kinds()
    results = found | {"GPU" if "amx" in found else "AMX and GPU": load("gpu")}
    return "\n".join(f"- {KINDS.get(kind, kind)}: {where(result)}" for kind, result in results.items())


def _table(rows: list[Measured], columns: Mapping[str, Callable[[Measured], str]], *notes: str) -> Table:
    cells = (Row(tuple(cell(row) for cell in columns.values())) for row in rows)
    return Table(tuple(columns), tuple(cells), notes, words=("precision", "fastest other library in this precision"))
