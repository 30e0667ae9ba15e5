"""Small annotated tables for the tests of training and evaluation."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

TOPICS = ("polar bears", "sea level", "coral reefs", "carbon dioxide", "volcanoes", "forests", "the sun", "rainfall")
VERBS = ("rise with", "fall because of", "do not depend on", "were measured near")


LABELS = ("SUPPORTS", "REFUTES", "NOT_ENOUGH_INFO")


def rows(claims: int = 8, relevant: int = 2, irrelevant: int = 1) -> list[dict[str, Any]]:
    """Annotated pairs: `claims` claims, each with its own sentences; words repeat between the claims."""
    table = []
    for number in range(claims):
        topic, other = TOPICS[number % len(TOPICS)], TOPICS[(number + 3) % len(TOPICS)]
        for place in range(relevant + irrelevant):
            table.append(
                {
                    "claim": f"Claim {number}: {topic} {VERBS[number % len(VERBS)]} {other}.",
                    "evidence": f"Report {number} of part {place} says that {topic} {VERBS[place % 4]} {other}.",
                    "relevant": place < relevant,
                    "evidence_label": LABELS[place % 3],
                }
            )
    return table


def write(path: Path, table: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(table), path)
    return path


def build_bi_encoder(checkpoint: Path, folder: Path) -> Path:
    """Save the body of a checkpoint as a sentence embedding model with mean pooling."""
    body = Transformer(str(checkpoint))
    SentenceTransformer(modules=[body, Pooling(body.get_embedding_dimension())]).save(str(folder))
    return folder
