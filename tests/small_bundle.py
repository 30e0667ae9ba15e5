"""A bundle made by hand, for jobs whose scores need not be a transformer's: it is written and opened in 0.1 s.

A pair's logit is the sum of its tokens' embeddings, each times the factor of its token type. All are small multiples of
2^-16, so every sum of 64 tokens is exact in float32: the same bits in any order, batch and engine.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pairscore.runtime.bundle.manifest import GOLDEN_NAME, MANIFEST_NAME, GoldenRows, Manifest, Source, Variant, sha256
from pairscore.runtime.bundle.parity import compare
from tests import corpus
from tests.tiny_tokenizers import wordpiece

GRAPH = "onnx/model.onnx"
TYPE_FACTORS = np.array([1.0, -0.5], np.float32)
LONG = " ".join(corpus.SENTENCES[:10])
GOLDEN = [*zip(corpus.SENTENCES[:8], corpus.SENTENCES[8:16], strict=True), ("", ""), ("word", LONG), (LONG, LONG)]


def build_small_bundle(folder: Path, labels: int = 1, max_length: int = 64, seed: int = 0) -> Path:
    """Write a bundle with an fp32 variant that ONNX Runtime and OpenVINO run, and return `folder`.

    `max_length`: tokens of the longest pair. `seed`: bundles of different seeds give different scores.
    """
    (folder / "onnx").mkdir(parents=True)
    tokenizer = wordpiece(lowercase=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text('{"model_type": "bert"}\n', encoding="utf-8")
    noise = np.random.default_rng(seed).normal(0, 0.3, (tokenizer.get_vocab_size(), labels)).clip(-1, 1)
    embeddings = (np.round(noise * 2**16) / 2**16).astype(np.float32)
    onnx.save(_graph(embeddings), folder / GRAPH)

    tokenizer.enable_truncation(max_length)
    encoded = tokenizer.encode_batch(GOLDEN)
    logits = np.array([TYPE_FACTORS[each.type_ids] @ embeddings[each.ids] for each in encoded], np.float32)
    claims, evidence = zip(*GOLDEN, strict=True)
    golden = GoldenRows(claims, evidence, tuple(tuple(each.ids) for each in encoded), logits)
    (folder / GOLDEN_NAME).write_text(golden.to_json(), encoding="utf-8")

    exact = compare(logits, logits, logits, logits)
    variant = Variant(
        "fp32", (GRAPH,), ("input_ids", "token_type_ids"), ("onnxruntime", "openvino"), exact, "this machine"
    )
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    manifest = Manifest(
        source=Source("small", None, sha256(folder / GRAPH)),
        model_type="bert",
        labels=tuple(f"LABEL_{place}" for place in range(labels)),
        activation="sigmoid" if labels == 1 else "identity",
        max_length=max_length,
        truncation_side="right",
        pad_token_id=tokenizer.token_to_id("[PAD]"),
        variants={"fp32": variant},
        files={name: sha256(folder / name) for name in files},
        versions={},
    )
    (folder / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
    return folder


def _graph(embeddings: np.ndarray) -> onnx.ModelProto:
    """Token ids and types, Shape (pairs, tokens), to logits, Shape (pairs, labels)."""
    weights = {"embeddings": embeddings, "factors": TYPE_FACTORS[:, None], "tokens": np.array([1])}
    ids = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["pairs", "tokens"])
        for name in ("input_ids", "token_type_ids")
    ]
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["pairs", embeddings.shape[1]])
    nodes = [
        helper.make_node("Gather", ["embeddings", "input_ids"], ["embedded"]),
        helper.make_node("Gather", ["factors", "token_type_ids"], ["factor"]),
        helper.make_node("Mul", ["embedded", "factor"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "tokens"], ["logits"], keepdims=0),
    ]
    initializers = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "sum of embeddings", ids, [logits], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
