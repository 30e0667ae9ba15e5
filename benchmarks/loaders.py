"""How each system is loaded, in the process that it runs in. Every peer runs as its own documentation recommends.

A loader takes the files and its arguments and returns a function from pairs to their logits, Shape (pairs,) or
(pairs, labels), and to what it counted on the way (empty for peers). Imports are local: a peer's environment holds that
peer alone.
"""

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Pairs = list[tuple[str, str]]
Logits = npt.NDArray[np.float32]
Predict = Callable[[Pairs], tuple[Logits, Mapping[str, float]]]

# Whatever a loader has started; the process closes it when it has served.
CLOSING = ExitStack()


@dataclass(frozen=True)
class Files:
    """`checkpoint`: the PyTorch checkpoint. `bundle`: what `pairscore export` made of it. `onnx`: the folder that
    `prepare_onnx` fills for peers. `openvino`: one for what other peers convert.
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


# Peers -------------------------------------------------------------------------------------------------


def prepare_onnx(files: Files, int8_configuration: Literal["arm64", "avx2", "avx512", "avx512_vnni"]) -> Predict:
    """Write the ONNX files that peers load, by sentence-transformers' own exports.

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
    *,
    backend: str = "torch",
    dtype: str | None = None,
    file_name: str | None = None,
    device: str = "cpu",
) -> Predict:
    """`CrossEncoder.predict`. `file_name`: one of those that `prepare_onnx` made."""
    kwargs: dict[str, Any] = {}
    if backend == "torch":
        kwargs["torch_dtype"] = dtype or "float32"
    if file_name:
        kwargs["file_name"] = f"onnx/{file_name}"
    source = files.onnx if backend == "onnx" else files.checkpoint
    return _cross_encoder(source, batch_size, device=device, backend=backend, model_kwargs=kwargs)


def _cross_encoder(source: str, batch_size: int, **options: Any) -> Predict:
    import torch
    from sentence_transformers import CrossEncoder

    model: Any = CrossEncoder(source, **options)
    identity = torch.nn.Identity()

    def predict(pairs: Pairs) -> tuple[Logits, dict[str, float]]:
        logits = model.predict(pairs, batch_size=batch_size, activation_fn=identity, show_progress_bar=False)
        return np.asarray(logits, dtype=np.float32), {}

    return predict


def openvino_int8(files: Files, batch_size: int, settings: dict[str, str] | None = None) -> Predict:
    """sentence-transformers on OpenVINO in int8.

    Without `settings`, optimum-intel calibrates scales of weights and activations with the first pairs. With them,
    NNCF makes the weights int8 alone, and OpenVINO quantizes activations as it runs; pooler and classifier stay.
    """
    intel: Any = import_module("optimum.intel")  # of the peer's own environment, unknown to the type checkers here
    from sentence_transformers import CrossEncoder

    folder = Path(tempfile.mkdtemp(dir=files.openvino))
    model: Any = CrossEncoder(files.checkpoint, device="cpu", backend="openvino")
    model.save_pretrained(str(folder))
    if settings is None:
        from datasets import Dataset

        quantizer = intel.OVQuantizer.from_pretrained(
            intel.OVModelForSequenceClassification.from_pretrained(files.checkpoint, export=True)
        )
        pairs = json.loads((Path(files.openvino) / "calibration.json").read_text())
        encoded = model.tokenizer([pair[0] for pair in pairs], [pair[1] for pair in pairs], truncation=True)
        config = intel.OVConfig(quantization_config=intel.OVQuantizationConfig())
        source = folder / "int8"
        quantizer.quantize(Dataset.from_dict(dict(encoded)), save_directory=str(source), ov_config=config)
        model.tokenizer.save_pretrained(str(source))
    else:
        nncf: Any = import_module("nncf")
        import openvino

        source, (graph,) = folder, folder.rglob("openvino_model.xml")
        kept = nncf.IgnoredScope(patterns=[".*pooler.*", ".*classifier.*"])
        small = nncf.compress_weights(
            openvino.Core().read_model(graph), mode=nncf.CompressWeightsMode.INT8_ASYM, ignored_scope=kept
        )
        openvino.save_model(small, graph.with_name("small.xml"), compress_to_fp16=False)
        for file in graph.parent.glob("small.*"):
            file.replace(graph.with_suffix(file.suffix))
    kwargs = {"ov_config": settings or {}}
    return _cross_encoder(str(source), batch_size, device="cpu", backend="openvino", model_kwargs=kwargs)


def ctranslate2(files: Files, batch_size: int) -> Predict:
    """CTranslate2's encoder in int8, one thread a batch, batches sorted by length; its library knows no classifier,
    so the last product is numpy's.
    """
    library: Any = import_module("ctranslate2")
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    folder = tempfile.mkdtemp(dir=files.openvino)
    library.converters.TransformersConverter(files.checkpoint).convert(folder, quantization="int8", force=True)
    threads = len(os.sched_getaffinity(0))
    encoder = library.Encoder(folder, compute_type="int8", inter_threads=threads, intra_threads=1)
    tokenizer = Tokenizer.from_file(str(Path(files.checkpoint) / "tokenizer.json"))
    tokenizer.no_padding()
    config = json.loads((Path(files.checkpoint) / "config.json").read_text())
    tokenizer.enable_truncation(config["max_position_embeddings"])
    weights = load_file(Path(files.checkpoint) / "model.safetensors")
    classifier, bias = weights["classifier.weight"].T, weights["classifier.bias"]

    def predict(pairs: Pairs) -> tuple[Logits, dict[str, float]]:
        encodings = tokenizer.encode_batch(pairs)
        order = sorted(range(len(pairs)), key=lambda row: -len(encodings[row].ids))
        logits = np.empty((len(pairs), len(bias)), np.float32)

        def run(rows: list[int]) -> None:
            some = [encodings[row] for row in rows]
            given = [each.ids for each in some], None, [each.type_ids for each in some]
            logits[rows] = np.asarray(encoder.forward_batch(*given).pooler_output) @ classifier + bias

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(run, [order[start : start + batch_size] for start in range(0, len(order), batch_size)]))
        return logits, {}

    return predict


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


def infinity(files: Files, batch_size: int) -> Predict:
    """The `AsyncEmbeddingEngine` of infinity on torch: a claim with its evidence a request, all of them at once."""
    os.environ["DO_NOT_TRACK"] = "1"  # it reports its use otherwise
    library: Any = import_module("infinity_emb")
    source = str(Path(files.checkpoint).resolve())
    arguments = library.EngineArgs(
        model_name_or_path=source, engine="torch", device="cpu", batch_size=batch_size, model_warmup=False
    )
    model = library.AsyncEmbeddingEngine.from_args(arguments)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(model.astart())
    CLOSING.callback(lambda: loop.run_until_complete(model.astop()))

    async def ask(claim: str, rows: list[int], pairs: Pairs, logits: Logits) -> None:
        ranked, _ = await model.rerank(query=claim, docs=[pairs[row][1] for row in rows], raw_scores=True)
        for each in ranked:
            logits[rows[each.index]] = each.relevance_score

    async def ask_all(pairs: Pairs) -> Logits:
        logits = np.full(len(pairs), np.nan, np.float32)
        await asyncio.gather(*(ask(claim, rows, pairs, logits) for claim, rows in rows_by_claim(pairs).items()))
        return logits

    return lambda pairs: (loop.run_until_complete(ask_all(pairs)), {})
