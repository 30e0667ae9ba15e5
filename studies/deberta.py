"""Turn the shipped BERT into a small DeBERTa, so that int8 can be measured on one: `studies.quantization` takes it.

    python -m studies.deberta --start models/climate-claims-minilm-l6 --out out/deberta

6 layers of 384 columns in 12 heads, with the published ones' relative positions: 256 logarithmic buckets on each side,
and shared keys and queries. The embeddings, absolute positions among them, and the layers are the BERT's, the relative
embeddings are random. Its scores resemble the BERT's, so they differ for a reason. It is not a good model, and its
weights are not kept.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from sentence_transformers import CrossEncoder
from transformers import BertConfig, DebertaV2Config, DebertaV2ForSequenceClassification, PreTrainedTokenizerFast

MAX_LENGTH = 512
# BERT's names of what DeBERTa has too.
_RENAMED = {
    "bert.pooler.": "pooler.",
    "bert.": "deberta.",
    ".query.": ".query_proj.",
    ".key.": ".key_proj.",
    ".value.": ".value_proj.",
}


def main() -> None:
    """Make and write the checkpoint."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--start", required=True, type=Path, help="BERT checkpoint whose tokenizer and weights are taken"
    )
    parser.add_argument("--out", required=True, type=Path, help="folder of the checkpoint")
    options = parser.parse_args()
    torch.manual_seed(0)
    relative(options.start).save_pretrained(str(options.out))


def relative(start: Path) -> CrossEncoder:
    """The DeBERTa, with the tokenizer and the weights of the BERT in `start`."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(start / "tokenizer.json"),
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        mask_token="[MASK]",
        model_max_length=MAX_LENGTH,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    bert = BertConfig.from_pretrained(start)
    config = DebertaV2Config(
        vocab_size=bert.vocab_size,
        hidden_size=bert.hidden_size,
        intermediate_size=bert.intermediate_size,
        num_hidden_layers=bert.num_hidden_layers,
        num_attention_heads=bert.num_attention_heads,
        max_position_embeddings=MAX_LENGTH,
        relative_attention=True,
        position_buckets=256,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type="p2c|c2p",
        position_biased_input=True,
        type_vocab_size=bert.type_vocab_size,
        pooler_hidden_act="tanh",
        pad_token_id=bert.pad_token_id or 0,
        num_labels=1,
    )
    model = DebertaV2ForSequenceClassification(config)
    lacking, unknown = model.load_state_dict(converted(load_file(start / "model.safetensors")), strict=False)
    if unknown or not all(name.startswith("deberta.encoder.") for name in lacking):
        raise RuntimeError(f"the weights of {start} leave {lacking} and {unknown}")
    with torch.no_grad():
        model.deberta.encoder.LayerNorm.weight.fill_(0.2)  # positions say little at first
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return CrossEncoder(folder, device="cpu")


def converted(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """BERT's weights under DeBERTa's names, in fp32.

    Queries make up for DeBERTa's division of scores by the square root of three, for three terms.
    """
    found: dict[str, torch.Tensor] = {}
    for name, weight in weights.items():
        renamed = name
        for old, new in _RENAMED.items():
            renamed = renamed.replace(old, new)
        found[renamed] = weight.float() * (3**0.5 if ".query." in name else 1.0)
    return found


if __name__ == "__main__":
    main()
