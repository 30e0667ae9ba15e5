"""The samples of an epoch are what the recipe says."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairscore import PairscoreError
from pairscore.training.annotations import Annotations, Claim, read_annotations
from pairscore.training.bm25 import Bm25
from pairscore.training.samples import HARD_RANKS, NegativeSampler, Sample
from tests.climate import rows, write

CLIMATE_FEVER = Path(__file__).parents[3] / "shared" / "climate-fever" / "train.parquet"


def grouped(samples: list[Sample], annotations: Annotations) -> list[tuple[Claim, list[Sample], list[Sample]]]:
    """Each claim with its positive and its negative samples, as they follow one another."""
    found, place = [], 0
    for claim in annotations.claims:
        mine = samples[place : place + len(claim.relevant) + 12]
        assert {sample.claim for sample in mine} == {claim.text}
        found.append((claim, [each for each in mine if each.label == 1], [each for each in mine if each.label == 0]))
        place += len(mine)
    assert place == len(samples)
    return found


@settings(max_examples=20)
@given(st.integers(6, 40), st.integers(1, 3), st.integers(0, 2), st.integers(0, 5), st.integers(0, 3))
def test_every_claim_has_its_relevant_evidence_and_twelve_negatives(claims, relevant, irrelevant, seed, epoch):
    table = rows(claims, relevant, irrelevant)
    texts = list(dict.fromkeys(row["claim"] for row in table))
    of = {text: [row for row in table if row["claim"] == text] for text in texts}
    annotations = Annotations(
        tuple(
            Claim(
                text,
                tuple(row["evidence"] for row in of[text] if row["relevant"]),
                tuple(row["evidence"] for row in of[text] if not row["relevant"]),
            )
            for text in texts
        ),
        tuple(row["evidence"] for row in table),
    )
    if len(annotations.evidence) - relevant - irrelevant < 12:
        with pytest.raises(PairscoreError, match="needs 12 sentences that are not annotated for it"):
            NegativeSampler(annotations, seed).epoch(epoch)
        return
    ranking = Bm25(annotations.evidence)
    for claim, positives, negatives in grouped(NegativeSampler(annotations, seed).epoch(epoch), annotations):
        assert tuple(sample.evidence for sample in positives) == claim.relevant
        sentences = [sample.evidence for sample in negatives]
        assert len(set(sentences)) == 12
        assert not claim.annotated & set(sentences)
        ranked = [annotations.evidence[place] for place in ranking.top(claim.text, len(annotations.evidence))]
        hard = [sentence for sentence in ranked if sentence not in claim.annotated][:HARD_RANKS]
        assert set(sentences[:6]) <= set(hard)


def test_random_negatives_reach_beyond_the_hard_ones(tmp_path):
    annotations = read_annotations([write(tmp_path / "pairs.parquet", rows(claims=80))])
    ranking = Bm25(annotations.evidence)
    beyond = 0
    for claim, _, negatives in grouped(NegativeSampler(annotations, 0).epoch(0), annotations):
        hard = {annotations.evidence[place] for place in ranking.top(claim.text, HARD_RANKS + 3)}
        beyond += sum(sample.evidence not in hard for sample in negatives[6:])
    assert beyond > 80  # 187 of 237 sentences are not hard


def test_seed_and_epoch_decide_the_negatives(tmp_path):
    annotations = read_annotations([write(tmp_path / "pairs.parquet", rows(claims=20))])
    first = NegativeSampler(annotations, 7).epoch(1)
    assert NegativeSampler(annotations, 7).epoch(1) == first
    assert NegativeSampler(annotations, 7).epoch(0) != first
    assert NegativeSampler(annotations, 8).epoch(1) != first


@pytest.mark.skipif(not CLIMATE_FEVER.is_file(), reason="the Climate-FEVER tables are not beside the checkout")
def test_climate_fever_gives_the_published_number_of_samples():
    annotations = read_annotations([CLIMATE_FEVER])
    assert (len(annotations.claims), annotations.relevant_pairs) == (1228, 4122)
    samples = NegativeSampler(annotations, 0).epoch(0)
    assert len(samples) == 18_858
    assert sum(sample.label for sample in samples) == 4122
    annotated = {claim.text: claim.annotated for claim in annotations.claims}
    assert all((sample.evidence in annotated[sample.claim]) == (sample.label == 1) for sample in samples)
