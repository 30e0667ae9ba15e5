"""The unpadded graph: for batches of one length, without attention mask, each attention one fused operation.

A batch whose pairs all have the same length has nothing to mask. Without a mask ONNX Runtime's `MultiHeadAttention`
runs in a flash attention kernel on a GPU (Dao 2023, arXiv 2307.08691), which never writes the matrix of scores to
memory. Such a graph is wrong for padded batches, so it stands beside the standard one, under a name of its own.
"""

from typing import Any

import numpy as np
import onnx

from pairscore.export.encoder.formula import EncoderWeights
from pairscore.export.graphs.relative import RelativeWriter
from pairscore.export.graphs.writer import Writer


def unpadded(encoder: EncoderWeights, precision: type[np.floating[Any]] = np.float32) -> onnx.ModelProto | None:
    """The graph of an encoder, its weights and arithmetic in `precision`, its logits in fp32.

    None for ModernBERT, whose windows no fused operation knows, and for relative positions of which all rows are read.
    """
    if encoder.relative_rows is not None:
        return RelativeWriter(encoder, precision).model() if encoder.pooling == "first" else None
    return None if encoder.modern else Writer(encoder, precision).model()
