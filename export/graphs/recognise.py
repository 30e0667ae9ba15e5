"""Find the encoder of `encoder.py` in an ONNX graph, with its weights as they are there.

The graph is read backwards from its logits, by structure and by values (`reading.py`). In the end the formula and the
graph score the same random tokens: what was misread shows.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx

from pairscore.export.graphs.editing import session_of
from pairscore.export.graphs.encoder import Encoder
from pairscore.export.graphs.probe import Probe
from pairscore.export.graphs.reading import GraphReader, NotRecognisedError
from pairscore.export.graphs.recognise_bert import read_bert
from pairscore.export.graphs.recognise_modernbert import LONGEST_READ, is_modernbert, read_modernbert

__all__ = ["NotRecognisedError", "largest_difference", "recognise"]

# Logits of the formula and of the graph, both in fp32: relative to the largest, and never less than of 1.
TOLERANCE = 1e-4
# Lengths at which they are compared, beside the longest.
_LENGTHS = (3, 61)


def recognise(model: onnx.ModelProto, max_length: int) -> Encoder:
    """The encoder that `model` computes, for batches of one length up to `max_length` tokens.

    Raises NotRecognisedError for any other graph, and for one that is too large to be probed.
    """
    probe = Probe.of(model)
    if probe is None:
        raise NotRecognisedError("the graph is too large to be probed")
    reader = GraphReader(model, probe)
    head, pooling, last = reader.head()
    body = read_modernbert(reader, last, max_length) if is_modernbert(reader, last) else read_bert(reader, last)
    encoder = replace(body, head=head, pooling=pooling)
    if encoder.longest < max_length:
        raise NotRecognisedError(f"the model has {encoder.longest} positions, fewer than {max_length} tokens")
    longest = min(max_length, LONGEST_READ)
    difference = largest_difference(model, encoder, [*(each for each in _LENGTHS if each < longest), longest])
    if not difference <= TOLERANCE:
        raise NotRecognisedError(f"its logits are {difference:.2g} from those of the formula, for a reason not found")
    return encoder


def largest_difference(model: onnx.ModelProto, encoder: Encoder, lengths: Sequence[int]) -> float:
    """Between the logits of the graph and of the formula on random tokens; relative where logits exceed 1.

    All ids of the vocabulary take part, the padding's own too, and both token types.
    """
    session = session_of(model)
    random = np.random.default_rng(0)
    found = []
    for length in lengths:
        ids = random.integers(0, len(encoder.words), (2, length), dtype=np.int32)
        if encoder.padding_id is not None:
            ids[1, random.integers(0, length, 1 + length // 8)] = encoder.padding_id
        types = random.integers(0, 1 if encoder.types is None else len(encoder.types), ids.shape, dtype=np.int32)
        given = {"input_ids": ids, "token_type_ids": types, "attention_mask": np.ones_like(ids)}
        feeds = {node.name: given[node.name].astype(np.int64) for node in session.get_inputs()}
        expected = np.asarray(session.run(None, feeds)[0])
        scale = max(1.0, float(np.abs(expected).max()))
        found.append(float(np.abs(encoder.logits(ids, types) - expected).max()) / scale)
    return float(np.max(found))
