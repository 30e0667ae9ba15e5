"""The exact best of a few rows, of which most are scored by a less exact variant alone."""

from collections.abc import Callable

import numpy as np

from pairscore.runtime.bundle.activation import Activation
from pairscore.runtime.types import FloatArray, Int64Array


def exact_best(
    first: FloatArray,
    top_k: int,
    difference: float,
    compute: Callable[[Int64Array], FloatArray],
    activation: Activation,
) -> Int64Array:
    """The rows with the `top_k` best exact scores, in their order; of equal scores the earlier rows.

    first: logits of the less exact variant, Shape (rows,). difference: by which none of them is off; where one proves
    to be, the larger one counts. compute: exact logits of some rows. `pairscore.runtime.job.refine` says why no row is
    lost.
    """
    exact = np.full(len(first), np.nan, np.float32)
    first_scores = activation(first[:, None])[:, 0]
    wanted = known = np.sort(np.argsort(-first, kind="stable")[:top_k])
    scores = first[wanted]
    while len(wanted):
        exact[wanted] = compute(wanted)
        known = np.flatnonzero(~np.isnan(exact))
        scores = activation(exact[known][:, None])[:, 0]
        difference = max(difference, float(np.abs(exact[known] - first[known]).max()))
        limit = np.sort(scores)[-min(top_k, len(known)) :][:1].astype(np.float64)
        wanted = np.flatnonzero((first_scores >= activation.lowest(limit, difference)) & np.isnan(exact))
    rows: Int64Array = np.sort(known[np.argsort(-scores, kind="stable")][:top_k])
    return rows
