"""The comparison of scores against slow, obvious references."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pairscore.runtime.bundle.parity import TIERS, Tier, average_ranks, compare, spearman

few_values = arrays(np.float64, st.integers(2, 30), elements=st.integers(-4, 4).map(float))


def slow_ranks(values):
    """The rank of a value is the mean of the places that its equals take in sorted order."""
    ordered = sorted(values)
    return [np.mean([place + 1 for place, other in enumerate(ordered) if other == value]) for value in values]


@given(few_values)
def test_ranks_share_their_average_where_values_are_equal(values):
    np.testing.assert_allclose(average_ranks(values), slow_ranks(values))


@given(
    st.integers(2, 30).flatmap(
        lambda n: st.tuples(*[arrays(np.float64, n, elements=st.integers(-4, 4).map(float))] * 2)
    )
)
def test_spearman_is_pearson_of_ranks(both):
    x, y = both
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert spearman(x, y) is None
    else:
        expected = np.corrcoef(slow_ranks(x), slow_ranks(y))[0, 1]
        assert spearman(x, y) == pytest.approx(expected, abs=1e-12)


def test_spearman_by_hand():
    """Ranks 1 2 3 4 against 1 2 4 3: 1 - 6 * (0 + 0 + 1 + 1) / (4 * 15) = 0.8."""
    assert spearman(np.array([0.1, 0.2, 0.3, 0.4]), np.array([1.0, 2.0, 9.0, 3.0])) == pytest.approx(0.8)


def test_spearman_of_one_pair_is_not_defined_and_of_nan_is_nan():
    assert spearman(np.array([1.0]), np.array([1.0])) is None
    assert np.isnan(spearman(np.array([1.0, np.nan]), np.array([1.0, 2.0])))


def column(*values):
    return np.array([values], dtype=np.float32).T


def report_of(logits, reference, claims=None):
    return compare(logits, reference, logits / 10, reference / 10, claims)


def test_differences_and_worst_pairs():
    report = report_of(column(1.0, 2.0, 3.0), column(1.5, 2.0, 1.0))
    assert report.pairs == 3
    assert report.max_logit_difference == 2.0
    assert report.mean_logit_difference == pytest.approx(2.5 / 3)
    assert report.max_score_difference == pytest.approx(0.2)
    assert report.worst_pairs == (2, 0, 1)


def test_several_labels_count_the_worst_of_them():
    logits = np.array([[1.0, 5.0], [2.0, 6.0], [3.0, 7.0]], dtype=np.float32)
    reference = np.array([[1.0, 7.0], [2.0, 6.0], [3.0, 5.0]], dtype=np.float32)
    report = report_of(logits, reference)
    assert report.spearman == pytest.approx(-1.0)  # the second label's
    assert report.max_logit_difference == 2.0
    assert report.top1_agreement is None


def test_top1_agreement_counts_only_claims_with_a_choice():
    """Claim a: best pair 1 in both. Claim b: best 2 here, 3 there. Claim c has one pair."""
    report = report_of(column(1, 2, 9, 8, 5), column(1, 2, 8, 9, 5), ["a", "a", "b", "b", "c"])
    assert report.top1_agreement == 0.5
    assert report_of(column(1, 2), column(1, 2), ["a", "b"]).top1_agreement is None


def test_a_nan_breaks_every_promise():
    report = report_of(column(np.nan, 1.0), column(0.0, 1.0))
    assert report.worst_pairs[0] == 0
    assert len(report.violations(Tier(1e9, 1e9, -1.0))) == 3


def test_equal_infinities_are_no_difference():
    infinite = column(np.inf, 1.0)
    assert report_of(infinite, infinite).max_logit_difference == 0.0
    assert compare(infinite, infinite, infinite, infinite).max_score_difference == 0.0


def test_violations_name_value_and_bound():
    report = report_of(column(1.0, 2.0), column(1.5, 2.0))
    assert report.violations(TIERS["fp32"]) == ["max_logit_difference 0.5 (promised at most 0.0001)"]
    assert report.violations(Tier(min_spearman=0.999)) == []
    swapped = report_of(column(1.0, 2.0), column(2.0, 1.0))
    assert swapped.violations(Tier(min_spearman=0.999)) == ["spearman -1.000000 (promised at least 0.999)"]


def test_nothing_compared_is_nothing_broken():
    empty = np.zeros((0, 1), dtype=np.float32)
    report = compare(empty, empty, empty, empty, [])
    assert (report.pairs, report.max_logit_difference, report.spearman) == (0, 0.0, None)


def test_other_shapes_are_an_error():
    with pytest.raises(ValueError, match=r"\(2, 1\).*\(3, 1\)"):
        report_of(column(1, 2), column(1, 2, 3))


def test_bf16_may_swap_neighbours_but_neither_move_scores_nor_lose_the_ranking():
    """200 ranks, each block of four turned round: its squares add up to 20, 50 blocks make 1,000, and
    1 - 6 * 1,000 / (200 * (200^2 - 1)) = 0.99925. Blocks of two: 100 * 2 = 200, which makes 0.99985.
    """
    expected = np.linspace(-3, 3, 200, dtype=np.float32)[:, None]

    def report(block: int, moved: float = 0.0):
        logits = expected.reshape(-1, block)[:, ::-1].reshape(-1, 1)
        return compare(logits, expected, logits * 0 + moved, expected * 0)

    assert report(2).spearman == pytest.approx(0.99985, abs=1e-6)
    assert report(2).violations(TIERS["bf16"]) == []
    assert report(2).violations(TIERS["fp16"]) == ["spearman 0.999850 (promised at least 0.9999)"]
    assert report(4).violations(TIERS["bf16"]) == ["spearman 0.999250 (promised at least 0.9995)"]
    assert report(2, 0.031).violations(TIERS["bf16"]) == ["max_score_difference 0.031 (promised at most 0.03)"]
