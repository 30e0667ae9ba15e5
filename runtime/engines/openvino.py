"""OpenVINO on the CPU, reading the same ONNX files."""

import threading
from pathlib import Path
from typing import Any

import numpy as np

from pairscore.runtime.engines.batch import Batch
from pairscore.runtime.engines.protocol import EngineOptions
from pairscore.runtime.errors import PairscoreError, one_line
from pairscore.runtime.machine import import_extra
from pairscore.runtime.types import FloatArray

TOKEN_BUDGET = 1024

# OpenVINO chooses a faster precision by itself where the processor has one, so the precision is always pinned here.
# Activations are quantized only if the variant's settings give a group size.
_PRECISION_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
_NO_DYNAMIC_QUANTIZATION = {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}


class OpenVinoEngine:
    """One compiled model, its precision pinned. Raises PairscoreError naming what is missing.

    It has one stream for each batch that is computed at once, and one request for each calling thread.
    """

    name = "openvino"

    def __init__(self, graph: Path, precision: str, device: str, options: EngineOptions) -> None:
        if device != "cpu":
            raise PairscoreError(f"OpenVINO serves the CPU here, not device {device!r}: use --engine onnxruntime")
        if precision not in _PRECISION_HINTS:
            raise PairscoreError(f"OpenVINO does not run {precision}: use one of {', '.join(_PRECISION_HINTS)}")
        core = import_extra("openvino", "openvino", "this engine").Core()
        if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise PairscoreError(
                "this processor computes no bf16 (it has neither AVX512_BF16 nor AMX): use --precision fp32 or int8"
            )
        properties = {
            "INFERENCE_PRECISION_HINT": _PRECISION_HINTS[precision],
            "NUM_STREAMS": str(options.callers),
            "INFERENCE_NUM_THREADS": str(options.callers * options.threads_per_batch),
            **_NO_DYNAMIC_QUANTIZATION,
            **options.settings,
        }
        try:
            model = core.read_model(graph)
            self.model = core.compile_model(model, "CPU", properties)
        except Exception as error:  # the library's exceptions share no base class of its own
            raise PairscoreError(
                f"OpenVINO cannot open {str(graph)!r} ({one_line(error)}): use another --engine, or export the bundle "
                "again"
            ) from error
        self._inputs = {node.get_any_name(): node.get_element_type().to_dtype() for node in self.model.inputs}
        self._vocabulary = _vocabulary(model)
        self._requests = threading.local()
        self.precision = precision
        self.device = device
        self.callers = options.callers
        self.token_budget = options.token_budget or TOKEN_BUDGET

    def run(self, batch: Batch) -> FloatArray:
        """As `Engine.run`."""
        # OpenVINO takes an embedding of zeros for an id beyond its table.
        if self._vocabulary is not None and (largest := int(batch.input_ids.max())) >= self._vocabulary:
            raise PairscoreError(
                f"token id {largest} has no embedding, of which there are {self._vocabulary}: export the model again"
            )
        request = getattr(self._requests, "request", None)
        if request is None:
            request = self._requests.request = self.model.create_infer_request()
        # The result lies in the request's own memory, which the thread's next batch overwrites.
        return np.array(request.infer(batch.feeds(self._inputs))[0], dtype=np.float32)


def _vocabulary(model: Any) -> int | None:
    """Rows of the table that the token ids choose from, through conversions alone; None where there is none."""
    waiting = [model.input("input_ids")]
    while waiting:
        for use in waiting.pop().get_target_inputs():
            node = use.get_node()
            if node.get_type_name() == "Convert":
                waiting.append(node.output(0))
            elif node.get_type_name() == "Gather" and use.get_index() == 1:
                return int(node.input(0).get_partial_shape()[0].get_length())
    return None


open_engine = OpenVinoEngine
