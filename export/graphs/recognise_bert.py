"""Read BERT and its family (RoBERTa, ELECTRA, DistilBERT) off a graph: norms follow the sums, positions are a table."""

import numpy as np

from pairscore.export.graphs.attention import Attention, find_attentions
from pairscore.export.graphs.editing import attribute
from pairscore.export.graphs.encoder import Encoder, Layer
from pairscore.export.graphs.reading import GraphReader, NotRecognisedError, as_float
from pairscore.runtime.types import FloatArray


def read_bert(graph: GraphReader, last: str) -> Encoder:
    """The encoder whose last norm gives the tensor `last`; its head is left empty. Raises NotRecognisedError."""
    found, softmaxes = find_attentions(graph.model, graph.probe)
    attentions = {graph.origin(each.context): each for each in found}
    if not softmaxes:
        raise NotRecognisedError("it has no attention")
    if len(attentions) < softmaxes:
        raise NotRecognisedError(
            f"{len(attentions)} of {softmaxes} attentions are softmax(query keyᵀ) value of all tokens; "
            "relative positions are not"
        )
    name = last
    layers: list[Layer] = []
    activations, heads = set(), set()
    while len(layers) < softmaxes:
        layer, activation, attention, name = _layer(graph, attentions, name, f"layer {softmaxes - 1 - len(layers)}")
        layers.insert(0, layer)
        activations.add(activation)
        heads.add(attention.heads)
    projection = graph.linear(name)
    norm, added = graph.norm(name if projection is None else projection.input, "the embeddings")
    words, positions, types, offset, padding_id = _embeddings(graph, added)
    return Encoder(
        words=words,
        positions=positions,
        types=types,
        position_offset=offset,
        padding_id=padding_id,
        embedding_norm=norm,
        projection=projection,
        heads=graph.only("numbers of heads", heads),
        layers=tuple(layers),
        activation=graph.only("activations", activations),
        epsilon=graph.only("epsilons", graph.epsilons),
        final_norm=None,
        pooling="first",
        length=None,
        head=(),
    )


def _layer(
    graph: GraphReader, attentions: dict[str, Attention], name: str, where: str
) -> tuple[Layer, str, Attention, str]:
    """The layer whose last norm gives `name`: its weights, activation, attention, and the tensor that it reads."""
    output_norm, added = graph.norm(name, where)
    down_output, middle = _residual(graph, added, where)
    down = graph.needed(down_output, where)
    up, activation = graph.activated(down.input, where)
    attention_norm, added = graph.norm(middle, where)
    graph.same(up.input, middle, f"the feed-forward of {where}")
    output_output, before = _residual(graph, added, where)
    output = graph.needed(output_output, where)
    attention = attentions.get(graph.origin(output.input))
    if attention is None:
        raise NotRecognisedError(f"the first product of {where} does not read an attention")
    projections = [graph.needed(each, where) for each in (attention.query, attention.key, attention.value)]
    for each in projections:
        graph.same(each.input, before, f"the attention of {where}")
    query, key, value = projections
    layer = Layer(query, key, value, output, attention_norm, up, down, output_norm)
    return layer, activation, attention, before


def _residual(graph: GraphReader, name: str, where: str) -> tuple[str, str]:
    """The linear layer's output and the tensor of the residual stream whose sum `name` is."""
    found = graph.total(name)
    if found is not None and (graph.is_norm(found[1]) or graph.linear(found[1]) is not None):
        return found
    raise NotRecognisedError(f"a norm of {where} does not read the sum of a linear layer and its input")


def _embeddings(graph: GraphReader, name: str) -> tuple[FloatArray, FloatArray, FloatArray | None, int, int | None]:
    """The tables of words, positions and types, the positions' offset, and the id that they do not count."""
    words: FloatArray | None = None
    positions: FloatArray | None = None
    types: FloatArray | None = None
    offset, padding_id = 0, None
    for node in graph.summands(name):
        table = None if node is None or node.op_type != "Gather" else graph.probe.constant(node.input[0])
        if node is None or table is None or table.ndim != 2 or attribute(node, "axis", 0) != 0:
            raise NotRecognisedError("its embeddings are not a sum of rows of tables")
        index = graph.origin(node.input[1])
        ids = [values[index].reshape(-1, values[index].shape[-1]) for values in graph.probe.values]
        if index == "input_ids" and words is None:
            words = as_float(table)
        elif index == "token_type_ids" and types is None:
            types = as_float(table)
        elif all((each == 0).all() for each in ids) and types is None:
            types = as_float(table[:1])
        elif all((each == np.arange(each.shape[1]) + each[0, 0]).all() for each in ids) and positions is None:
            positions, offset = as_float(table), int(ids[0][0, 0])
            padding_id = offset - 1 if graph.depends(index, "input_ids") else None
        else:
            raise NotRecognisedError("its embeddings have a table that is neither of words, positions nor types")
    if words is None or positions is None:
        raise NotRecognisedError("its embeddings have no table of " + ("words" if words is None else "positions"))
    return words, positions, types, offset, padding_id
