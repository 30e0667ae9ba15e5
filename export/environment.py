"""What an export ran with: library releases and the processor."""

import platform
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from pairscore.runtime.errors import PairscoreError

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
    missing = [name for name in _MODULES if find_spec(name) is None]
    if missing:
        raise PairscoreError(
            f"exporting and verifying need PyTorch and its libraries, and {', '.join(missing)} is not installed: "
            '`pip install "pairscore[export,cpu]"`'
        )


def library_versions() -> dict[str, str]:
    """Library -> release, of those that are installed and decide what an export gives."""
    versions = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
