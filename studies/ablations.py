"""What each idea buys: pairs per second with everything on, and with one idea switched off at a time.

    python -m studies.ablations --checkpoint models/climate-claims-minilm-l6 \
        --pairs ../shared/climate-fever/train.parquet --bundle out/bundle --output benchmarks/results/ablations.json

All settings run in one process, in turns, on ONNX Runtime in fp32; a ratio divides two median runs. All of them
score the same pairs, and after timing their logits have to agree. `--bundle` adds that bundle's other precisions and
engines, which have to keep the bundle's promises.
"""

import statistics
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from pairscore import Scorer
from pairscore.benchmarks.samples import sample
from pairscore.export.bundle import export_bundle
from pairscore.export.checkpoint import open_checkpoint
from pairscore.export.graphs.exporter import export_graph
from pairscore.export.model import load_model
from pairscore.runtime.bundle.activation import activate
from pairscore.runtime.bundle.manifest import Bundle, Manifest
from pairscore.runtime.bundle.parity import compare
from pairscore.runtime.engines.batch import Batch
from pairscore.runtime.engines.registry import is_installed
from pairscore.runtime.machine import available_cores
from pairscore.runtime.pairs_file import read_pairs
from pairscore.runtime.stream.batching import plan_batches
from pairscore.runtime.types import Int64Array, Pair
from studies.harness import study_options, study_result, time_in_turns, write_result

MAX_DIFFERENCE = 1e-4
Ints = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Setting:
    """`batches`: how pairs are grouped. `window`: pairs sorted together. `token_budget`: tokens in a batch.

    `unique_texts`: tokenize each text once. `unique_pairs`: score each pair once. `first_row_only`: the rewritten
    graph. `threads_per_batch`: cores that share a batch; as many batches are computed at once as that leaves.
    `precision`, `engine`: what computes: all but fp32 on ONNX Runtime come from another bundle.
    """

    name: str
    batches: str = "one length"
    window: int = 65_536
    token_budget: int = 1024
    unique_texts: bool = True
    unique_pairs: bool = True
    first_row_only: bool = True
    threads_per_batch: int = 1
    precision: str = "fp32"
    engine: str = "onnxruntime"


EVERYTHING = Setting("everything on")


def settings(cores: int, manifest: Manifest | None = None) -> list[Setting]:
    """The settings: the baseline, one for each idea that is switched off, and the other precisions of a bundle."""
    found = [
        EVERYTHING,
        replace(EVERYTHING, name="sorted by tokens, padded to the batch's longest", batches="tokens"),
        replace(EVERYTHING, name="sorted by characters, padded", batches="characters"),
        replace(EVERYTHING, name="in the order given, padded", batches="given"),
        *(replace(EVERYTHING, name=f"windows of {size} pairs", window=size) for size in (64, 256)),
        *(replace(EVERYTHING, name=f"batches of {size:,} tokens", token_budget=size) for size in (256, 4096, 16_384)),
        replace(EVERYTHING, name="every text of every pair tokenized", unique_texts=False),
        replace(EVERYTHING, name="repeated pairs scored again", unique_pairs=False),
        replace(EVERYTHING, name="the unmodified graph: all rows of the last layer", first_row_only=False),
    ]
    if cores > 1:
        found.append(replace(EVERYTHING, name=f"one batch at a time on {cores} threads", threads_per_batch=cores))
    if manifest is not None:
        found += [
            replace(EVERYTHING, name=f"{precision} on {engine}", precision=precision, engine=engine)
            for precision, variant in manifest.variants.items()
            for engine in variant.engines
            if (precision, engine) != (EVERYTHING.precision, EVERYTHING.engine) and is_installed(engine)
        ]
    return found


