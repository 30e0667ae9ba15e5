"""Teach a small model a bundle's scores, so that int8 can be measured on it: random weights say nothing about int8.

A few hundred steps make scores that differ for a reason; they do not make a good model.
"""

import json
import math
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import CrossEncoder

from pairscore.runtime.pairs_file import read_pairs
from pairscore.runtime.types import FloatArray, Pair

BATCH = 32
LEARNING_RATE = 1e-3
# One batch in so many holds long pairs, a quarter as many: their evidence is this many pieces, one after another.
LONG_EVERY, PIECES = 6, 6
MAX_LENGTH = 512


def drawn(pairs: Path, steps: int, size: int = BATCH) -> list[list[Pair]]:
    """The `size` pairs of every step: half of them annotated ones, half of a claim and evidence at random."""
    rows, random = read_pairs(pairs, "claim", "evidence"), np.random.default_rng(0)
    found: list[list[Pair]] = []
    for step in range(steps):
        claims, evidence = random.integers(0, len(rows), (2, size))
        evidence[: size // 2] = claims[: size // 2]
        batch = [(rows[claim][0], rows[piece][1]) for claim, piece in zip(claims, evidence, strict=True)]
        if step % LONG_EVERY == 0:
            others = random.integers(0, len(rows), (size // 4, PIECES - 1))
            batch = [
                (claim, " ".join([piece, *(rows[other][1] for other in more)]))
                for (claim, piece), more in zip(batch[::4], others, strict=True)
            ]
        found.append(batch)
    return found


def learn(
    encoder: CrossEncoder, batches: list[list[Pair]], taught: list[FloatArray], learning_rate: float = LEARNING_RATE
) -> None:
    """One step a batch, of binary cross-entropy against the teacher's scores."""
    encoder.train()
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=learning_rate, weight_decay=0.01)
    warm = max(1, len(batches) // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / warm, (len(batches) - step) / (len(batches) - warm + 1))
    )
    losses: list[float] = []
    for step, (batch, scores) in enumerate(zip(batches, taught, strict=True)):
        features = encoder.tokenizer(
            [claim for claim, _ in batch],
            [evidence for _, evidence in batch],
            padding=True,
            truncation=True,
            max_length=MAX_LENGTH,
            return_tensors="pt",
        )
        logits = encoder(dict(features))["scores"][:, 0]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.from_numpy(scores))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise RuntimeError(f"step {step}: the loss is {losses[-1]}")
        if step % 20 == 0:
            print(json.dumps({"step": step, "loss": round(float(np.mean(losses[-20:])), 4)}), flush=True)
    encoder.eval()
