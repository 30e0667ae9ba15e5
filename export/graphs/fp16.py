"""fp16: the fp32 graph with its weights and arithmetic in half precision, for GPUs.

Batches of one length need no mask, so where the graph allows it the fp16 variant is the unpadded one of `unpadded.py`,
whose attention runs in fused kernels. ONNX Runtime's CUDA kernels keep sums and the statistics of softmax and layer
norm in fp32 by themselves. A CPU has no fp16 arithmetic: there, ONNX Runtime rounds to fp16 after every operation, and
where there is no GPU, parity is measured that way.
"""

import logging
import warnings
from pathlib import Path

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16

from pairscore.export.encoder.formula import Encoder
from pairscore.export.graphs.editing import LARGEST_GRAPH
from pairscore.export.graphs.relative import unpadded_relative
from pairscore.export.graphs.unpadded import unpadded
from pairscore.runtime.errors import PairscoreError, one_line

PADDED_NAME = "model_fp16.onnx"
# Not the name that other tools look for: they pad their batches, and this graph takes no mask.
UNPADDED_NAME = "model_fp16_unpadded.onnx"


def write_fp16(graph: Path, max_length: int, relative: Encoder | None = None) -> tuple[Path, str]:
    """Convert the graph at `graph` to fp16 in a file beside it; inputs stay integers and logits float32.

    max_length: the longest pair, in tokens. relative: what the graph computes, where that is an encoder with relative
    positions whose head reads the first row. Returns the file and what was done, in a sentence. Raises PairscoreError
    for a graph that is too large for one file, or that the converter cannot read.
    """
    model = onnx.load(str(graph))
    if model.ByteSize() > LARGEST_GRAPH:
        raise PairscoreError(
            f"{str(graph)!r} is {model.ByteSize():,} bytes, too large to convert: use --precision fp32"
        )
    rewritten = unpadded(model, max_length) if relative is None else unpadded_relative(model, relative, max_length)
    target = graph.with_name(PADDED_NAME if rewritten.model is model else UNPADDED_NAME)
    # The converter warns of every constant that fp16 cannot hold, such as the mask's lowest number, which becomes
    # fp16's lowest.
    logging.getLogger("onnxruntime.transformers.float16").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            converted = convert_float_to_float16(rewritten.model, keep_io_types=True)
    except Exception as error:  # the converter raises whatever it stumbles over
        raise PairscoreError(
            f"{str(graph)!r} cannot be converted to fp16 ({one_line(error)}): use --precision fp32"
        ) from error
    onnx.save(converted, str(target))
    return target, rewritten.note
