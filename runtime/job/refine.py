"""The exact best rows at the speed of a less exact variant: `--top-k K --refine fp32`.

Everything is scored by the first variant. Of each claim in a part, the rows that may be among the best are computed
again by the exact variant, and only those go on; so parts hold exact scores alone, and the best rows over all parts are
chosen as ever.

Which rows may be among the best: let no first logit be off by more than `d`, half the margin. The rows with the K best
first logits are computed first. The K-th best exact logit that is known then, F, is at most that of the claim. A row of
the exact best K has an exact logit of F or more, so its first logit is F - d or more: no other row is computed. As F is
at least the K-th best first logit less `d`, all of them lie within the margin, 2 d, of the K-th best first logit.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pairscore.runtime.bundle.activation import rounded_down
from pairscore.runtime.scorer import Scorer
from pairscore.runtime.spill.ranking import ranked
from pairscore.runtime.stream.pipeline import Scored, Window
from pairscore.runtime.stream.score_columns import Outcome, ScoreColumns

# Share of the rows outside the margin that are computed again, only to see how far the two scores are apart.
_SAMPLED = 0.002

Mask = npt.NDArray[np.bool_]


@dataclass
class Refined:
    """What was computed again. `rows`: how many, `sampled` of them outside the margin. `largest_difference`: of two
    logits of one row. `margin`: the widest that was used.
    """

    margin: float
    rows: int = 0
    sampled: int = 0
    largest_difference: float = 0.0

    def __str__(self) -> str:
        return (
            f"Computed {self.rows:,} rows again, {self.sampled:,} of them as a sample; the two logits of a row differ "
            f"by at most {self.largest_difference:.3f}, and the margin was {self.margin:.3f}"
        )


@dataclass(frozen=True)
class Refiner:
    """Computes again, part by part. `scorer`: of the exact variant. `margin`: of logits. `label`: the place of the one
    that ranks.
    """

    scorer: Scorer
    columns: ScoreColumns
    margin: float
    label: int
    top_k: int
    total: Refined = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "total", Refined(self.margin))

    def refine(  # noqa: PLR0917
        self,
        outcome: Outcome,
        first: Scored[Any],
        computed: Mask,
        exact: Mask,
        groups: npt.NDArray[np.int32],
        texts: tuple[pa.StringArray, pa.StringArray],
        seed: tuple[int, int],
    ) -> Mask:
        """Put exact scores into `outcome` for the rows that may be among the best of their group; which rows have them.

        first: the window of the rows that were computed in this run, `computed`. exact: the rows that had an exact
        score before. groups: of each row. texts: claims and evidence. All of Shape (pairs,).
        """
        scores = outcome.scores[:, self.label].copy()
        known, refined = exact.copy(), Refined(self.margin)
        first_logits = np.full(len(scores), np.nan)
        first_logits[computed] = first.logits[:, self.label]
        sample = np.random.default_rng(seed).random(len(scores)) < _SAMPLED

        def compute(near: Mask) -> bool:
            rows = near & ~known
            if rows.any():
                difference = self._compute(outcome, rows, texts, first_logits)
                refined.largest_difference = max(refined.largest_difference, difference)
                refined.rows += int(rows.sum())
                known[rows] = True
            return bool(rows.any())

        def within(difference: float) -> Mask:
            """The rows that may be among the best, if no first logit is off by more than `difference`."""
            limits = np.full(int(groups.max(initial=-1)) + 1, -np.inf)
            rows = np.flatnonzero(known)
            ranks = ranked([groups[rows]], outcome.scores[rows, self.label], self.top_k)
            last = rows[ranks == self.top_k]
            limits[groups[last]] = outcome.scores[last, self.label]
            reached: Mask = scores >= self._lowest(limits, difference)[groups]
            return reached

        compute(ranked([groups], scores, self.top_k) > 0)
        compute(within(self.margin / 4))  # which often raises the limit for the next
        near = within(self.margin / 2)
        refined.sampled = int((sample & ~near & ~known).sum())
        compute(near | sample)
        while 2 * refined.largest_difference > refined.margin:
            refined.margin = 2 * refined.largest_difference
            compute(within(refined.largest_difference))
        total = self.total
        total.rows += refined.rows
        total.sampled += refined.sampled
        total.margin = max(total.margin, refined.margin)
        total.largest_difference = max(total.largest_difference, refined.largest_difference)
        return known

    def _compute(
        self,
        outcome: Outcome,
        rows: Mask,
        texts: tuple[pa.StringArray, pa.StringArray],
        first_logits: npt.NDArray[np.float64],
    ) -> float:
        """Fill in the exact outcome of `rows`; the largest difference from a first logit."""
        claims, evidence = (each.filter(pa.array(rows)) for each in texts)
        (scored,) = self.scorer.stream([Window(claims, evidence, None)], long=self.columns.long)
        scorer = self.scorer
        outcome.fill(rows, self.columns.outcome(scored, scorer.scores, evidence, scorer.tokenizer))
        differences = np.abs(scored.logits[:, self.label] - first_logits[rows])
        return float(np.nanmax(differences, initial=0.0))

    def _lowest(self, limits: npt.NDArray[np.float64], distance: float) -> npt.NDArray[np.float64]:
        """The lowest score of a row whose logit lies at most `distance` below that of the row with a score in `limits`.

        Where scores are no function of one logit, a bound: an activation changes a score by no more than its steepest
        slope times the change of the logits.
        """
        activation, long = self.scorer.chosen_activation, self.columns.long
        if len(self.columns.labels) == 1 and (long is None or long.combine == "max"):
            return activation.lowest(limits, distance)
        steepest = {"identity": 1.0, "tanh": 1.0, "sigmoid": 0.25}.get(activation.name, 0.5)
        slope = activation.scaling.slope if activation.scaling else 1.0
        return rounded_down(limits - distance * steepest * slope)
