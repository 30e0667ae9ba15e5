"""The packages that training and evaluating need."""

from importlib.util import find_spec

from pairscore.runtime.errors import PairscoreError

_MODULES = ("torch", "transformers", "sentence_transformers", "accelerate", "datasets", "bm25s")


def require_train_extra() -> None:
    """Raise PairscoreError unless everything that training and evaluating need is installed."""
    missing = [name for name in _MODULES if find_spec(name) is None]
    if missing:
        raise PairscoreError(
            f"training and evaluating need PyTorch and its libraries, and {', '.join(missing)} is not installed: "
            '`pip install "pairscore[train]"`'
        )
