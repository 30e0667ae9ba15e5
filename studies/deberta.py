"""Turn the shipped BERT into a small DeBERTa, so that int8 can be measured on one, and train it on the claims.

    python -m studies.deberta --start models/climate-claims-minilm-l6 --out out/deberta-start
    pairscore train --preset climate-verdicts --start out/deberta-start \
        --pairs ../shared/climate-fever/train.parquet --out out/deberta
    sed -i s/linear.Identity/activation.Softmax/ out/deberta/config.json  # scores are probabilities, not logits

6 layers of 384 columns in 12 heads, with the published ones' relative positions: 256 logarithmic buckets on each side,
and shared keys and queries. The embeddings, absolute positions among them, and the layers are the BERT's, the relative
embeddings are random until they are trained. `studies.quantization` then takes it.
"""

import argparse
import re
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, BertConfig, DebertaV2Config, DebertaV2ForSequenceClassification


def main() -> None:
    """Make and write the checkpoint."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--start", required=True, type=Path, help="BERT checkpoint: its tokenizer and its weights")
    parser.add_argument("--out", required=True, type=Path, help="folder of the checkpoint")
    options = parser.parse_args()
    bert = BertConfig.from_pretrained(options.start)
    same = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    config = DebertaV2Config(
        **{name: getattr(bert, name) for name in (*same, "max_position_embeddings", "type_vocab_size", "pad_token_id")},
        relative_attention=True,
        position_buckets=256,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type="p2c|c2p",
        position_biased_input=True,
        pooler_hidden_act="tanh",
        num_labels=1,
    )
    torch.manual_seed(0)
    model = DebertaV2ForSequenceClassification(config)
    weights = {}
    for name, weight in load_file(options.start / "model.safetensors").items():
        renamed = re.sub(r"\.(query|key|value)\.", r".\1_proj.", name.replace("bert.pooler.", "pooler."))
        # Queries make up for DeBERTa's division of scores by the square root of three, for three terms.
        weights[re.sub("^bert", "deberta", renamed)] = weight.float() * (3**0.5 if ".query." in name else 1.0)
    lacking, unknown = model.load_state_dict(weights, strict=False)
    if unknown or not all(name.startswith("deberta.encoder.") for name in lacking):
        raise RuntimeError(f"the weights of {options.start} leave {lacking} and {unknown}")
    with torch.no_grad():
        model.deberta.encoder.LayerNorm.weight.fill_(0.2)  # positions say little at first
    model.save_pretrained(options.out)
    AutoTokenizer.from_pretrained(options.start).save_pretrained(options.out)


if __name__ == "__main__":
    main()