def main() -> None:
    """Measure, compare the logits, and write the JSON."""
    parser = study_options(__doc__)
    parser.add_argument("--bundle", type=Path, help="of the same checkpoint, with more precisions")
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeated", type=float, default=0.2, help="share of pairs that occur a second time")
    options = parser.parse_args()
    all_pairs = read_pairs(options.pairs, "claim", "evidence")
    pairs = [all_pairs[row] for row in sample(all_pairs, options.limit)]
    pairs += pairs[: round(options.repeated * len(pairs))]
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(options.checkpoint, options.bundle, pairs, options.rounds, Path(folder))
    data = {"pairs": len(pairs), "repeated": options.repeated}
    result = study_result(options, data, rounds=options.rounds, statistic="median", settings=measured)
    write_result(options.output, result)
    for each in measured:
        print(f"{each['name']:52} {each['pairs_per_second']:8.1f} pairs/s  x {each['ratio']:.2f}")


def measure(checkpoint: Path, more: Path | None, pairs: list[Pair], rounds: int, folder: Path) -> list[dict[str, Any]]:
    """Seconds, rates and ratios to everything on. `more`: the bundle whose other precisions are compared.

    Raises ValueError when two settings score differently, or that bundle is of another checkpoint.
    """
    opened = open_checkpoint(str(checkpoint))
    manifest = None if more is None else Bundle.open(more).manifest
    if manifest is not None and manifest.source.digest != opened.source.digest:
        raise ValueError(f"{str(more)!r} was not exported from {str(checkpoint)!r}")
    bundle = folder / "bundle"
    export_bundle(str(checkpoint), bundle)
    scorer = Scorer.from_pretrained(bundle, engine="onnxruntime")
    unmodified = export_graph(load_model(opened), folder / "unmodified")[0][0]
    graphs = {True: scorer.bundle.graph(scorer.bundle.variant("fp32")), False: unmodified}
    compared = settings(available_cores(), manifest)
    runs = {
        each.name: prepare(each, scorer, _computed_by(each, graphs[each.first_row_only], more)) for each in compared
    }
    seconds, logits = time_in_turns(runs, pairs, rounds)
    for each in compared:
        check(each, manifest, pairs, logits[each.name], logits[EVERYTHING.name])
    typical = {name: statistics.median_low(each) for name, each in seconds.items()}
    return [
        {
            "name": name,
            "seconds": seconds[name],
            "pairs_per_second": len(pairs) / each,
            "ratio": typical[EVERYTHING.name] / each,
        }
        for name, each in typical.items()
    ]


def check(
    setting: Setting,
    manifest: Manifest | None,
    pairs: list[Pair],
    logits: npt.NDArray[np.float32],
    expected: npt.NDArray[np.float32],
) -> None:
    """Raise ValueError where the logits, Shape (pairs,), differ by more than the setting's precision promises."""
    if manifest is None or setting.precision == EVERYTHING.precision:
        difference = float(np.abs(logits - expected).max())
        if not difference <= MAX_DIFFERENCE:
            raise ValueError(f"{setting.name!r} gives logits that differ by {difference:.2g}")
        return
    ours, theirs = logits[:, None], expected[:, None]
    scores, wanted = (activate(manifest.activation, values) for values in (ours, theirs))
    parity = compare(ours, theirs, scores, wanted, [claim for claim, _ in pairs])
    if broken := parity.violations(manifest.variants[setting.precision].tier):
        raise ValueError(f"{setting.name!r} breaks its promise: {'; '.join(broken)}")


@dataclass(frozen=True)
class Computer:
    """`compute`: from token ids and types of each pair to logits, Shape (pairs,). `callers`: threads that call it."""

    compute: Callable[[list[Ints], list[Ints]], npt.NDArray[np.float32]]
    callers: int


