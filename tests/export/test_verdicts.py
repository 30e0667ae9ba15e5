"""Three labels and the evidence first, from a checkpoint to verdicts: PyTorch's probabilities at every step."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sentence_transformers import CrossEncoder

from pairscore import Scorer
from pairscore.cli import main
from pairscore.export.api import export_bundle
from tests import corpus
from tests.native import LOOSE, PAIRS

NAMES = [f"LABEL_{place}" for place in range(3)]


@pytest.fixture(scope="module")
def made(checkpoint, built_once):
    """A checkpoint, and its bundle in fp32 and native int8."""
    source = checkpoint("bert", 3, num_attention_heads=2)

    def build(folder):
        export_bundle(str(source), folder / "bundle", pair_order="evidence-claim")
        export_bundle(str(source), folder / "bundle", precision="int8", calibration=PAIRS, engine="native", **LOOSE)

    return source, built_once("three-labels-evidence-first", build) / "bundle"


@pytest.fixture(scope="module")
def data(made, tmp_path_factory):
    """Pairs of every length, and the label that PyTorch gives each, but for every fifth."""
    source, _ = made
    texts = [*corpus.SENTENCES[::2], *corpus.ODDITIES[::3], " ".join(corpus.SENTENCES[:12])]
    pairs = [(claim, evidence) for claim in texts[::4] for evidence in texts]
    encoder = CrossEncoder(str(source), device="cpu", model_kwargs={"torch_dtype": torch.float32})
    expected = encoder.predict([pair[::-1] for pair in pairs], apply_softmax=True)
    labels = [NAMES[(place + (row % 5 == 0)) % 3] for row, place in enumerate(expected.argmax(axis=1))]
    claims, evidence = zip(*pairs, strict=True)
    file = tmp_path_factory.mktemp("data") / "pairs.parquet"
    pq.write_table(pa.table({"claim": claims, "evidence": evidence, "label": labels}), file)
    return file, expected


def run(*arguments):
    with pytest.raises(SystemExit) as leaving:
        main([str(each) for each in arguments])
    assert leaving.value.code == 0


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("int8", LOOSE["max_difference"])])
def test_probabilities_predictions_and_ranks_are_pytorch_s(made, data, tmp_path, capfd, precision, tolerance):  # noqa: PLR0917
    _, bundle = made
    file, expected = data
    options = ("--activation", "softmax", "--prediction-column", "prediction", "--precision", precision, "--quiet")
    run("score", bundle, file, "--output", tmp_path / "all.parquet", *options)
    table = pq.read_table(tmp_path / "all.parquet")
    scores = np.stack([table[f"score_{name}"].to_numpy() for name in NAMES], axis=1)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=tolerance)
    assert table["prediction"].to_pylist() == [NAMES[place] for place in scores.argmax(axis=1)]
    sure = np.sort(expected, axis=1)[:, -1] - np.sort(expected, axis=1)[:, -2] > 2 * tolerance
    assert (scores.argmax(axis=1) == expected.argmax(axis=1))[sure].all()

    best = (*options, "--top-k", 2, "--rank-by", "LABEL_1")
    run("score", bundle, file, "--output", tmp_path / "best.parquet", *best)
    rows = table.to_pylist()
    for row in pq.read_table(tmp_path / "best.parquet").to_pylist():
        mine = sorted((each["score_LABEL_1"] for each in rows if each["claim"] == row["claim"]), reverse=True)
        assert row["score_LABEL_1"] == mine[row["rank"] - 1]
    claim = rows[0]["claim"]
    documents = [row["evidence"] for row in rows if row["claim"] == claim]
    scorer = Scorer.from_pretrained(bundle, precision=precision, activation="softmax")
    hits = scorer.rank(claim, documents, rank_by="LABEL_1", top_k=2)
    assert [hit["score"] for hit in hits] == sorted(scores[: len(documents), 1].tolist(), reverse=True)[:2]

    capfd.readouterr()
    run("show", tmp_path / "all.parquet", "--claim", claim)
    assert "best LABEL_2" in capfd.readouterr().out
    run("evaluate", bundle, "--pairs", file, "--label-column", "label", "--precision", precision, "--json")
    told = json.loads(capfd.readouterr().out)["systems"][1]
    truth = table["label"].to_pylist()
    assert told["accuracy"] == np.mean(
        [name == each for name, each in zip(table["prediction"].to_pylist(), truth, strict=True)]
    )
    counts = [
        [sum(t == a and p == b for t, p in zip(truth, table["prediction"].to_pylist(), strict=True)) for b in NAMES]
        for a in NAMES
    ]
    assert told["confusion"] == counts
