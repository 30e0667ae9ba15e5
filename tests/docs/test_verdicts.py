"""The recipes of docs/verdicts.md, run as they stand, one after the other in one folder."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pairscore import Scorer
from pairscore.runtime.bundle.activation import scaled
from tests.pairs_files import pairs_table

PAGE = Path(__file__).parents[2] / "docs" / "verdicts.md"
# Those of the entailment model that the page names.
ENTAILMENT = ("contradiction", "entailment", "neutral")


def test_every_recipe_runs(small_bundle, working_folder):
    shutil.copytree(small_bundle(1, 256), "bundle")
    shutil.copytree(small_bundle(3), "entailment")
    manifest = json.loads(Path("entailment/pairscore.json").read_text())
    Path("entailment/pairscore.json").write_text(json.dumps({**manifest, "labels": ENTAILMENT}))
    table = pairs_table(400)
    pq.write_table(table, "pairs.parquet")
    logits = Scorer.from_pretrained("bundle", activation="identity").score_table(table)["score"].to_numpy()
    draw = np.random.default_rng(0)
    annotated = table.drop_columns("relevant").append_column(
        "relevant", pa.array(draw.random(400) < scaled(2.0, 0.5, logits[:, None])[:, 0])
    )
    annotated = annotated.append_column("evidence_label", pa.array(draw.choice(ENTAILMENT, 400)))
    pq.write_table(annotated, "annotated.parquet")
    long = [" ".join(draw.choice(table["evidence"].to_pylist(), 60)) for _ in range(5)]
    pq.write_table(pa.table({"claim": table["claim"][:5], "evidence": long}), "documents.parquet")

    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    run = []
    for language, code in re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        if language == "console":
            continue
        command = ["sh", "-e", "-c", code] if language == "sh" else [sys.executable, "-c", code]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{code}\n{done.stderr}"
        run.append(language)
        if "--reuse" in code:
            assert "400 reused" in done.stderr
    assert (run.count("sh"), run.count("python")) == (5, 3)

    found: dict[str, set[str]] = {}
    for row in pq.read_table("verdicts.parquet").to_pylist():
        found.setdefault(row["claim"], set()).add(row["label"])
    expected = {
        claim: "DISPUTED"
        if {"entailment", "contradiction"} <= labels
        else "SUPPORTED"
        if "entailment" in labels
        else "REFUTED"
        if "contradiction" in labels
        else "NOT ENOUGH"
        for claim, labels in found.items()
    }
    assert {row["claim"]: row["verdict"] for row in pq.read_table("claims.parquet").to_pylist()} == expected
    decided = pq.read_table("decided.parquet").to_pylist()
    assert {row["decision"] for row in decided} == {"relevant", "not relevant", "read it"}
    assert all((row["score"] >= 0.8) == (row["decision"] == "relevant") for row in decided)
    assert pq.read_table("recalibrated.parquet")["score"].equals(pq.read_table("scored.parquet")["score"])
    assert pq.read_table("read.parquet")["cut"].to_pylist() == [False] * 5
    scorer = Scorer.from_pretrained("bundle")
    for row in pq.read_table("passages.parquet").to_pylist():
        assert 200 < len(row["passage"]) < max(map(len, long)) / 2
        assert abs(scorer.predict((row["claim"], row["passage"])) - row["score"]) < 0.2  # words at its ends are cut
    assert "<svg" in Path("calibration.html").read_text()
