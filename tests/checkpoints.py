"""Tiny, randomly initialised cross-encoders of several families, each with a tokenizer trained here.

The tokenizers are put together as the families' published ones are (normalizer, model, pair template,
padding and model inputs); only their vocabularies are small. Nothing comes from the network.
"""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling
from tokenizers import AddedToken, Regex, normalizers, processors
from transformers import (
    AlbertConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    BertTokenizerFast,
    DebertaV2Config,
    DebertaV2TokenizerFast,
    DistilBertConfig,
    DistilBertTokenizerFast,
    ElectraConfig,
    ElectraTokenizerFast,
    ModernBertConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
    RobertaConfig,
    RobertaTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaTokenizerFast,
)

from tests.tiny_tokenizers import byte_level_bpe, unigram, wordpiece

FAMILIES = ("bert", "roberta", "xlm-roberta", "distilbert", "electra", "deberta-v2", "modernbert")

# Optimum goes with transformers 4 only.
EXPORTED_BY = ("optimum", "torch") if find_spec("optimum") else ("torch",)

WIDTH = 32


def build_checkpoint(
    family: str,
    folder: Path,
    labels: int = 1,
    max_length: int = 64,
    *,
    seed: int = 0,
    activation: str | None = None,
    layers: int | None = None,
    **config_changes: Any,
) -> Path:
    """Write a loadable sequence-classification checkpoint of `family` into `folder` and return `folder`.

    `max_length`: tokens of the longest pair, specials included. `activation`: what CrossEncoder is told to
    apply to the logits, for example "torch.nn.modules.linear.Identity". `config_changes`: overrides of the
    family's configuration. The family "ettin" is a stack of modules: see `build_stack`.
    """
    if family == "ettin":
        one_head = {
            "num_attention_heads": 1,
            **config_changes,
        }  # of the 32 columns that the kernels' rotary positions need
        return build_stack("modernbert", folder, *_ettin_head(labels), max_length=max_length, **one_head)
    tokenizer, config = _FAMILIES[family](max_length)
    config.vocab_size = len(tokenizer)
    for name in ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"):
        setattr(config, name, getattr(tokenizer, name))
    config.num_labels = labels
    config.id2label = {place: f"LABEL_{place}" for place in range(labels)}
    config.label2id = {name: place for place, name in config.id2label.items()}
    if layers is not None:
        config.num_hidden_layers = layers
    if activation is not None:
        config.sentence_transformers = {"activation_fn": activation, "version": "5.0.0"}
    for name, value in config_changes.items():
        setattr(config, name, value)

    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_config(config)
    _randomise(model, seed)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def build_stack(
    family: str,
    folder: Path,
    *head: torch.nn.Module,
    max_length: int = 64,
    activation_fn: torch.nn.Module | None = None,
    prompts: dict[str, str] | None = None,
    default_prompt_name: str | None = None,
    **config_changes: Any,
) -> Path:
    """Write a cross-encoder that is a `family` transformer and the modules of `head`, as CrossEncoder saves it.

    `activation_fn`, `prompts`, `default_prompt_name`: as CrossEncoder takes them.
    """
    with TemporaryDirectory() as scratch:
        transformer = Transformer(str(build_checkpoint(family, Path(scratch), max_length=max_length, **config_changes)))
        encoder = CrossEncoder(
            modules=[transformer, *head],
            device="cpu",
            activation_fn=activation_fn,
            prompts=prompts,
            default_prompt_name=default_prompt_name,
        )
        _randomise(torch.nn.ModuleList(head), seed=1)
        encoder.save_pretrained(str(folder))
    return folder


def _ettin_head(labels: int) -> list[torch.nn.Module]:
    """The first token, a dense layer with GELU, a norm, a dense layer that gives the scores."""
    return [
        Pooling(WIDTH, "cls"),
        Dense(WIDTH, WIDTH, bias=False, activation_function=torch.nn.GELU()),
        LayerNorm(WIDTH),
        Dense(WIDTH, labels, activation_function=torch.nn.Identity(), module_output_name="scores"),
    ]


