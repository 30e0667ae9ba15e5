"""Train a small ModernBERT on the claims, so that int8 can be measured on one: random weights say nothing about int8.

    python -m studies.modernbert --words models/climate-claims-minilm-l6 --teacher out/bundle \
        --pairs ../shared/climate-fever/train.parquet --out out/modernbert

The shape is Ettin's smallest: 7 layers of 256 columns, a window of 128 tokens in two of three layers, and modules as a
head (first token, Dense, LayerNorm, Dense). Words start as the principal components of a BERT's; all else is random.
The model learns the scores of the teacher, a bundle. A few hundred steps make scores that differ for a reason; they do
not make a good model, so its weights are not kept.
"""

import argparse
import json
import math
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling
from transformers import ModernBertConfig, ModernBertModel, PreTrainedTokenizerFast

from pairscore.runtime.pairs_file import read_pairs
from pairscore.runtime.scorer import Scorer
from pairscore.runtime.types import FloatArray, Pair

WIDTH = 256
BATCH = 32
LEARNING_RATE = 1e-3
# One batch in so many holds long pairs, a quarter as many: their evidence is this many pieces, one after another.
LONG_EVERY, PIECES = 6, 6
MAX_LENGTH = 512


def main() -> None:
    """Train and write the checkpoint."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", required=True, type=Path, help="Parquet with columns claim and evidence")
    parser.add_argument("--teacher", required=True, type=Path, help="bundle whose scores are learnt")
    parser.add_argument("--words", required=True, type=Path, help="BERT checkpoint whose tokenizer and words are taken")
    parser.add_argument("--out", required=True, type=Path, help="folder of the checkpoint")
    parser.add_argument("--steps", type=int, default=300)
    options = parser.parse_args()
    torch.manual_seed(0)
    batches = drawn(options.pairs, options.steps)
    scorer = Scorer.from_pretrained(options.teacher)
    taught = [np.asarray(scorer.predict(batch), dtype=np.float32) for batch in batches]
    encoder = untrained(options.words)
    learn(encoder, batches, taught)
    encoder.save_pretrained(str(options.out))


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


def untrained(start: Path) -> CrossEncoder:
    """The model before its first step, with the tokenizer and the words of the BERT in `start`."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(start / "tokenizer.json"),
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        mask_token="[MASK]",
        model_max_length=MAX_LENGTH,
        model_input_names=["input_ids", "attention_mask"],
    )
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    ids = tokenizer.get_vocab()
    config = ModernBertConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=384,
        num_hidden_layers=7,
        num_attention_heads=4,
        max_position_embeddings=7999,
        local_attention=128,
        global_attn_every_n_layers=3,
        pad_token_id=ids["[PAD]"],
        cls_token_id=ids["[CLS]"],
        sep_token_id=ids["[SEP]"],
        bos_token_id=ids["[CLS]"],
        eos_token_id=ids["[SEP]"],
        reference_compile=False,
        attn_implementation="eager",
    )
    model = ModernBertModel(config)
    with torch.no_grad():
        words = torch.from_numpy(components(load_file(start / "model.safetensors"), WIDTH))
        model.embeddings.tok_embeddings.weight.copy_(words)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        transformer = Transformer(folder, model_kwargs={"attn_implementation": "sdpa"})
    head = [
        Pooling(WIDTH, "cls"),
        Dense(WIDTH, WIDTH, bias=False, activation_function=torch.nn.GELU()),
        LayerNorm(WIDTH),
        Dense(WIDTH, 1, activation_function=torch.nn.Identity(), module_output_name="scores"),
    ]
    return CrossEncoder(modules=[transformer, *head], device="cpu")


def components(weights: dict[str, FloatArray], count: int) -> FloatArray:
    """The words of BERT's table in its first principal components, as spread as its own."""
    words = next(table for name, table in weights.items() if name.endswith("word_embeddings.weight"))
    words = words.astype(np.float32)
    centred = words - words.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    found: FloatArray = np.ascontiguousarray(centred @ axes[:, ::-1][:, :count], dtype=np.float32)
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


if __name__ == "__main__":
    main()
