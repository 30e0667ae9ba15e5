"""The model card says what the run's own files say, and nothing else."""

import copy
import json

import pytest

from pairscore.training.card import model_card, write_card

TRAINING = {
    "preset": {
        "name": "climate-claims",
        "batch_size": 32,
        "learning_rate": 1.5e-4,
        "head_learning_rate": 6e-4,
        "weight_decay": 0.01,
        "epochs": 3,
        "warmup_ratio": 0.06,
        "max_length": 128,
        "fresh_negatives": True,
        "teacher_shares": [0.5, 0.25, 0.0],
        "keep": "last",
    },
    "start": "sentence-transformers/all-MiniLM-L6-v2",
    "start_sha256": "0123",
    "seed": 7,
    "max_steps": None,
    "data": [{"file": "train.parquet", "sha256": "abcdef" * 8}],
    "dev": [{"file": "dev.parquet", "sha256": "fedcba" * 8}],
    "claims": 1228,
    "relevant_pairs": 4122,
    "evidence_sentences": 4350,
    "samples_an_epoch": 18858,
    "negatives": {"each_claim": 12, "hard": 6, "hard_from_bm25_ranks": 50},
    "teacher_calibration": {"slope": 8.125, "intercept": -4.75},
    "choices_on_dev": ["one thing"],
    "steps": 1770,
    "loss": [{"step": step, "loss": 1 / step} for step in range(1, 30)],
    "seconds": 2700,
    "resumed": False,
    "finished": "2026-01-02T03:04:05+00:00",
    "machine": {"processor": "A processor", "cores": 2, "threads": 2, "gpu": None, "system": "Linux x86_64"},
    "versions": {"torch": "2.4.0"},
}
EVALUATION = {
    "claims": 154,
    "relevant_pairs": 491,
    "pool_sentences": 708,
    "scored_pairs": 8000,
    "files": [{"file": "dev.parquet", "sha256": "x"}],
    "pool_files": [{"file": "train.parquet", "sha256": "y"}],
    "systems": [{"system": "BM25", "map": 0.12345, "mrr_at_5": 0.2, "ndcg_at_5": 0.3}],
}


def test_everything_that_was_recorded_is_said(tmp_path):
    (tmp_path / "training.json").write_text(json.dumps(TRAINING))
    (tmp_path / "evaluation.json").write_text(json.dumps([EVALUATION]))
    write_card(tmp_path, "a-model")
    card = (tmp_path / "README.md").read_text()
    said = (
        "# a-model",
        "base_model: sentence-transformers/all-MiniLM-L6-v2",
        "| BM25 | 0.1235 | 0.2000 | 0.3000 |",
        "pool of 708 sentences (dev.parquet, train.parquet)",
        "18,858 an epoch",
        "epochs: 3, batch 32, learning rate 0.00015 (0.0006 for pooler and classifier), 6% warm-up",
        "8.125 · cosine -4.750",
        "0.5, 0.25, 0",
        "| Seed | 7 |",
        "45 minutes",
        "A processor, 2 cores, 2 threads, no GPU",
        "--pairs train.parquet --dev dev.parquet --seed 7",
        "- one thing",
        "1.000 (step 1)",
        "Diggelmann",
        "Apache-2.0",
        "torch 2.4.0",
    )
    for words in said:
        assert words in card


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"max_steps": 5}, "stopped by --max-steps 5"),
        ({"resumed": True}, "since it was resumed"),
        ({"start": "someone/else"}, "`someone/else`: see its own card"),
    ],
)
def test_what_is_special_about_a_run_is_said(change, words):
    assert words not in model_card("m", TRAINING, [])
    assert words in model_card("m", TRAINING | change, [])


def test_a_run_without_teacher_or_dev_files():
    training = copy.deepcopy(TRAINING) | {"teacher_calibration": None, "choices_on_dev": []}
    training["preset"]["teacher_shares"] = []
    card = model_card("m", training, [])
    assert "1 for relevant evidence, 0 for negatives |" in card
    assert "no files to evaluate on" in card
    assert "Decided by looking" not in card