def scale_weights(folder: Path, name: str, factor: float) -> None:
    """Multiply the weights `name` of a saved checkpoint by `factor`, in place."""
    weights = load_file(folder / "model.safetensors")
    weights[name] = weights[name] * factor
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def _randomise(model: torch.nn.Module, seed: int) -> None:
    """Large random weights, biases and norms: every parameter counts, and logits differ visibly by pair."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                spread = 0.5 if "embedding" in name else 1.5 / parameter.shape[-1] ** 0.5
                parameter.copy_(spread * noise)
            else:
                parameter.add_(0.1 * noise)


# Families ----------------------------------------------------------------------------------------------

Family = tuple[PreTrainedTokenizerFast, PretrainedConfig]


def _common(layers: int = 2) -> dict[str, Any]:
    return {
        "hidden_size": WIDTH,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "intermediate_size": 2 * WIDTH,
    }


def _bert(max_length: int) -> Family:
    tokenizer = BertTokenizerFast(tokenizer_object=wordpiece(True), do_lower_case=True, model_max_length=max_length)
    return tokenizer, BertConfig(**_common(), max_position_embeddings=max_length)


def _electra(max_length: int) -> Family:
    tokenizer = ElectraTokenizerFast(tokenizer_object=wordpiece(True), do_lower_case=True, model_max_length=max_length)
    return tokenizer, ElectraConfig(**_common(), embedding_size=WIDTH // 2, max_position_embeddings=max_length)


def _albert(max_length: int) -> Family:
    """One layer's weights, used twice."""
    tokenizer = BertTokenizerFast(tokenizer_object=wordpiece(True), do_lower_case=True, model_max_length=max_length)
    return tokenizer, AlbertConfig(**_common(), embedding_size=WIDTH // 2, max_position_embeddings=max_length)


def _distilbert(max_length: int) -> Family:
    tokenizer = DistilBertTokenizerFast(
        tokenizer_object=wordpiece(False), do_lower_case=False, model_max_length=max_length
    )
    config = DistilBertConfig(
        dim=WIDTH, n_layers=2, n_heads=4, hidden_dim=2 * WIDTH, max_position_embeddings=max_length
    )
    return tokenizer, config


def _roberta(max_length: int) -> Family:
    """<s> A </s></s> B </s>, no token types, positions that start after the padding id."""
    backend = byte_level_bpe(["<s>", "<pad>", "</s>", "<unk>"])
    backend.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    backend.post_processor = processors.RobertaProcessing(
        ("</s>", backend.token_to_id("</s>")),
        ("<s>", backend.token_to_id("<s>")),
        trim_offsets=True,
        add_prefix_space=False,
    )
    tokenizer = RobertaTokenizerFast(tokenizer_object=backend, model_max_length=max_length)
    return tokenizer, RobertaConfig(**_common(), type_vocab_size=1, max_position_embeddings=max_length + 2)


def _xlm_roberta(max_length: int) -> Family:
    backend = unigram(["<s>", "<pad>", "</s>", "<unk>"], "<unk>")
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(" {2,}"), "▁")]
    )
    backend.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[(name, backend.token_to_id(name)) for name in ("<s>", "</s>")],
    )
    tokenizer = XLMRobertaTokenizerFast(tokenizer_object=backend, model_max_length=max_length)
    return tokenizer, XLMRobertaConfig(**_common(), type_vocab_size=1, max_position_embeddings=max_length + 2)


def _deberta_v2(max_length: int) -> Family:
    """As DeBERTa-v3: relative positions in buckets, both attention directions, shared keys, no position table."""
    backend = unigram(["[PAD]", "[CLS]", "[SEP]", "[UNK]"], "[UNK]")
    backend.normalizer = normalizers.Sequence(
        [normalizers.Strip(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    backend.add_special_tokens(["[MASK]"])
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(name, backend.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    tokenizer = DebertaV2TokenizerFast(tokenizer_object=backend, model_max_length=max_length)
    config = DebertaV2Config(
        **_common(),
        max_position_embeddings=max_length,
        type_vocab_size=0,
        relative_attention=True,
        position_buckets=max(4, max_length // 4),
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        pooler_hidden_size=WIDTH,
        pooler_dropout=0,
        pooler_hidden_act="gelu",
    )
    return tokenizer, config


def _modernbert(max_length: int) -> Family:
    """Rotary positions; two of three layers attend to a short window; no token types."""
    backend = byte_level_bpe(["[UNK]", "[CLS]", "[SEP]", "[PAD]"])
    backend.add_special_tokens([AddedToken("[MASK]", lstrip=True, special=True)])
    backend.normalizer = normalizers.NFC()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(name, backend.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        mask_token="[MASK]",
        model_max_length=max_length,
        model_input_names=["input_ids", "attention_mask"],
    )
    config = ModernBertConfig(
        **_common(layers=4),
        max_position_embeddings=max_length,
        global_attn_every_n_layers=3,
        local_attention=16,
        classifier_pooling="mean",
        reference_compile=False,
    )
    return tokenizer, config


def _qwen3(max_length: int) -> Family:
    """A decoder, whose classifier reads the last token; a pair has no special tokens."""
    backend = byte_level_bpe(["<|endoftext|>", "<|im_end|>"])
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        padding_side="left",
        model_max_length=max_length,
        model_input_names=["input_ids", "attention_mask"],
    )
    config = Qwen3Config(**_common(), num_key_value_heads=2, head_dim=8, max_position_embeddings=max_length)
    return tokenizer, config


_FAMILIES: dict[str, Callable[[int], Family]] = {
    "albert": _albert,
    "bert": _bert,
    "roberta": _roberta,
    "xlm-roberta": _xlm_roberta,
    "distilbert": _distilbert,
    "electra": _electra,
    "deberta-v2": _deberta_v2,
    "modernbert": _modernbert,
    "qwen3": _qwen3,
}
