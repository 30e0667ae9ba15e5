"""Score claim-evidence pairs with a cross-encoder, offline, by the million, exact to PyTorch."""

from importlib.metadata import version

from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.scorer import Scorer

__version__ = version("pairscore")
__all__ = ["PairscoreError", "Scorer", "__version__"]
