"""fp16: weights and arithmetic in half precision, for GPUs.

Batches of one length need no mask, so where the model's `EncoderWeights` can be read the fp16 variant is the unpadded
graph of `unpadded.py`, whose attention runs in fused kernels; else it is the fp32 graph, converted. ONNX Runtime's CUDA
kernels keep sums and the statistics of softmax and layer norm in fp32 by themselves. A CPU has no fp16 arithmetic:
there, ONNX Runtime rounds to fp16 after every operation, and where there is no GPU, parity is measured that way.
"""

import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
from onnx.external_data_helper import load_external_data_for_model
from onnxruntime.transformers.float16 import convert_float_to_float16

from pairscore.export.encoder.read import UnknownEncoderError, read_encoder
from pairscore.export.graphs.editing import load_graph, save_graph
from pairscore.export.graphs.unpadded import unpadded
from pairscore.export.model import LogitsModel
from pairscore.runtime.errors import PairscoreError, one_line

PADDED_NAME = "model_fp16.onnx"
# Not the name that other tools look for: they pad their batches, and this graph takes no mask.
UNPADDED_NAME = "model_fp16_unpadded.onnx"


def write_fp16(model: LogitsModel, graph: Path, max_length: int) -> tuple[tuple[Path, ...], str]:
    """Write the model in fp16 beside its graph in fp32, `graph`; inputs stay integers and logits float32.

    max_length: the longest pair, in tokens. Returns the files, the graph first, and what was done, in a sentence.
    Raises PairscoreError for a graph that the converter cannot read.
    """
    reason = "its attention is none that has a fused operation"
    try:
        encoder = read_encoder(model, max_length)
        if (made := unpadded(encoder, np.float16)) is not None:
            note = f"unpadded: {len(encoder.layers)} attentions fused, no mask, for batches of one length"
            return save_graph(made, graph.with_name(UNPADDED_NAME)), note
    except UnknownEncoderError as error:
        reason = str(error)
    return save_graph(_converted(graph), graph.with_name(PADDED_NAME)), f"unpadded: not applied, {reason}"


def _converted(graph: Path) -> onnx.ModelProto:
    # Shapes are found before the weights outside are read: beyond 2 GiB they cannot be.
    model = onnx.shape_inference.infer_shapes(load_graph(graph))
    load_external_data_for_model(model, str(graph.parent))
    # The converter warns of every constant that fp16 cannot hold, such as the mask's lowest number, which becomes
    # fp16's lowest.
    logging.getLogger("onnxruntime.transformers.float16").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            converted: onnx.ModelProto = convert_float_to_float16(model, keep_io_types=True, disable_shape_infer=True)
    except Exception as error:  # the converter raises whatever it stumbles over
        raise PairscoreError(
            f"{str(graph)!r} cannot be converted to fp16 ({one_line(error)}): use --precision fp32"
        ) from error
    return converted
