"""What an export runs with."""

from pairscore.runtime.machine import require_modules

_MODULES = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime", "sentence_transformers")


def require_export_extra() -> None:
    """Raise PairscoreError unless everything that an export needs is installed."""
    require_modules(_MODULES, "exporting or verifying", "export,cpu")
