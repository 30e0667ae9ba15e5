"""ONNX Runtime on the CPU."""

from pathlib import Path

import numpy as np

from pairscore.runtime.engines.batch import Batch
from pairscore.runtime.engines.onnxruntime.session import (
    import_onnxruntime,
    input_types,
    new_session_options,
    open_session,
)
from pairscore.runtime.engines.protocol import EngineOptions
from pairscore.runtime.types import FloatArray

TOKEN_BUDGET = 1024


class OnnxRuntimeEngine:
    """One session, called by several threads at once.

    The session itself is single-threaded: every calling thread computes its own batch on its own core, which wastes
    nothing on synchronisation and keeps one copy of the weights.
    """

    name = "onnxruntime"
    device = "cpu"

    def __init__(self, graph: Path, options: EngineOptions) -> None:
        ort = import_onnxruntime()
        session_options = new_session_options(ort, options)
        session_options.intra_op_num_threads = options.threads_per_batch
        session_options.inter_op_num_threads = 1
        session_options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = open_session(ort, graph, session_options, ("CPUExecutionProvider", {}), self.device)
        self._inputs = input_types(self._session)
        self._output = self._session.get_outputs()[0].name
        self.callers = options.callers
        self.token_budget = options.token_budget or TOKEN_BUDGET

    def run(self, batch: Batch) -> FloatArray:
        """As `Engine.run`."""
        (logits,) = self._session.run([self._output], batch.feeds(self._inputs))
        return np.asarray(logits, dtype=np.float32)
