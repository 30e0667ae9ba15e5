"""Annotated claim-evidence pairs: read from Parquet, checked, one record a claim."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pairscore.runtime.errors import PairscoreError

CLAIM, EVIDENCE, LABEL = "claim", "evidence", "relevant"


@dataclass(frozen=True)
class Claim:
    """A claim and the sentences annotated for it, each sentence once, in file order.

    `relevant`: sentences that bear on the claim, at least one. `irrelevant`: sentences that an annotator read and
    rejected.
    """

    text: str
    relevant: tuple[str, ...]
    irrelevant: tuple[str, ...]

    @property
    def annotated(self) -> frozenset[str]:
        """Every sentence that somebody annotated for this claim."""
        return frozenset(self.relevant + self.irrelevant)


@dataclass(frozen=True)
class Annotations:
    """The claims of some files, and their unique evidence sentences in file order."""

    claims: tuple[Claim, ...]
    evidence: tuple[str, ...]

    @property
    def relevant_pairs(self) -> int:
        """How many relevant sentences all claims have together."""
        return sum(len(claim.relevant) for claim in self.claims)


def read_annotations(files: Sequence[str | Path]) -> Annotations:
    """Read Parquet files with the columns `claim`, `evidence` and `relevant`.

    `relevant` is a truth value or a number in [0, 1]; from 0.5 on a sentence counts as relevant. Rows with the
    same claim text belong to one claim; a sentence that one row calls relevant is relevant.

    Raises PairscoreError for a missing file, column or value, an empty file, a label outside [0, 1], and a
    claim without relevant evidence.
    """
    labels: dict[str, dict[str, bool]] = {}
    sentences: dict[str, None] = {}
    origin: dict[str, Path] = {}
    for file in files:
        path = Path(file)
        claims, evidence, relevant = _columns(path)
        for claim, sentence, label in zip(claims, evidence, relevant, strict=True):
            of_claim = labels.setdefault(claim, {})
            of_claim[sentence] = of_claim.get(sentence, False) or label
            sentences.setdefault(sentence)
            origin.setdefault(claim, path)
    return Annotations(
        claims=tuple(_claim(text, of_claim, origin[text]) for text, of_claim in labels.items()),
        evidence=tuple(sentences),
    )


def read_evidence(files: Sequence[str | Path]) -> tuple[str, ...]:
    """The unique evidence sentences of Parquet files, in file order; only the column `evidence` is needed.

    Raises PairscoreError for a missing file, column or value, and an empty file.
    """
    sentences: dict[str, None] = {}
    for file in files:
        path = Path(file)
        sentences.update(dict.fromkeys(_texts(_read(path, (EVIDENCE,)).column(EVIDENCE), EVIDENCE, path)))
    return tuple(sentences)


def read_texts(file: Path, columns: Sequence[str]) -> list[list[str]]:
    """Columns of text of one Parquet file. Raises PairscoreError as `read_annotations` does."""
    table = _read(file, columns)
    return [_texts(table.column(name), name, file) for name in columns]


def _claim(text: str, labels: dict[str, bool], path: Path) -> Claim:
    relevant = tuple(sentence for sentence, label in labels.items() if label)
    if not relevant:
        raise PairscoreError(
            f"{str(path)!r}: claim {_shortened(text)!r} has no relevant evidence: mark a sentence as relevant or "
            "leave the claim out"
        )
    return Claim(text, relevant, tuple(sentence for sentence, label in labels.items() if not label))


def _columns(path: Path) -> tuple[list[str], list[str], list[bool]]:
    table = _read(path, (CLAIM, EVIDENCE, LABEL))
    claims, evidence = (_texts(table.column(name), name, path) for name in (CLAIM, EVIDENCE))
    return claims, evidence, _labels(table.column(LABEL), path)


def _read(path: Path, columns: Sequence[str]) -> pa.Table:
    if not path.is_file():
        raise PairscoreError(f"no file at {str(path)!r}: give Parquet files of annotated pairs")
    try:
        schema = pq.read_schema(path)
        missing = [name for name in columns if name not in schema.names]
        if missing:
            raise PairscoreError(
                f"{str(path)!r} has no column {missing[0]!r} (it has {', '.join(schema.names)}): rename yours to "
                f"{', '.join(columns)}"
            )
        table = pq.read_table(path, columns=list(columns))
    except pa.ArrowInvalid as error:
        raise PairscoreError(f"{str(path)!r} is not a Parquet file ({error}): convert it to Parquet") from error
    if not table.num_rows:
        raise PairscoreError(f"{str(path)!r} has no rows: give files that hold annotated pairs")
    for name in columns:
        if table.column(name).null_count:
            row = pc.index(table.column(name).is_null(), True).as_py()
            raise PairscoreError(f"{str(path)!r}: row {row} has no {name!r}: fill it or leave the row out")
    return table


def _texts(column: pa.ChunkedArray, name: str, path: Path) -> list[str]:
    try:
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
            raise PairscoreError(f"{str(path)!r}: column {name!r} is of type {kind}, not text: cast it to string")
        values: list[str] = column.cast(pa.string()).to_pylist()
    except pa.ArrowInvalid as error:
        raise PairscoreError(f"{str(path)!r}: column {name!r} is not text ({error}): cast it to string") from error
    return values


def _labels(column: pa.ChunkedArray, path: Path) -> list[bool]:
    kind = column.type
    if not (pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise PairscoreError(
            f"{str(path)!r}: column {LABEL!r} is of type {kind}: labels are truth values or numbers in [0, 1]"
        )
    values: list[Any] = column.to_pylist()
    for row, value in enumerate(values):
        if not 0 <= value <= 1:  # also catches NaN
            raise PairscoreError(
                f"{str(path)!r}: row {row} has the label {value}, outside [0, 1]: 1 is relevant, 0 is not"
            )
    return [value >= 0.5 for value in values]


def _shortened(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
