"""Every public call as a user writes it. Never run: the type checkers read it, so typing breaks are seen here first."""

import numpy as np
import pyarrow as pa

from pairscore import PairscoreError, Scorer, __version__


def calls(table: pa.Table, stream: object) -> None:
    """The calls of README.md, with the types that a user may rely on."""
    scorer: Scorer = Scorer.from_pretrained("bundle")
    scorer = Scorer.from_pretrained("bundle", precision="fp32", engine="auto", device="cpu", max_length=256, threads=2)
    many: np.ndarray = scorer.predict([("claim", "evidence")])
    logits: np.ndarray = scorer.predict([["claim", "evidence"]], activation="identity", apply_softmax=False)
    single: np.float32 = scorer.predict(("claim", "evidence"))
    hits: list[dict[str, object]] = scorer.rank("claim", ["evidence"], top_k=1, return_documents=True)
    scored: pa.Table = scorer.score_table(
        table, claim_column="c", evidence_column="e", score_column="s", on_null="null"
    )
    with scorer.score_batches(stream) as reader:
        batches: list[pa.RecordBatch] = list(reader)
    table = pa.table(scorer.score_batches(stream))
    version: str = __version__
    error: ValueError = PairscoreError("one line")
    labels: tuple[str, ...] = scorer.labels
    length: int = scorer.max_length
    del many, logits, single, hits, scored, batches, table, version, error, labels, length
