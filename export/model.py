"""What is exported: a PyTorch module that makes logits of token ids, its attention written out in plain operations."""

import inspect
import math
from typing import Any

import torch
from transformers import AutoModel, AutoModelForSequenceClassification

from pairscore.export.checkpoint import Checkpoint
from pairscore.export.reference import open_crossencoder, quiet
from pairscore.runtime.errors import PairscoreError


class LogitsModel(torch.nn.Module):
    """Token ids in, logits out, of a loaded CrossEncoder: one transformer, or a stack of modules.

    `inputs`: the names that `forward` takes, in the graph's order. It shares the encoder's weights.
    """

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.stacked = len(encoder) > 1
        self.model: Any = encoder if self.stacked else encoder.model
        for place, module in enumerate(encoder if self.stacked else ()):
            if getattr(module, "pooling_mode", None) == "cls" and encoder.tokenizer.padding_side == "right":
                encoder[place] = FirstToken()
        taken = inspect.signature(self.transformer.forward).parameters
        typed = "token_type_ids" in taken and (getattr(encoder.config, "type_vocab_size", 0) or 0) > 1
        self.inputs: tuple[str, ...] = ("input_ids", "attention_mask", *(["token_type_ids"] if typed else []))
        self.eval()

    @property
    def transformer(self) -> Any:
        """The model of `transformers`, with which a stack begins."""
        return next(self.model.children()).model if self.stacked else self.model

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
    ) -> torch.Tensor:
        """All of Shape (batch, length) to (batch, labels)."""
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        given = {"input_ids": input_ids, "attention_mask": attention_mask, **types}
        logits: torch.Tensor = self.model(given)["scores"] if self.stacked else self.model(**given).logits
        return logits


class FirstToken(torch.nn.Module):
    """Pooling of the class token. sentence-transformers looks for it in the mask, where padding may come first."""

    def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Keep the first token's row alone."""
        return {**features, "sentence_embedding": features["token_embeddings"][:, 0]}


def load_model(checkpoint: Checkpoint) -> LogitsModel:
    """The checkpoint's model in fp32, ready to be traced.

    Raises PairscoreError when weights are missing (the libraries would make them up at random) or not finite.
    """
    name = checkpoint.source.name
    found = LogitsModel(open_crossencoder(checkpoint, attn_implementation="eager"))
    kind = AutoModel if checkpoint.modules else AutoModelForSequenceClassification
    options = {"torch_dtype": torch.float32, "use_safetensors": True, "local_files_only": True}
    with quiet():  # loaded once more for what is missing, without reading the weights
        _, info = kind.from_pretrained(checkpoint.folder, output_loading_info=True, **options)
    # A stack reads the last layer's tokens: the pooler that some architectures have behind them is of no use.
    missing = sorted(key for key in info["missing_keys"] if not (checkpoint.modules and key.startswith("pooler.")))
    if missing:
        raise PairscoreError(
            f"{name!r} lacks {len(missing)} weights of its architecture ({', '.join(missing[:3])}), which would be "
            "random: fine-tune it, or give the right checkpoint"
        )
    for weight, parameter in found.model.named_parameters():
        if not all(map(math.isfinite, parameter.detach().aminmax())):  # NaN comes through, and no copy is made
            raise PairscoreError(f"weight {weight} of {name!r} holds values that are not finite: export another one")
    return found
