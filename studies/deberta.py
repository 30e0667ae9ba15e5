"""Train a small DeBERTa-v3 on the claims, so that int8 can be measured on one: random weights say nothing about int8.

    python -m studies.deberta --words models/climate-claims-minilm-l6 --teacher out/bundle \
        --pairs ../shared/climate-fever/train.parquet --out out/deberta

6 layers of 384 columns in 6 heads, otherwise as the published ones: relative positions in 256 logarithmic buckets on
each side, shared keys and queries, no absolute positions. Words start as a BERT's; all else is random. The model learns
the scores of the teacher, a bundle, from the pairs of `studies.teaching`; its weights are not kept.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file
from sentence_transformers import CrossEncoder
from transformers import DebertaV2Config, DebertaV2ForSequenceClassification, PreTrainedTokenizerFast

from pairscore.runtime.scorer import Scorer
from studies.teaching import MAX_LENGTH, drawn, learn

WIDTH = 384
BATCH = 8
LEARNING_RATE = 3e-4


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
    batches = drawn(options.pairs, options.steps, BATCH)
    scorer = Scorer.from_pretrained(options.teacher)
    taught = [np.asarray(scorer.predict(batch), dtype=np.float32) for batch in batches]
    encoder = untrained(options.words)
    learn(encoder, batches, taught, LEARNING_RATE)
    encoder.save_pretrained(str(options.out))


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
    config = DebertaV2Config(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=6,
        num_attention_heads=6,
        max_position_embeddings=512,
        relative_attention=True,
        position_buckets=256,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type="p2c|c2p",
        position_biased_input=False,
        type_vocab_size=0,
        pad_token_id=tokenizer.pad_token_id,
        num_labels=1,
    )
    model = DebertaV2ForSequenceClassification(config)
    weights = load_file(start / "model.safetensors")
    words = next(table for name, table in weights.items() if name.endswith("word_embeddings.weight"))
    with torch.no_grad():
        model.deberta.embeddings.word_embeddings.weight.copy_(torch.from_numpy(words.astype(np.float32)))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return CrossEncoder(folder, device="cpu")


if __name__ == "__main__":
    main()
