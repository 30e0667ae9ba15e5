"""What all engines on ONNX Runtime share: its module, its sessions and their inputs."""

from pathlib import Path
from typing import Any

import numpy as np

from pairscore.runtime.engines.protocol import EngineOptions
from pairscore.runtime.errors import PairscoreError, one_line
from pairscore.runtime.machine import installed_versions


def import_onnxruntime() -> Any:
    """The module. Raises PairscoreError where none or both of its packages are installed, or it does not import."""
    found = installed_versions(("onnxruntime", "onnxruntime-gpu"))
    if len(found) == 2:
        raise PairscoreError(
            "both onnxruntime and onnxruntime-gpu are installed and overwrite each other's files: "
            "`pip uninstall -y onnxruntime onnxruntime-gpu`, then install pairscore[cpu] or pairscore[gpu]"
        )
    try:
        import onnxruntime
    except ImportError as error:
        reason = "ONNX Runtime is not installed" if not found else f"ONNX Runtime does not import ({one_line(error)})"
        raise PairscoreError(f"{reason}: `pip install pairscore[cpu]` (or pairscore[gpu])") from error
    return onnxruntime


def new_session_options(ort: Any, options: EngineOptions) -> Any:
    """Quiet, with the variant's own settings."""
    session_options = ort.SessionOptions()
    session_options.log_severity_level = 3
    for key, value in options.settings.items():
        session_options.add_session_config_entry(key, value)
    return session_options


def open_session(ort: Any, graph: Path, session_options: Any, provider: tuple[str, dict[str, str]], device: str) -> Any:
    """A session on the provider of this name and options, or a PairscoreError: never one that fell back to another."""
    try:
        session = ort.InferenceSession(str(graph), session_options, providers=[provider], enable_fallback=0)
    except Exception as error:  # the library's exceptions share no base class of its own
        raise PairscoreError(
            f"ONNX Runtime cannot open {str(graph)!r} on {device} ({one_line(error)}): use another --engine, or export "
            "the bundle again"
        ) from error
    if provider[0] not in session.get_providers():
        raise PairscoreError(
            f"ONNX Runtime did not give {provider[0]} for device {device!r} (it fell back to "
            f"{', '.join(session.get_providers())}): check the GPU, its driver and the CUDA libraries, or use "
            "--device cpu"
        )
    return session


def input_types(session: Any) -> dict[str, type[np.signedinteger[Any]]]:
    """The graph's inputs, in its order, and the integers that each takes."""
    return {node.name: np.int32 if node.type == "tensor(int32)" else np.int64 for node in session.get_inputs()}
