"""What follows the layers: which rows are pooled, and the small layers that make logits of them."""

from collections.abc import Callable
from typing import Any

from sentence_transformers import CrossEncoder

from pairscore.export.encoder.families import SourceModel, UnknownEncoderError, known_activation, norm
from pairscore.export.encoder.formula import HeadLayer

# The head's layers, and whether they read the `first` row or the `mean` of all.
Head = tuple[tuple[HeadLayer, ...], str]


def read_head(source: SourceModel) -> Head:
    """The head of a sequence-classification model of `transformers`, or of a stack of modules."""
    if isinstance(source.model, CrossEncoder):
        return _stack(source, source.model)
    return HEADS[source.config.model_type](source)


def _pooler(source: SourceModel) -> Head:
    """BERT's: a dense layer of the base model, then the classifier."""
    return _first(source, (source.base.pooler.dense, "tanh"))


def _albert(source: SourceModel) -> Head:
    return _first(source, (source.base.pooler, "tanh"))


def _roberta(source: SourceModel) -> Head:
    return _first(source, (_classifier(source).dense, "tanh"), _classifier(source).out_proj)


def _electra(source: SourceModel) -> Head:
    return _first(source, (_classifier(source).dense, "gelu"), _classifier(source).out_proj)


def _distilbert(source: SourceModel) -> Head:
    model: Any = source.model
    return _first(source, (model.pre_classifier, "relu"))


def _modernbert(source: SourceModel) -> Head:
    model: Any = source.model
    dense, activation = model.head.dense, known_activation(source.config.classifier_activation)
    layer = HeadLayer(source.linear(dense), activation, norm(model.head.norm), model.head.norm.eps)
    pooling = str(source.config.classifier_pooling)
    pooling = {"cls": "first"}.get(pooling, pooling)
    return (layer, HeadLayer(source.linear(model.classifier), "none")), pooling


def _deberta_v2(source: SourceModel) -> Head:
    model: Any = source.model
    return _first(source, (model.pooler.dense, known_activation(source.config.pooler_hidden_act)))


HEADS: dict[str, Callable[[SourceModel], Head]] = {
    "albert": _albert,
    "bert": _pooler,
    "camembert": _roberta,
    "deberta-v2": _deberta_v2,
    "distilbert": _distilbert,
    "electra": _electra,
    "modernbert": _modernbert,
    "roberta": _roberta,
    "xlm-roberta": _roberta,
}


def _first(source: SourceModel, dense: tuple[Any, str], last: Any = None) -> Head:
    """A dense layer on the first row, and the classifier."""
    module, activation = dense
    layers = HeadLayer(source.linear(module), activation), HeadLayer(source.linear(last or _classifier(source)), "none")
    return layers, "first"


def _classifier(source: SourceModel) -> Any:
    return source.model.classifier


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
