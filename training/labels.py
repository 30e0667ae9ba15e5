"""Pairs with one of several labels, and how often a model gives them the right one."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import confusion_matrix, f1_score

from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.types import Pair
from pairscore.training.annotations import CLAIM, EVIDENCE, read_texts


@dataclass(frozen=True)
class LabelledPairs:
    """Pairs in file order, and the label of each."""

    pairs: tuple[Pair, ...]
    labels: tuple[str, ...]

    @property
    def claims(self) -> int:
        """How many different claims there are."""
        return len({claim for claim, _ in self.pairs})


@dataclass(frozen=True)
class LabelFigures:
    """One system's predictions. `confusion`: a row for each true label, a column for each predicted one, both in the
    order of the labels. `f1`: of each label. `macro_f1`: their mean.
    """

    system: str
    accuracy: float
    macro_f1: float
    f1: dict[str, float]
    confusion: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class LabelEvaluation:
    """Systems compared on the same labelled pairs. `column`: where the labels stand in the files."""

    column: str
    labels: tuple[str, ...]
    pairs: int
    claims: int
    files: tuple[dict[str, str], ...]
    systems: tuple[LabelFigures, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def read_labelled(files: Sequence[str | Path], column: str, labels: Sequence[str]) -> LabelledPairs:
    """Read Parquet files with the columns `claim`, `evidence` and `column`, which holds one of `labels` a row.

    Raises PairscoreError for a missing file, column or value, an empty file, and a label that is none of `labels`.
    """
    pairs: list[Pair] = []
    found: list[str] = []
    for file in files:
        claims, evidence, given = read_texts(Path(file), (CLAIM, EVIDENCE, column))
        unknown = next((row for row, label in enumerate(given) if label not in labels), None)
        if unknown is not None:
            raise PairscoreError(
                f"{str(file)!r}: row {unknown} has the label {given[unknown]!r:.80}, which is none of "
                f"{', '.join(labels)}: rename it, or leave the row out"
            )
        pairs += zip(claims, evidence, strict=True)
        found += given
    return LabelledPairs(tuple(pairs), tuple(found))


def label_figures(
    system: str, predicted: npt.NDArray[np.int64], labelled: LabelledPairs, labels: Sequence[str]
) -> LabelFigures:
    """The figures of predictions. predicted: Shape (pairs,), places in `labels`."""
    true = np.array([list(labels).index(label) for label in labelled.labels])
    places = list(range(len(labels)))
    options: dict[str, Any] = {"labels": places, "average": None, "zero_division": 0}
    each: Any = f1_score(true, predicted, **options)
    return LabelFigures(
        system=system,
        accuracy=float((true == predicted).mean()),
        macro_f1=float(np.mean(each)),
        f1={label: float(value) for label, value in zip(labels, each, strict=True)},
        confusion=tuple(tuple(map(int, row)) for row in confusion_matrix(true, predicted, labels=places)),
    )


def most_frequent(labelled: LabelledPairs, labels: Sequence[str]) -> LabelFigures:
    """What always answering with the most frequent label gives."""
    label = Counter(labelled.labels).most_common(1)[0][0]
    always = np.full(len(labelled.pairs), list(labels).index(label))
    return label_figures(f"always {label}", always, labelled, labels)
