"""The weights of each family of `transformers`, as the `EncoderWeights` of `formula.py`: one small function a family.

To add a family, write a function from a `SourceModel` to `EncoderWeights`, and list it in `heads.py` with its head. The
function reads modules by their names. It leaves `head` and `pooling` empty, and `read.py` compares its formula with
PyTorch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

from pairscore.export.encoder.formula import EncoderWeights, Layer, Linear, Modern, Norm, Relative, Rows
from pairscore.runtime.types import FloatArray

# As configurations name them -> as `formula.py` does.
_ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_fast": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"}


class UnknownEncoderError(Exception):
    """The model is none that `formula.py` describes; the text says where it differs."""


@dataclass(frozen=True)
class SourceModel:
    """A model of PyTorch. `base`: its transformer without the head. `length`: tokens of the longest pair."""

    model: Any
    base: Any
    config: Any
    length: int

    def linear(self, module: Any) -> Linear:
        """A linear layer that reads rows."""
        names = {each: name for name, each in self.model.named_modules()}
        bias = np.zeros(len(module.weight), np.float32) if module.bias is None else array(module.bias)
        return Linear(Rows(names[module]), array(module.weight), bias)

    def parts(self, module: Any, count: int) -> list[Linear]:
        """A linear layer whose outputs are those of several, one behind the other."""
        whole = self.linear(module)
        weights, biases = np.split(whole.weight, count), np.split(whole.bias, count)
        return [Linear(whole.input, *each) for each in zip(weights, biases, strict=True)]


def bert(source: SourceModel) -> EncoderWeights:
    """BERT, and ELECTRA, whose embeddings may be narrower than its layers."""
    projection = getattr(source.base, "embeddings_project", None)
    return _bert(source, [_bert_layer(source, each) for each in source.base.encoder.layer], projection)


def roberta(source: SourceModel) -> EncoderWeights:
    """RoBERTa and what is built like it: padding takes no position, and the first position comes behind its id."""
    padding = source.base.embeddings.padding_idx
    return replace(bert(source), padding_id=padding, position_offset=padding + 1)


def distilbert(source: SourceModel) -> EncoderWeights:
    """DistilBERT's encoder."""
    layers = []
    for each in source.base.transformer.layer:
        attention = each.attention
        products = (attention.q_lin, attention.k_lin, attention.v_lin, attention.out_lin, each.ffn.lin1, each.ffn.lin2)
        layers.append(_layer(source, products, (each.sa_layer_norm, each.output_layer_norm)))
    return _bert(source, layers, activation=source.config.activation, heads=source.config.n_heads)


