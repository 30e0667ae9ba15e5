"""fp16: weights and arithmetic in half precision, for GPUs.

A batch whose pairs all have the same length has nothing to mask. Without a mask ONNX Runtime's `MultiHeadAttention`
runs in a flash attention kernel on a GPU (Dao 2023, arXiv 2307.08691), which never writes the matrix of scores to
memory. So where the model's `EncoderWeights` can be read the fp16 variant is such an unpadded graph, wrong for padded
batches and therefore under a name of its own; else it is the fp32 graph, converted.

ONNX Runtime's CUDA kernels keep sums and the statistics of softmax and layer norm in fp32 by themselves. A CPU has no
fp16 arithmetic: there, ONNX Runtime rounds to fp16 after every operation, and where there is no GPU, parity is measured
that way.
"""

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
from onnx.external_data_helper import load_external_data_for_model
from onnxruntime.transformers.float16 import convert_float_to_float16

from pairscore.export.encoder.families import UnknownEncoderError
from pairscore.export.encoder.formula import EncoderWeights
from pairscore.export.encoder.read import read_encoder
from pairscore.export.graphs.relative import RelativeWriter
from pairscore.export.graphs.writer import Writer
from pairscore.export.model import LogitsModel
from pairscore.runtime.errors import PairscoreError, one_line

PADDED_NAME = "model_fp16.onnx"
# Not the name that other tools look for: they pad their batches, and this graph takes no mask.
UNPADDED_NAME = "model_fp16_unpadded.onnx"


def fp16_graph(model: LogitsModel, graph: Path, max_length: int) -> tuple[onnx_ir.Model, str, str]:
    """The model in fp16, made of its weights or of its graph in fp32; inputs stay integers and logits float32.

    max_length: the longest pair, in tokens. Returns the file's name too, and what was done, in a sentence. Raises
    PairscoreError for a graph that the converter cannot read.
    """
    reason = "its attention is none that has a fused operation"
    try:
        encoder = read_encoder(model, max_length)
        if (made := unpadded(encoder, np.float16)) is not None:
            note = f"unpadded: {len(encoder.layers)} attentions fused, no mask, for batches of one length"
            return made, UNPADDED_NAME, note
    except UnknownEncoderError as error:
        reason = str(error)
    return onnx_ir.from_proto(_converted(graph)), PADDED_NAME, f"unpadded: not applied, {reason}"


def unpadded(encoder: EncoderWeights, precision: type[np.floating[Any]] = np.float32) -> onnx_ir.Model | None:
    """The graph of an encoder, its weights and arithmetic in `precision`, its logits in fp32.

    None for ModernBERT, whose windows no fused operation knows, and for relative positions of which all rows are read.
    """
    if encoder.relative_rows is not None:
        return RelativeWriter(encoder, precision).model() if encoder.pooling == "first" else None
    return None if encoder.modern else Writer(encoder, precision).model()


def _converted(graph: Path) -> onnx.ModelProto:
    # Shapes are found before the weights outside are read: beyond 2 GiB they cannot be.
    model = onnx.shape_inference.infer_shapes(onnx.load(str(graph), load_external_data=False))
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
