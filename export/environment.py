"""What an export ran with: library releases and the processor."""

import platform

from pairscore.runtime.machine import installed_versions, require_modules

_MODULES = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime", "sentence_transformers")
_DISTRIBUTIONS = (
    "pairscore",
    "torch",
    "transformers",
    "sentence-transformers",
    "optimum-onnx",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "pairscore-kernels",
    "tokenizers",
    "numpy",
)


def require_export_extra() -> None:
    """Raise PairscoreError unless everything that an export needs is installed."""
    require_modules(_MODULES, "exporting or verifying", "export,cpu")


def library_versions() -> dict[str, str]:
    """Library -> release, of those that are installed and decide what an export gives."""
    return {"python": platform.python_version(), **installed_versions(_DISTRIBUTIONS)}