def albert(source: SourceModel) -> EncoderWeights:
    """Layers share their weights, by groups."""
    groups, layers = source.base.encoder.albert_layer_groups, []
    for place in range(source.config.num_hidden_layers):
        for each in groups[place * len(groups) // source.config.num_hidden_layers].albert_layers:
            attention = each.attention
            products = attention.query, attention.key, attention.value, attention.dense, each.ffn, each.ffn_output
            layers.append(_layer(source, products, (attention.LayerNorm, each.full_layer_layer_norm)))
    return _bert(source, layers, source.base.encoder.embedding_hidden_mapping_in)


def modernbert(source: SourceModel) -> EncoderWeights:
    """ModernBERT's encoder."""
    base, config = source.base, source.config
    layers = []
    for each in base.layers:
        query, key, value = source.parts(each.attn.Wqkv, 3)
        up, gate = source.parts(each.mlp.Wi, 2)
        layers.append(
            Layer(
                query,
                key,
                value,
                source.linear(each.attn.Wo),
                norm(each.attn_norm) if hasattr(each.attn_norm, "weight") else None,
                up,
                source.linear(each.mlp.Wo),
                norm(each.mlp_norm),
                gate,
                Modern(*_modernbert_positions(base, each, config.local_attention)),
            )
        )
    return EncoderWeights(
        words=array(base.embeddings.tok_embeddings.weight),
        embedding_norm=norm(base.embeddings.norm),
        heads=config.num_attention_heads,
        layers=tuple(layers),
        activation=known_activation(config.hidden_activation),
        epsilon=config.norm_eps,
        final_norm=norm(base.final_norm),
        length=source.length,
    )


def deberta_v2(source: SourceModel) -> EncoderWeights:
    """DeBERTa-v2 and v3. The embeddings are projected before their norm, so that the tables can be."""
    base, embeddings = source.base, source.base.embeddings
    if base.encoder.conv is not None:
        raise UnknownEncoderError("its first layer has a convolution")
    if not base.encoder.relative_attention:
        raise UnknownEncoderError("it has no relative positions")
    body = _bert(source, [_deberta_layer(source, each, base.encoder) for each in base.encoder.layer])
    tables = {name: table for name in ("words", "positions", "types") if (table := getattr(body, name)) is not None}
    if embeddings.embed_proj is not None:
        projection = array(embeddings.embed_proj.weight).T
        tables = {name: table @ projection for name, table in tables.items()}
    if "positions" in tables:
        tables["positions"] = tables["positions"][: source.length]
    attention = base.encoder.layer[0].attention.self
    return replace(
        body,
        **tables,
        length=source.length,
        relative_rows=_log_buckets(
            source.length, attention.position_buckets, attention.max_relative_positions, attention.pos_ebd_size
        ),
    )


def array(tensor: torch.Tensor) -> FloatArray:
    """The numbers of a tensor, without a copy where they are fp32."""
    numbers: FloatArray = tensor.detach().float().contiguous().numpy()
    return numbers


def norm(module: Any) -> Norm:
    """The weights of a layer norm."""
    weight = array(module.weight)
    return Norm(weight, np.zeros_like(weight) if module.bias is None else array(module.bias))


def known_activation(name: object) -> str:
    """What `formula.py` calls an activation of a configuration, or a module of `torch.nn`."""
    if isinstance(name, torch.nn.GELU):
        return "gelu_tanh" if name.approximate == "tanh" else "gelu"
    if isinstance(name, torch.nn.Module):
        name = {"Identity": "none"}.get(type(name).__name__, type(name).__name__.lower())
    known = _ACTIVATIONS.get(str(name), str(name))
    if known not in ("none", "gelu", "gelu_tanh", "relu", "tanh"):
        raise UnknownEncoderError(f"its activation {known} is not known")
    return known


def _bert_layer(source: SourceModel, layer: Any, suffix: str = "") -> Layer:
    """suffix: of the names of queries, keys and values."""
    read, after, up, down = layer.attention.self, layer.attention.output, layer.intermediate.dense, layer.output
    scored = [getattr(read, f"{name}{suffix}") for name in ("query", "key", "value")]
    return _layer(source, (*scored, after.dense, up, down.dense), (after.LayerNorm, down.LayerNorm))


def _layer(source: SourceModel, products: Sequence[Any], norms: tuple[Any, Any]) -> Layer:
    """A layer of BERT's kind. products: in the order of `Layer`. norms: behind the attention and the feed-forward."""
    query, key, value, output, up, down = map(source.linear, products)
    return Layer(query, key, value, output, norm(norms[0]), up, down, norm(norms[1]))


def _deberta_layer(source: SourceModel, layer: Any, encoder: Any) -> Layer:
    """Scores are divided by the square root of how many terms they have, which goes into the queries."""
    attention = layer.attention.self
    terms = {"c2p", "p2c"}.intersection(attention.pos_att_type)
    factor = np.float32((1 + len(terms)) ** -0.5)
    found = _bert_layer(source, layer, "_proj")
    query, key, shared = found.query, found.key, attention.share_att_key
    tables = {"c2p": np.zeros((2 * attention.pos_ebd_size, len(key.weight)), np.float32)}
    tables["p2c"] = tables["c2p"]
    with torch.inference_mode():
        embeddings = encoder.get_rel_embedding()[: 2 * attention.pos_ebd_size]
        for term in terms:
            own = ("key_proj", "pos_key_proj") if term == "c2p" else ("query_proj", "pos_query_proj")
            tables[term] = array(getattr(attention, own[0] if shared else own[1])(embeddings))
    # Shared projections read the relative embeddings too; what they read of the tokens is what the value's reads.
    rows = found.value.input
    return replace(
        found,
        query=Linear(rows, query.weight * factor, query.bias * factor),
        key=replace(key, input=rows),
        relative=Relative(tables["c2p"], tables["p2c"] * factor),
    )


def _log_buckets(length: int, buckets: int, largest: int, span: int) -> npt.NDArray[np.int32]:
    """The relative position of every distance between the tokens of a pair, as `transformers` counts them.

    `buckets`: of one side; 0 or less where every distance has a position of its own. `span`: positions of one side.
    """
    distances = torch.arange(1 - length, length)
    if buckets > 0 and largest > 0:
        distances = make_log_bucket_position(distances, buckets, largest)
    rows: npt.NDArray[np.int32] = (distances.long() + span).clamp(0, 2 * span - 1).int().numpy()
    return rows


def _bert(
    source: SourceModel,
    layers: Sequence[Layer],
    projection: Any = None,
    *,
    activation: str | None = None,
    heads: int | None = None,
) -> EncoderWeights:
    """An encoder with BERT's embeddings. `activation`, `heads`: where the configuration names them otherwise."""
    embeddings, config = source.base.embeddings, source.config
    if getattr(config, "position_embedding_type", "absolute") != "absolute":
        raise UnknownEncoderError(f"its positions are {config.position_embedding_type}")
    types = getattr(embeddings, "token_type_embeddings", None)
    return EncoderWeights(
        words=array(embeddings.word_embeddings.weight),
        positions=None if embeddings.position_embeddings is None else array(embeddings.position_embeddings.weight),
        types=None if types is None else array(types.weight),
        embedding_norm=norm(embeddings.LayerNorm),
        projection=None if projection is None else source.linear(projection),
        heads=config.num_attention_heads if heads is None else heads,
        layers=tuple(layers),
        activation=known_activation(config.hidden_act if activation is None else activation),
        epsilon=embeddings.LayerNorm.eps,
    )


def _modernbert_positions(base: Any, layer: Any, window: int) -> tuple[int, FloatArray]:
    """The window of a layer, 0 where all tokens see all; and its frequencies. Both moved in transformers 5."""
    if hasattr(layer, "attention_type"):
        local = layer.attention_type == "sliding_attention"
        frequencies = getattr(base.rotary_emb, f"{layer.attention_type}_inv_freq")
    else:
        local, frequencies = layer.attn.local_attention != (-1, -1), layer.attn.rotary_emb.inv_freq
    return (window if local else 0), array(frequencies)
