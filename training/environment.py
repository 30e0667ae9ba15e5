"""The packages that training and evaluating need."""

from pairscore.runtime.machine import require_modules

_MODULES = ("torch", "transformers", "sentence_transformers", "accelerate", "datasets", "bm25s")


def require_train_extra() -> None:
    """Raise PairscoreError unless everything that training and evaluating need is installed."""
    require_modules(_MODULES, "training and evaluating", "train")
