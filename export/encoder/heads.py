"""What follows the layers: which rows are pooled, and the small layers that make logits of them."""

from collections.abc import Callable
from typing import Any

from sentence_transformers import CrossEncoder

from pairscore.export.encoder import families
from pairscore.export.encoder.families import SourceModel, UnknownEncoderError, known_activation, norm
from pairscore.export.encoder.formula import EncoderWeights, HeadLayer

# The head's layers, and whether they read the `first` row or the `mean` of all.
Head = tuple[tuple[HeadLayer, ...], str]


def read_head(source: SourceModel) -> Head:
    """The head of a sequence-classification model of `transformers`, or of a stack of modules."""
    if isinstance(source.model, CrossEncoder):
        return _stack(source, source.model)
    return FAMILIES[source.config.model_type][1](source)


def _dense(source: SourceModel, dense: Any, activation: object, classifier: Any = None) -> Head:
    """A dense layer on the first row, and the classifier."""
    last = source.linear(classifier or source.model.classifier)
    return (HeadLayer(source.linear(dense), known_activation(activation)), HeadLayer(last, "none")), "first"


def _pooler(source: SourceModel) -> Head:
    return _dense(source, source.base.pooler.dense, "tanh")


def _roberta(source: SourceModel, activation: str = "tanh") -> Head:
    own = source.model.classifier
    return _dense(source, own.dense, activation, own.out_proj)


def _modernbert(source: SourceModel) -> Head:
    own, activation = source.model.head, known_activation(source.config.classifier_activation)
    layer = HeadLayer(source.linear(own.dense), activation, norm(own.norm), own.norm.eps)
    pooling = str(source.config.classifier_pooling)
    return (layer, HeadLayer(source.linear(source.model.classifier), "none")), {"cls": "first"}.get(pooling, pooling)


# `model_type` -> what reads the weights of the layers, and what those of the head.
FAMILIES: dict[str, tuple[Callable[[SourceModel], EncoderWeights], Callable[[SourceModel], Head]]] = {
    "albert": (families.albert, lambda source: _dense(source, source.base.pooler, "tanh")),
    "bert": (families.bert, _pooler),
    "camembert": (families.roberta, _roberta),
    "deberta-v2": (
        families.deberta_v2,
        lambda source: _dense(source, source.model.pooler.dense, source.config.pooler_hidden_act),
    ),
    "distilbert": (families.distilbert, lambda source: _dense(source, source.model.pre_classifier, "relu")),
    "electra": (families.bert, lambda source: _roberta(source, "gelu")),
    "modernbert": (families.modernbert, _modernbert),
    "roberta": (families.roberta, _roberta),
    "xlm-roberta": (families.roberta, _roberta),
}


def _stack(source: SourceModel, encoder: CrossEncoder) -> Head:
    """Pooling, then Dense modules, each with its LayerNorm; Dropout does nothing when a model is used."""
    pooling, layers = "first", []
    for module in list(encoder.children())[1:]:
        own: Any = module
        match type(module).__name__:
            case "Pooling" if own.pooling_mode in ("cls", "mean"):
                pooling = {"cls": "first"}.get(own.pooling_mode, own.pooling_mode)
            case "FirstToken" | "Dropout":
                pass
            case "Dense":
                layers.append(HeadLayer(source.linear(own.linear), known_activation(own.activation_function)))
            case "LayerNorm" if layers and layers[-1].norm is None:
                last = layers.pop()
                layers.append(HeadLayer(last.linear, last.activation, norm(own.norm), own.norm.eps))
            case kind:
                raise UnknownEncoderError(f"its module {kind} ({module}) is not known")
    return tuple(layers), pooling
