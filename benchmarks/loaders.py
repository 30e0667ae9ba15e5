"""How each system is loaded, in the process that it runs in. Every peer runs as its own documentation recommends.

A loader takes the files and its arguments and returns a function from pairs to their logits, Shape (pairs,) or
(pairs, labels), and to what it counted on the way (empty for peers). Imports are local: a peer's environment holds that
peer alone.
"""

import json
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Pairs = list[tuple[str, str]]
Logits = npt.NDArray[np.float32]
Predict = Callable[[Pairs], tuple[Logits, dict[str, float]]]

# What a loader started and the process has to end: closed when it has served.
CLOSING = ExitStack()


@dataclass(frozen=True)
class Files:
    """`checkpoint`: the PyTorch checkpoint. `bundle`: what `pairscore export` made of it. `onnx`: the folder that
    `prepare_onnx` fills for peers. `openvino`: the one that `openvino_int8` fills.
    """

    checkpoint: str
    bundle: str
    onnx: str
    openvino: str


def rows_by_claim(pairs: Pairs) -> dict[str, list[int]]:
    """The rows of every claim, for peers that take one claim and all its evidence."""
    rows: dict[str, list[int]] = {}
    for row, (claim, _) in enumerate(pairs):
        rows.setdefault(claim, []).append(row)
    return rows


# Ours --------------------------------------------------------------------------------------------------


def pairscore(files: Files, precision: str, engine: str, device: str, threads: int | None = None) -> Predict:
    """One precision on one engine, from a list of text pairs to logits, as `Scorer.predict` does it."""
    from pairscore import Scorer
    from pairscore.runtime.stream.pipeline import Statistics

    scorer = Scorer.from_pretrained(files.bundle, precision=precision, engine=engine, device=device, threads=threads)

    def predict(pairs: Pairs) -> tuple[Logits, dict[str, float]]:
        total, logits = Statistics(), []
        for scored in scorer.stream_pairs(pairs):
            total.add(scored.statistics)
            logits.append(scored.logits)
        return np.concatenate(logits), {**asdict(total), "callers": scorer.engine.callers}

    return predict


