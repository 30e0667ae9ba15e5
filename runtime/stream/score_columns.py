"""The columns that scoring appends to a table: the scores, and what was asked for beside them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.stream.passages import OVERLAP, LongEvidence, characters, choose_long_evidence, label_place
from pairscore.runtime.stream.pipeline import Scored
from pairscore.runtime.text.tokenizer import PairTokenizer
from pairscore.runtime.types import FloatArray, Int32Array, Int64Array

PASSAGE_COLUMNS = ("passage_begin", "passage_end")


@dataclass(frozen=True)
class Outcome:
    """What is known of the rows that have a pair. `scores`: Shape (pairs, labels). `truncated`: Shape (pairs,).

    `passages`: where the best passage begins and ends, in characters, Shape (pairs, 2); None where nobody asked.
    """

    scores: FloatArray
    truncated: npt.NDArray[np.bool_]
    passages: Int64Array | None = None

    def of(self, rows: npt.NDArray[np.bool_]) -> "Outcome":
        """The outcome of some of the rows, Shape (pairs,) true for those."""
        return Outcome(self.scores[rows], self.truncated[rows], None if self.passages is None else self.passages[rows])

    def fill(self, rows: npt.NDArray[np.bool_], other: "Outcome") -> None:
        """Put the outcome of other pairs where `rows`, Shape (pairs,), is true."""
        self.scores[rows] = other.scores
        self.truncated[rows] = other.truncated
        if self.passages is not None and other.passages is not None:
            self.passages[rows] = other.passages


@dataclass(frozen=True)
class ScoreColumns:
    """The new columns, in their order: a score a label, the label with the largest score, whether the pair was cut,
    where its best passage lies. `long`: how evidence that does not fit is split; None to cut it. `rank_by`: the place
    of the label that rows and passages are ranked by; None where it was not named.
    """

    labels: tuple[str, ...]
    score: str = "score"
    prediction: str | None = None
    truncated: str | None = None
    passages: bool = False
    long: LongEvidence | None = None
    rank_by: int | None = None

    @property
    def score_fields(self) -> list[pa.Field]:
        """One float32 field for one label, else one a label: `score_<label>`."""
        one = len(self.labels) == 1
        names = [self.score] if one else [f"{self.score}_{label}" for label in self.labels]
        return [pa.field(name, pa.float32()) for name in names]

    @property
    def fields(self) -> list[pa.Field]:
        """All of them."""
        return [
            *self.score_fields,
            *([pa.field(self.prediction, pa.string())] if self.prediction else []),
            *([pa.field(self.truncated, pa.bool_())] if self.truncated else []),
            *(pa.field(name, pa.int32()) for name in PASSAGE_COLUMNS if self.passages),
        ]

    def check(self, schema: pa.Schema, spelled: Callable[[str], str] = str) -> None:
        """Raise PairscoreError where the input, or another new column, has one of the names, `spelled` as there."""
        taken = list(schema.names)
        for field in self.fields:
            if spelled(field.name) in taken:
                option = {self.prediction: "--prediction-column", self.truncated: "--truncated-column"}.get(field.name)
                remedy = f"use {option or '--score-column'} NAME"
                if field.name in PASSAGE_COLUMNS and option is None:
                    remedy = "rename it, or leave out --passage-columns"
                raise PairscoreError(f"the input already has a column {spelled(field.name)!r}: {remedy}")
            taken.append(spelled(field.name))

    @property
    def number_fields(self) -> list[pa.Field]:
        """The new columns that do not follow from the scores, as whole numbers."""
        return [field for field in self.fields if field.type in (pa.bool_(), pa.int32())]

    def from_numbers(self, scores: FloatArray, numbers: Int32Array) -> Outcome:
        """The outcome from scores and `number_fields`. numbers: Shape (pairs, fields)."""
        truncated = numbers[:, 0].astype(bool) if self.truncated else np.zeros(len(scores), dtype=bool)
        return Outcome(scores, truncated, numbers[:, -2:].astype(np.int64) if self.passages else None)

    def outcome(
        self,
        scored: Scored[Any],
        activate: Callable[[FloatArray], FloatArray],
        evidence: pa.StringArray,
        tokenizer: PairTokenizer,
    ) -> Outcome:
        """The outcome of a window. evidence: the window's own, for the characters of passages."""
        found = None
        if self.passages and scored.passages is not None:
            found = characters(scored.passages, activate(scored.computed), scored.pair_of, evidence, tokenizer)
        return Outcome(scored.scores(activate), scored.truncated, found)

    def append(self, table: pa.Table, outcome: Outcome, valid: pa.BooleanArray) -> pa.Table:
        """`table` with the new columns. valid: Shape (rows,), the rows that have a pair; the others get null."""
        places = np.cumsum(valid.to_numpy(zero_copy_only=False)) - 1
        rows = pa.array(places, mask=~valid.to_numpy(zero_copy_only=False))
        columns: list[pa.Array] = [pa.array(outcome.scores[:, label]) for label in range(len(self.labels))]
        if self.prediction:
            names = pa.array(self.labels, pa.string())
            columns.append(names.take(pa.array(outcome.scores.argmax(axis=1))))
        if self.truncated:
            columns.append(pa.array(outcome.truncated))
        if self.passages and outcome.passages is not None:
            columns += [pa.array(outcome.passages[:, side]).cast(pa.int32()) for side in (0, 1)]
        for field, column in zip(self.fields, columns, strict=True):
            table = table.append_column(field, column.take(rows))
        return table


def score_columns(
    labels: Sequence[str],
    *,
    score_column: str = "score",
    prediction_column: str | None = None,
    truncated_column: str | None = None,
    long_evidence: str = "cut",
    overlap: int = OVERLAP,
    combine: str = "max",
    rank_by: str | None = None,
    passage_columns: bool = False,
) -> ScoreColumns:
    """What the options ask for: see `ColumnOptions`. Raises PairscoreError for options that do not go together."""
    long = choose_long_evidence(long_evidence, overlap, combine, rank_by, labels)
    if passage_columns and long is None:
        raise PairscoreError("--passage-columns says where the best passage lies: give --long-evidence split with it")
    if prediction_column and len(labels) == 1:
        raise PairscoreError(
            f"--prediction-column {prediction_column!r} names the label with the largest score, and this model has one "
            "label: compare its score with a threshold instead"
        )
    place = None if rank_by is None else label_place(rank_by, labels)
    return ScoreColumns(tuple(labels), score_column, prediction_column, truncated_column, passage_columns, long, place)
