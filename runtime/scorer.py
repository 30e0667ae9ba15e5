"""`Scorer` turns pairs into scores; everything that scores goes through it.

    scorer = Scorer.from_pretrained("bundle")
    scorer.predict([("The sea rises.", "Tide gauges show a rise of 20 cm since 1900.")])

Every method goes through `Scorer.stream`: windows of pairs in, logits out, in order.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar, Unpack

import numpy as np
import pyarrow as pa

from pairscore.runtime.arguments import argument_types, python_call, python_names
from pairscore.runtime.bundle.activation import Activation, choose_activation
from pairscore.runtime.bundle.hub import find_bundle
from pairscore.runtime.bundle.manifest import Bundle
from pairscore.runtime.drop_in import Keywords, NoModelCard, PredictOptions, given_pairs
from pairscore.runtime.engines.protocol import Engine, EngineOptions
from pairscore.runtime.engines.registry import is_installed, open_variant
from pairscore.runtime.engines.several_devices import SpreadEngine
from pairscore.runtime.engines.tuning_cache import TunedSetting, load_tuned
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.stream.batching import TokenizedPairs, tokenize_pairs
from pairscore.runtime.stream.columns import (
    WINDOW_BYTES,
    WINDOW_PAIRS,
    ColumnOptions,
    NewColumnOptions,
    check_text_columns,
    open_stream,
    pair_arrays,
    text_pair,
    windows,
)
from pairscore.runtime.stream.exact_best import exact_best
from pairscore.runtime.stream.golden_replay import replay_golden_rows
from pairscore.runtime.stream.pairs import PAIR_COLUMNS, pair_rows
from pairscore.runtime.stream.passages import OVERLAP, LongEvidence, choose_long_evidence, label_place
from pairscore.runtime.stream.pipeline import Scored, Window, stream
from pairscore.runtime.stream.score_columns import score_columns
from pairscore.runtime.stream.scored_reader import ScoredReader
from pairscore.runtime.text.tokenizer import PairTokenizer
from pairscore.runtime.types import FloatArray

T = TypeVar("T")
PairOfTexts = Sequence[str]
# A table, its rows' evidence where both texts are there, and which rows those are.
_Prepared = tuple[pa.Table, pa.StringArray, pa.BooleanArray]


@dataclass(frozen=True, eq=False)
class Scorer:
    """A bundle's variant, opened on one engine and device. Safe to call from several threads.

    `tuned`: the choice of `pairscore tune` that the engine was opened with. `window_pairs`, `window_bytes`: how much of
    a table or a list of pairs is sorted by length and held in memory together. `activation`: what turns logits into
    scores; None for the checkpoint's. `opened_as`: arguments of `from_pretrained` that open the same again.

    It can be pickled, and used in a `with` block.
    """

    bundle: Bundle
    precision: str
    engine: Engine
    tokenizer: PairTokenizer
    tuned: TunedSetting | None = None
    window_pairs: int = WINDOW_PAIRS
    window_bytes: int = WINDOW_BYTES
    activation: Activation | None = None
    opened_as: Mapping[str, Any] = field(default_factory=dict, repr=False)
    _exact: dict[str, "Scorer"] = field(default_factory=dict, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy opens the bundle again, also in another process, with the same engine and options."""
        digest = self.bundle.digest(self.precision)
        return _opened_again, (dict(self.opened_as), digest, self.window_pairs, self.window_bytes, self.activation)

    def __enter__(self) -> "Scorer":
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the engine, its threads and its memory; the scorer scores no more."""
        object.__setattr__(self, "engine", _Closed())

    @staticmethod
    @python_call(max_length=1, threads=1)
    def from_pretrained(
        bundle: str | Path,
        *,
        revision: str | None = None,
        precision: str = "fp32",
        engine: str = "auto",
        device: str = "cpu",
        max_length: int | None = None,
        threads: int | None = None,
        options: EngineOptions | None = None,
        tuning: bool | TunedSetting = True,
        activation: str | None = None,
    ) -> "Scorer":
        """Open a bundle made by `pairscore export`: a folder, or an id of the Hugging Face hub.

        `revision`: branch, tag or commit, where `bundle` is the id of one on the Hugging Face hub.

        `max_length`: tokens a pair is truncated to, specials included; at most the bundle's, which is the
        default. `device`: cpu, cuda, cuda:N, or several GPUs as cuda:0,cuda:1. `threads`: cores that a CPU engine
        computes on; by default all that this process may use. `options`: how the engine uses them, in place of
        `threads`. `tuning`: where no engine is named, take what `pairscore tune` chose on this machine; or a choice
        to take instead. `activation`: what turns logits into scores, in place of the checkpoint's: "identity" (scores
        are logits), "sigmoid", "softmax", or "calibrated" (see `pairscore calibrate`).

        Raises PairscoreError for a folder that is no bundle, a changed file, a precision that the bundle lacks, an
        engine or device that is not there, and a machine on which the golden rows come out different from PyTorch.
        """
        opened = Bundle.open(find_bundle(bundle, revision, (precision,)))
        manifest = opened.manifest
        variant = opened.variant(precision)
        if max_length is not None and max_length > manifest.max_length:
            raise PairscoreError(
                f"max length {max_length} is more than this bundle's {manifest.max_length}: use at most that"
            )
        chosen = choose_activation(activation, manifest.activation, variant.scaling)
        tokenizer = PairTokenizer.of_bundle(opened)
        given_options = options
        tuned = tuning if isinstance(tuning, TunedSetting) else None
        if tuning is True and engine == "auto" and options is None:
            tuned = load_tuned(opened.digest(precision), device.partition(":")[0], threads)
        if tuned is not None and tuned.engine in variant.engines and is_installed(tuned.engine):
            engine, options = tuned.engine, tuned.options(threads)
        else:
            tuned = None
        runner = open_variant(opened, variant, engine, device, options or EngineOptions(threads=threads))
        for member in runner.members if isinstance(runner, SpreadEngine) else (runner,):
            replay_golden_rows(opened, precision, tokenizer, member)
        if max_length is not None and max_length != manifest.max_length:
            tokenizer = PairTokenizer.of_bundle(opened, max_length)
        again = {
            "bundle": str(Path(bundle).absolute() if Path(bundle).exists() else bundle),
            "revision": revision,
            "precision": precision,
            "engine": runner.name,
            "device": device,
            "max_length": max_length,
            "threads": threads,
            "options": given_options,
            "tuning": tuned or False,
        }
        return Scorer(opened, precision, runner, tokenizer, tuned, activation=chosen, opened_as=again)

    @property
    def labels(self) -> tuple[str, ...]:
        """The model's labels, one score each."""
        return self.bundle.manifest.labels

    @property
    def model_card_data(self) -> NoModelCard:
        """What the evaluators of sentence-transformers ask of a model beside `predict`."""
        return NoModelCard()

    @property
    def max_length(self) -> int:
        """Tokens that a pair is truncated to, special tokens included."""
        return self.tokenizer.max_length

    @python_call()
    def predict(
        self,
        inputs: Any = None,
        batch_size: int | None = None,
        *,
        activation: str | None = None,
        long_evidence: Literal["cut", "split"] = "cut",
        overlap: int = OVERLAP,
        combine: Literal["max", "mean"] = "max",
        rank_by: str | None = None,
        **keywords: Unpack[Keywords],
    ) -> Any:
        """Score pairs as `sentence_transformers.CrossEncoder.predict` does.

        `inputs`, which earlier releases of CrossEncoder call `sentences`: any iterable of (claim, evidence), one such
        pair, or a table or frame with the columns claim and evidence. `batch_size`: at most so many pairs are computed
        at once; scores do not depend on it. `activation`: in place of the scorer's own; "identity" gives logits.
        `long_evidence`, `overlap`, `combine`, `rank_by`: see `ColumnOptions`; an `activation_fn` is then called with
        the logits of a window's passages. `keywords`: those of CrossEncoder; `PredictOptions` says what each does.

        Returns float32 of Shape (pairs,), or (pairs, labels) for a multi-label model; for a single pair that
        row alone. Raises PairscoreError for anything that is not a pair of strings, and for a keyword that means
        nothing here.
        """
        given: dict[str, Any] = {"batch_size": batch_size, **keywords}
        pairs = given_pairs(inputs, given)
        options = PredictOptions.of("predict", given)
        if activation is not None and options.activation_fn is not None:
            raise PairscoreError("activation and activation_fn are two names of one thing: give one of them")
        rows, single = pair_rows(pairs)
        if not rows:
            return options.converted(np.asarray([]))  # as CrossEncoder returns it
        chosen = self.chosen_activation if activation is None else self._chosen(activation)
        long = choose_long_evidence(long_evidence, overlap, combine, rank_by, self.labels)
        activate = partial(options.scores, chosen)
        with options.progress(len(rows)) as on_progress:
            parts = self.stream_pairs(rows, on_progress, options.batch_size, long)
            if long is None:
                scores = activate(np.concatenate([scored.logits for scored in parts]))
            else:
                scores = np.concatenate([scored.scores(activate) for scored in parts])
        result = options.converted(scores[:, 0] if len(self.labels) == 1 else scores)
        return result[0] if single else result

    @python_call(top_k=0)
    def rank(
        self,
        query: str,
        documents: Sequence[str],
        top_k: int | None = None,
        return_documents: bool = False,
        *,
        rank_by: str | None = None,
        activation: str | None = None,
        long_evidence: Literal["cut", "split"] = "cut",
        overlap: int = OVERLAP,
        combine: Literal["max", "mean"] = "max",
        batch_size: int | None = None,
        refine: str | None = None,
        **keywords: Unpack[Keywords],
    ) -> list[dict[str, Any]]:
        """Documents by falling score, as `sentence_transformers.CrossEncoder.rank` gives them.

        `rank_by`: the label whose score ranks, where the model has several. `refine`: a more exact precision of the
        bundle. The documents that may be among the best `top_k` are scored again in it, and the result is the one that
        it gives. The other keywords: those of `predict`.

        Each result has `corpus_id`, `score` (an element of what `predict` gives) and, if asked for, `text`. Raises
        PairscoreError for a model with several labels without `rank_by`.
        """
        if len(self.labels) != 1 and rank_by is None:
            raise PairscoreError(
                f"rank needs one score a document, and this model has {len(self.labels)} labels: name one of "
                f"{', '.join(self.labels)} with rank_by, or use predict"
            )
        place = label_place(rank_by, self.labels)
        PredictOptions.of("rank", {"batch_size": batch_size, **keywords})
        if refine is not None:
            more = {"rank_by": rank_by, "activation": activation, "combine": combine, "batch_size": batch_size}
            more |= {"long_evidence": long_evidence, "overlap": overlap, "return_documents": return_documents}
            return self._rank_refined(query, documents, top_k, refine, {**more, **keywords})
        scores = self.predict(
            [(query, document) for document in documents],
            batch_size,
            activation=activation,
            long_evidence=long_evidence,
            overlap=overlap,
            combine=combine,
            rank_by=rank_by,
            **keywords,
        )
        if len(self.labels) != 1 and len(documents):
            scores = scores[:, place]
        results = [{"corpus_id": place, "score": score} for place, score in enumerate(scores)]
        if return_documents:
            results = [{**result, "text": document} for result, document in zip(results, documents, strict=True)]
        return sorted(results, key=lambda result: result["score"], reverse=True)[:top_k]

    def _rank_refined(
        self, query: str, documents: Sequence[str], top_k: int | None, refine: str, keywords: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """`rank` with `refine`. keywords: the others of `rank`."""
        if top_k is None or top_k < 1:
            raise PairscoreError(f"refine {refine!r} is of the best documents: say how many with top_k")
        if len(self.labels) != 1 or (keywords["long_evidence"] == "split" and keywords["combine"] == "mean"):
            raise PairscoreError(f"refine {refine!r} needs a model of one label, and passages combined with max")
        if not len(documents):
            return []
        if refine not in self._exact:
            again = {**self.opened_as, "precision": refine, "engine": "auto", "options": None, "tuning": False}
            self._exact[refine] = replace(Scorer.from_pretrained(**again), activation=self.activation)
        exact = self._exact[refine]
        same = {name: keywords[name] for name in ("long_evidence", "overlap", "combine", "batch_size")}

        def logits(scorer: Scorer, rows: Iterable[int]) -> FloatArray:
            pairs = [(query, documents[row]) for row in rows]
            found: FloatArray = scorer.predict(pairs, activation="identity", **same)
            return found

        first = logits(self, range(len(documents)))
        difference = self.bundle.largest_difference(self.precision, refine)
        chosen = self.chosen_activation if keywords["activation"] is None else self._chosen(keywords["activation"])
        rows = exact_best(first, top_k, difference, lambda rows: logits(exact, rows.tolist()), chosen)
        places: list[int] = rows.tolist()
        best = exact.rank(query, [documents[row] for row in places], **keywords)
        return [{**each, "corpus_id": places[each["corpus_id"]]} for each in best]

    def score_table(self, table: pa.Table, **options: Unpack[ColumnOptions]) -> pa.Table:
        """`table` with its scores appended: float32 `score`, or `score_<label>` for each of several labels."""
        return self.score_batches(table, **options).read_all()

    @python_call()
    def score_batches(
        self,
        stream: Any,
        *,
        claim_column: str = "claim",
        evidence_column: str = "evidence",
        on_null: Literal["error", "null"] = "error",
        on_invalid_utf8: Literal["error", "null"] = "error",
        **more: Unpack[NewColumnOptions],
    ) -> ScoredReader:
        """A lazy reader over `stream` with its scores appended; rows and order are kept. Options: see `ColumnOptions`.

        stream: anything with the Arrow C stream interface (a pyarrow Table or RecordBatchReader, a Polars or
        pandas frame, a DuckDB relation). It is read as the result is, a window ahead; at most a few windows are
        in memory at once. Closing the result, or dropping it, ends the threads and closes `stream`.
        """
        reader = open_stream(stream)
        columns = (claim_column, evidence_column)
        check_text_columns(reader.schema, *columns)
        new = score_columns(self.labels, **more)
        new.check(reader.schema)

        def prepared() -> Iterator[Window[_Prepared]]:
            first_row = 0
            for table in self._cut(reader, columns):
                row_name = partial(_row_name, first_row)
                claims, evidence, valid = text_pair(table, columns, on_null, on_invalid_utf8, row_name)
                yield Window(claims, evidence, (table, evidence, valid))
                first_row += table.num_rows

        def scored() -> Generator[pa.RecordBatch, None, None]:
            kinds = argument_types(Scorer.score_batches)
            with python_names(kinds), closing(reader), closing(self.stream(prepared(), long=new.long)) as results:
                for each in results:
                    table, evidence, valid = each.payload
                    outcome = new.outcome(each, self.scores, evidence, self.tokenizer)
                    yield from new.append(table, outcome, valid).to_batches()

        schema = pa.schema([*reader.schema, *new.fields], metadata=reader.schema.metadata)
        return ScoredReader(schema, scored())

    def scores(self, logits: FloatArray) -> FloatArray:
        """The activation applied. logits and result: Shape (pairs, labels)."""
        return self.chosen_activation(logits)

    @property
    def chosen_activation(self) -> Activation:
        """What turns logits into scores."""
        return self.activation or self._chosen(None)

    def _chosen(self, activation: str | None) -> Activation:
        variant = self.bundle.manifest.variants.get(self.precision)
        scaling = None if variant is None else variant.scaling
        return choose_activation(activation, self.bundle.manifest.activation, scaling)

    def tokenize(self, pairs: Sequence[PairOfTexts], long: LongEvidence | None = None) -> TokenizedPairs:
        """Tokenize each unique text once."""
        return tokenize_pairs(self.tokenizer, *pair_arrays(pairs), long)

    def stream_pairs(
        self,
        pairs: Sequence[PairOfTexts],
        on_progress: Callable[[int, int], None] | None = None,
        batch_size: int | None = None,
        long: LongEvidence | None = None,
    ) -> Generator[Scored[None], None, None]:
        """Score pairs, in order, a window at a time."""
        table = pa.table(pair_arrays(pairs), PAIR_COLUMNS)
        cut = self._cut(table.to_batches(), PAIR_COLUMNS)
        ready = (Window(*text_pair(piece, PAIR_COLUMNS)[:2], None) for piece in cut)
        return self.stream(ready, on_progress=on_progress, batch_size=batch_size, long=long)

    def stream(
        self,
        windows_in: Iterable[Window[T]],
        *,
        on_tokenized: Callable[[T, int], None] | None = None,
        on_progress: Callable[[int, int], None] | None = None,
        batch_size: int | None = None,
        long: LongEvidence | None = None,
    ) -> Generator[Scored[T], None, None]:
        """Score windows, in order, overlapping: see `pairscore.runtime.stream.pipeline.stream`."""
        return stream(
            windows_in,
            self.tokenizer,
            self.engine,
            len(self.labels),
            on_tokenized=on_tokenized,
            on_progress=on_progress,
            batch_size=batch_size,
            long=long,
        )

    def _cut(self, batches: Iterable[pa.RecordBatch], columns: Sequence[str]) -> Iterator[pa.Table]:
        return windows(batches, columns, self.window_pairs, self.window_bytes)


def _opened_again(
    arguments: dict[str, Any], digest: str, window_pairs: int, window_bytes: int, activation: Activation | None
) -> Scorer:
    """The scorer that was pickled. Raises PairscoreError where its bundle is not there, or is another one by now."""
    if not arguments:
        raise PairscoreError("this scorer was put together by hand: pickle one from Scorer.from_pretrained")
    scorer = Scorer.from_pretrained(**arguments)
    if scorer.bundle.digest(scorer.precision) != digest:
        raise PairscoreError(
            f"bundle {arguments['bundle']!r} has changed since this scorer was pickled: open it with "
            "Scorer.from_pretrained instead"
        )
    return replace(scorer, window_pairs=window_pairs, window_bytes=window_bytes, activation=activation)


class _Closed:
    """The engine of a scorer whose `with` block has ended."""

    def __getattr__(self, name: str) -> Any:
        raise PairscoreError("this scorer was closed at the end of its `with` block: open another one")


def _row_name(first_row: int, row: int) -> str:
    return f"row {first_row + row}"