def gemm(files: Files, shapes: list[tuple[int, int, int]], threads: int) -> Predict:
    """Not a scorer: fp32 matrix products of the model's shapes (rows, inputs, outputs), one thread a core."""
    import torch

    torch.set_num_threads(1)
    operands = [(torch.rand(rows, inputs), torch.rand(inputs, outputs)) for rows, inputs, outputs in shapes]
    work = sum(2 * rows * inputs * outputs for rows, inputs, outputs in shapes)

    def repeat(seconds: float, done: list[float]) -> None:
        started, count = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - started) < seconds:
            for left, right in operands:
                torch.mm(left, right)
            count += 1
        done.append(count * work / elapsed)

    def measure(pairs: Pairs) -> tuple[Logits, dict[str, float]]:
        rates: list[float] = []
        running = [threading.Thread(target=repeat, args=(1.0, rates)) for _ in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        return np.zeros(len(pairs), np.float32), {"flops_per_second": sum(rates)}

    return measure


# Peers -------------------------------------------------------------------------------------------------


def prepare_onnx(files: Files, int8_configuration: Literal["arm64", "avx2", "avx512", "avx512_vnni"]) -> Predict:
    """Not a scorer: the ONNX files that peers load, by sentence-transformers' own exports.

    `int8_configuration`: what `onnx_int8_configuration` chose.
    """
    from sentence_transformers import (
        CrossEncoder,
        export_dynamic_quantized_onnx_model,
        export_optimized_onnx_model,
    )

    model = CrossEncoder(files.checkpoint, device="cpu", backend="onnx")
    model.save_pretrained(files.onnx)
    export_optimized_onnx_model(model, "O3", files.onnx)
    export_dynamic_quantized_onnx_model(model, int8_configuration, files.onnx, file_suffix="int8")
    return _nothing


def _nothing(pairs: Pairs) -> tuple[Logits, dict[str, float]]:
    return np.zeros(len(pairs), np.float32), {}


def sentence_transformers(
    files: Files,
    batch_size: int,
    backend: str = "torch",
    dtype: str | None = None,
    file_name: str | None = None,
) -> Predict:
    """`CrossEncoder.predict`. `file_name`: one of those that `prepare_onnx` made."""
    import torch
    from sentence_transformers import CrossEncoder

    kwargs: dict[str, Any] = {}
    if backend == "torch":
        kwargs["torch_dtype"] = dtype or "float32"
    if file_name:
        kwargs["file_name"] = f"onnx/{file_name}"
    source = files.onnx if backend == "onnx" else files.checkpoint
    options: dict[str, Any] = {"backend": backend, "model_kwargs": kwargs}
    model: Any = CrossEncoder(source, device="cpu", **options)
    identity = torch.nn.Identity()

    def predict(pairs: Pairs) -> tuple[Logits, dict[str, float]]:
        logits = model.predict(pairs, batch_size=batch_size, activation_fn=identity, show_progress_bar=False)
        return np.asarray(logits, dtype=np.float32), {}

    return predict


def openvino_int8(files: Files, batch_size: int) -> Predict:
    """sentence-transformers on OpenVINO, quantized by optimum-intel with the first pairs as calibration data."""
    import torch

    intel: Any = import_module("optimum.intel")  # of the peer's own environment, unknown to the type checkers here
    from sentence_transformers import CrossEncoder

    folder = Path(files.openvino)
    model: Any = CrossEncoder(files.checkpoint, device="cpu", backend="openvino")
    model.save_pretrained(str(folder))
    from datasets import Dataset

    quantizer = intel.OVQuantizer.from_pretrained(
        intel.OVModelForSequenceClassification.from_pretrained(files.checkpoint, export=True)
    )
    pairs = json.loads((folder / "calibration.json").read_text())
    encoded = model.tokenizer([pair[0] for pair in pairs], [pair[1] for pair in pairs], truncation=True)
    rows = Dataset.from_dict(dict(encoded))
    target = folder / "int8"
    quantizer.quantize(
        rows, save_directory=str(target), ov_config=intel.OVConfig(quantization_config=intel.OVQuantizationConfig())
    )
    model.tokenizer.save_pretrained(str(target))
    quantized: Any = CrossEncoder(str(target), device="cpu", backend="openvino")
    identity = torch.nn.Identity()
    return lambda pairs: (np.asarray(quantized.predict(pairs, batch_size=batch_size, activation_fn=identity)), {})


def optimum(files: Files, batch_size: int) -> Predict:
    """`ORTModelForSequenceClassification` and a tokenizer, batches in the order given, padded to their longest."""
    import torch
    from optimum.onnxruntime import ORTModelForSequenceClassification
    from transformers import AutoTokenizer

    model: Any = ORTModelForSequenceClassification.from_pretrained(files.onnx, subfolder="onnx", file_name="model.onnx")
    tokenizer: Any = AutoTokenizer.from_pretrained(files.onnx)

    def predict(pairs: Pairs) -> tuple[Logits, dict[str, float]]:
        parts = []
        for start in range(0, len(pairs), batch_size):
            claims, evidence = zip(*pairs[start : start + batch_size], strict=True)
            inputs = tokenizer(list(claims), list(evidence), padding=True, truncation=True, return_tensors="pt")
            with torch.inference_mode():
                parts.append(model(**inputs).logits.numpy())
        return np.concatenate(parts), {}

    return predict


def onnxruntime_fixed(files: Files, batch_size: int) -> Predict:
    """One ONNX Runtime session, every batch padded to one length: the longest of all pairs."""
    import onnxruntime
    from tokenizers import Tokenizer

    session: Any = onnxruntime.InferenceSession(
        str(Path(files.onnx) / "onnx/model.onnx"), providers=["CPUExecutionProvider"]
    )
    tokenizer = Tokenizer.from_file(str(Path(files.onnx) / "tokenizer.json"))
    tokenizer.enable_padding()
    tokenizer.enable_truncation(json.loads((Path(files.onnx) / "config.json").read_text())["max_position_embeddings"])
    names = [node.name for node in session.get_inputs()]

    def predict(pairs: Pairs) -> tuple[Logits, dict[str, float]]:
        encodings = tokenizer.encode_batch(pairs)
        inputs = {
            "input_ids": np.array([each.ids for each in encodings], np.int64),
            "attention_mask": np.array([each.attention_mask for each in encodings], np.int64),
            "token_type_ids": np.array([each.type_ids for each in encodings], np.int64),
        }
        parts = [
            session.run(None, {name: inputs[name][start : start + batch_size] for name in names})[0]
            for start in range(0, len(pairs), batch_size)
        ]
        tokens, padded = int(inputs["attention_mask"].sum()), inputs["input_ids"].size
        return np.concatenate(parts), {"tokens": tokens, "padded_tokens": padded}

    return predict


def fastembed(files: Files, batch_size: int) -> Predict:
    """fastembed, with this model in place of one from its list."""
    source: Any = import_module("fastembed.common.model_description").ModelSource
    encoder: Any = import_module("fastembed.rerank.cross_encoder").TextCrossEncoder
    name = "local/cross-encoder"
    encoder.add_custom_model(name, source(hf=name), "onnx/model.onnx")
    model = encoder(name, specific_model_path=files.onnx, cuda=False)
    return lambda pairs: (np.array(list(model.rerank_pairs(pairs, batch_size=batch_size)), np.float32), {})


def flashrank(files: Files) -> Predict:
    """FlashRank, with this model under the name of one that it knows. It takes one query and all its passages."""
    library: Any = import_module("flashrank")
    known, file = "ms-marco-MiniLM-L-12-v2", "flashrank-MiniLM-L-12-v2_Q.onnx"
    folder = Path(files.onnx) / "flashrank"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(files.onnx, folder / known, ignore=shutil.ignore_patterns("onnx", "flashrank"))
    shutil.copyfile(Path(files.onnx) / "onnx/model.onnx", folder / known / file)
    ranker = library.Ranker(model_name=known, cache_dir=str(folder), max_length=512)

    def predict(pairs: Pairs) -> tuple[Logits, dict[str, float]]:
        scores = np.zeros(len(pairs))
        for claim, rows in rows_by_claim(pairs).items():
            passages = [{"id": row, "text": pairs[row][1]} for row in rows]
            for result in ranker.rerank(library.RerankRequest(query=claim, passages=passages)):
                scores[result["id"]] = result["score"]
        scores = np.clip(scores, 1e-12, 1 - 1e-7)
        return np.log(scores / (1 - scores)).astype(np.float32), {}  # it gives probabilities

    return predict
