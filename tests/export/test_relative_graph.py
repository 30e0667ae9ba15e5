"""DeBERTa's unpadded graph: the logits of the formula for batches of any one length."""

from collections import Counter

import numpy as np
import onnx_ir
import onnxruntime as ort
import pytest
import torch

from pairscore.export.checkpoint import open_checkpoint
from pairscore.export.encoder.read import read_encoder
from pairscore.export.graphs.fp16 import unpadded
from pairscore.export.model import LogitsModel
from pairscore.export.reference import load_reference

MAX_LENGTH = 64


@pytest.fixture(scope="module")
def encoder_of(checkpoint):
    """`encoder_of(**changes)`: with weights large enough for attention to depend on positions."""

    def read(**changed):
        model = LogitsModel(load_reference(open_checkpoint(str(checkpoint("deberta-v2", **changed)))).encoder)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for name, weight in model.model.named_parameters():
                if "_proj" in name or "rel_embeddings" in name or "position_embeddings" in name:
                    weight.normal_(0, 0.3, generator=generator)
        return read_encoder(model, MAX_LENGTH)

    return read


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"share_att_key": False, "type_vocab_size": 2, "hidden_act": "gelu_new"},
        {"position_biased_input": True, "type_vocab_size": 1, "hidden_act": "relu", "num_hidden_layers": 1},
        {"position_buckets": -1, "embedding_size": 16, "num_attention_heads": 1, "pooler_hidden_act": "tanh"},
    ],
    ids=str,
)
def test_logits_are_those_of_the_formula(encoder_of, changed):
    encoder = encoder_of(**changed)
    session = ort.InferenceSession(onnx_ir.to_proto(unpadded(encoder)).SerializeToString())
    random = np.random.default_rng(0)
    for pairs, length in ((1, 1), (3, 2), (2, 17), (2, MAX_LENGTH)):
        ids = random.integers(5, len(encoder.words), (pairs, length), dtype=np.int64)
        feeds = {"input_ids": ids, "token_type_ids": ids % 2}
        feeds = {each.name: feeds[each.name] for each in session.get_inputs()}
        assert ("token_type_ids" in feeds) == (changed.get("type_vocab_size") == 2)
        types = feeds.get("token_type_ids", np.zeros_like(ids)).astype(np.int32)
        expected = encoder.logits(ids.astype(np.int32), types)
        np.testing.assert_allclose(session.run(None, feeds)[0], expected, atol=1e-5)


def test_every_attention_is_one_operation(encoder_of):
    kinds = Counter(node.op_type for node in unpadded(encoder_of()).graph)
    assert (kinds["MultiHeadAttention"], kinds["Softmax"], kinds["GatherElements"]) == (2, 0, 0)
