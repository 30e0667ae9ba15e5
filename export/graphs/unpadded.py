"""The unpadded graph: for batches of one length, without attention mask, each attention one fused operation.

A batch whose pairs all have the same length has nothing to mask. Without a mask ONNX Runtime's `MultiHeadAttention`
runs in a flash attention kernel on a GPU (Dao 2023, arXiv 2307.08691), which never writes the matrix of scores to
memory. Such a graph is wrong for padded batches, so it stands beside the standard one, under a name of its own.

What is left, ONNX Runtime's optimizer fuses: embeddings, bias and activation, residual and normalisation.

The biases of keys and values are folded away on the way. Adding a constant to every key adds one number to all scores
of a query, which softmax takes off again; and since its weights sum to one, the bias of the values comes through
unchanged and can be added behind the next projection instead. Each saves a pass over the activations.

Attention is proved by its values (`attention.py`). Then both graphs score random tokens of several lengths, up to the
longest that the model takes, where a window or a bias by distance would show.
"""

from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnxruntime.transformers.fusion_options import FusionOptions
from onnxruntime.transformers.optimizer import optimize_model

from pairscore.export.graphs.attention import TOLERANCE, Attention, find_attentions
from pairscore.export.graphs.editing import MICROSOFT, session_of, with_nodes
from pairscore.export.graphs.probe import Probe, random_feed
from pairscore.export.graphs.rewrites import Rewritten

# Lengths at which both graphs are compared, beside the longest.
_LENGTHS = (3, 61, 200)
_NOT_APPLIED = "unpadded: not applied, "


def unpadded(model: onnx.ModelProto, max_length: int) -> Rewritten:
    """Fuse every attention of `model` and drop its mask: exact for batches of one length, up to `max_length` tokens.

    The graph comes back as it was, and the note says why, where an attention is not understood or the logits differ.
    """
    probe = Probe.of(model)
    if probe is None:
        return Rewritten(model, _NOT_APPLIED + "the graph is too large to be probed")
    found, attentions = find_attentions(model, probe)
    if not attentions or len(found) < attentions:
        return Rewritten(model, f"{_NOT_APPLIED}{len(found)} of {attentions} attentions were recognised")
    fused = {each.context: each for each in found}
    rewritten = deepcopy(model)
    kept = [node for node in rewritten.graph.node if node.output[0] not in fused]
    made = list(map(_fused_node, fused.values()))
    _fold_biases(rewritten, kept, made)
    rewritten = with_nodes(rewritten, [*kept, *made])
    used = {name for node in rewritten.graph.node for name in node.input}
    inputs = [value for value in rewritten.graph.input if value.name in used]
    if "attention_mask" in {value.name for value in inputs}:
        return Rewritten(model, _NOT_APPLIED + "the mask is needed outside of attention too")
    del rewritten.graph.input[:]
    rewritten.graph.input.extend(inputs)
    rewritten = _library_fusions(rewritten)
    return proved(model, rewritten, len(fused), max_length)


def proved(model: onnx.ModelProto, rewritten: onnx.ModelProto, fused: int, max_length: int) -> Rewritten:
    """The graph `rewritten`, of so many fused attentions, where it gives the logits of `model`; else `model`."""
    lengths = [*(length for length in _LENGTHS if length < max_length), max_length]
    difference = _largest_difference(model, rewritten, lengths)
    if not difference <= TOLERANCE:
        return Rewritten(model, f"{_NOT_APPLIED}logits would differ by {difference:.2g}")
    return Rewritten(rewritten, f"unpadded: {fused} attentions fused, no mask, for batches of one length")


def _fused_node(found: Attention) -> onnx.NodeProto:
    return helper.make_node(
        "MultiHeadAttention",
        [found.query, found.key, found.value],
        [found.context],
        name=f"{found.context}/fused",
        domain=MICROSOFT,
        num_heads=found.heads,
    )


def _fold_biases(model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], fused: Sequence[onnx.NodeProto]) -> None:
    """Take the bias off every key, and move the bias of every value behind the projection that follows.

    nodes: the graph's, without the attentions of `fused`; both are changed in place. A bias in a place that is not
    understood stays where it is.
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    producer = {name: node for node in nodes for name in node.output}
    consumers: dict[str, list[onnx.NodeProto]] = {}
    for node in (*nodes, *fused):
        for name in node.input:
            consumers.setdefault(name, []).append(node)

    def biased(node: onnx.NodeProto | None) -> tuple[str, str] | None:
        """What a node adds a bias to, and the bias; None for a node that does something else."""
        if node is None or node.op_type != "Add":
            return None
        names = sorted(node.input, key=lambda name: name in weights)
        return (names[0], names[1]) if names[1] in weights and len(weights[names[1]].dims) == 1 else None

    def only_consumer(name: str) -> onnx.NodeProto | None:
        found = consumers.get(name, [])
        return found[0] if len(found) == 1 else None

    for attention in fused:
        key = biased(producer.get(attention.input[1]))
        if key is not None:
            attention.input[1] = key[0]
        value = biased(producer.get(attention.input[2]))
        projection = only_consumer(attention.output[0])
        if value is None or projection is None or projection.op_type != "MatMul" or projection.input[1] not in weights:
            continue
        added = only_consumer(projection.output[0])
        behind = biased(added)
        if added is None or behind is None:
            continue
        moved = numpy_helper.to_array(weights[value[1]]).astype(np.float64)
        moved = moved @ numpy_helper.to_array(weights[projection.input[1]])
        moved += numpy_helper.to_array(weights[behind[1]])
        name = f"{behind[1]}/with the values' bias of {attention.output[0]}"
        model.graph.initializer.append(numpy_helper.from_array(moved.astype(np.float32), name))
        attention.input[2] = value[0]
        added.input[list(added.input).index(behind[1])] = name


def _library_fusions(model: onnx.ModelProto) -> onnx.ModelProto:
    """What ONNX Runtime's own optimizer fuses: embeddings, bias and GELU, residual and normalisation."""
    options = FusionOptions("bert")
    options.enable_attention = False
    # The optimizer changes the model that it is given; levels above 0 would fuse for the CPU of this machine.
    made = optimize_model(deepcopy(model), model_type="bert", opt_level=0, optimization_options=options).model
    if not isinstance(made, onnx.ModelProto):
        raise TypeError(f"the optimizer gave a {type(made).__name__}")
    return made


def _largest_difference(model: onnx.ModelProto, rewritten: onnx.ModelProto, lengths: Sequence[int]) -> float:
    """Between the logits of both graphs, over random tokens."""
    sessions = [session_of(each) for each in (model, rewritten)]
    differences = []
    for length in lengths:
        first, second = (
            session.run(None, {node.name: random_feed(node.name, 2, length) for node in session.get_inputs()})[0]
            for session in sessions
        )
        differences.append(np.abs(np.asarray(first) - np.asarray(second)).max())
    return float(np.max(differences))