def _computed_by(setting: Setting, graph: Path, bundle: Path | None) -> Computer:
    """A session of its own, or, for another precision or engine, the bundle's."""
    if bundle is not None and (setting.precision, setting.engine) != (EVERYTHING.precision, EVERYTHING.engine):
        engine = Scorer.from_pretrained(bundle, precision=setting.precision, engine=setting.engine).engine

        def run(ids: list[Ints], types: list[Ints]) -> npt.NDArray[np.float32]:
            return engine.run(Batch(np.arange(len(ids)), np.stack(ids), np.stack(types)))[:, 0]

        return Computer(run, engine.callers)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = setting.threads_per_batch
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session: Any = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]

    def compute(ids: list[Ints], types: list[Ints]) -> npt.NDArray[np.float32]:
        longest = max(map(len, ids))
        feeds = {name: np.zeros((len(ids), longest), np.int64) for name in names}
        for row, (tokens, kinds) in enumerate(zip(ids, types, strict=True)):
            values = {"input_ids": tokens, "token_type_ids": kinds, "attention_mask": np.ones_like(tokens)}
            for name in names:
                feeds[name][row, : len(tokens)] = values[name]
        return np.asarray(session.run(None, feeds)[0], np.float32)[:, 0]

    return Computer(compute, max(1, available_cores() // setting.threads_per_batch))


def prepare(setting: Setting, scorer: Scorer, computer: Computer) -> Callable[[list[Pair]], npt.NDArray[np.float32]]:
    """A function from pairs to logits, Shape (pairs,), under this setting."""
    compute, callers = computer.compute, computer.callers

    def run(pairs: list[Pair]) -> npt.NDArray[np.float32]:
        logits = np.empty(len(pairs), np.float32)
        with ThreadPoolExecutor(callers) as pool:
            for start in range(0, len(pairs), setting.window):
                window = pairs[start : start + setting.window]
                different = list(dict.fromkeys(window)) if setting.unique_pairs else window
                ids, types = _tokenized(scorer, different, unique=setting.unique_texts)
                found = np.empty(len(different), np.float32)
                plan = _plan(setting, different, ids)
                batches = [pool.submit(compute, [ids[r] for r in rows], [types[r] for r in rows]) for rows in plan]
                for rows, batch in zip(plan, batches, strict=True):
                    found[rows] = batch.result()
                place = {pair: row for row, pair in enumerate(different)}
                of = [place[pair] for pair in window] if setting.unique_pairs else slice(None)
                logits[start : start + len(window)] = found[of]
        return logits

    return run


def _tokenized(scorer: Scorer, pairs: list[Pair], *, unique: bool) -> tuple[list[Ints], list[Ints]]:
    """Token ids and types of each pair. Without `unique`, each pair's texts are tokenized for it alone."""
    if not unique:
        parts = [_tokenized(scorer, [pair], unique=True) for pair in pairs]
        return [ids[0] for ids, _ in parts], [types[0] for _, types in parts]
    tokenized = scorer.tokenize(pairs)
    ids: list[Ints] = [np.empty(0, np.int32)] * len(tokenized)
    types = list(ids)
    for length in np.unique(tokenized.lengths):
        batch = tokenized.batch(np.flatnonzero(tokenized.lengths == length))
        for row, tokens, kinds in zip(batch.rows, batch.input_ids, batch.token_type_ids, strict=True):
            ids[row], types[row] = tokens, kinds
    return [ids[row] for row in tokenized.pair_of], [types[row] for row in tokenized.pair_of]


def _plan(setting: Setting, pairs: list[Pair], ids: list[Ints]) -> list[Int64Array]:
    """Rows of each batch. Padded batches hold as many pairs as keep batch size x longest within the budget."""
    lengths = np.array([len(each) for each in ids])
    if setting.batches == "one length":
        return plan_batches(lengths, setting.token_budget)
    keys = {
        "tokens": -lengths,
        "characters": np.array([-len(claim) - len(evidence) for claim, evidence in pairs]),
        "given": np.zeros(len(pairs)),
    }
    batches: list[list[int]] = [[]]
    longest = 0
    for row in np.argsort(keys[setting.batches], kind="stable"):
        longest = max(longest, int(lengths[row]))
        if batches[-1] and longest * (len(batches[-1]) + 1) > setting.token_budget:
            batches.append([])
            longest = int(lengths[row])
        batches[-1].append(int(row))
    return [np.array(rows, np.int64) for rows in batches]


if __name__ == "__main__":
    main()
