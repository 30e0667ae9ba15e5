"""Score claim-evidence pairs with a cross-encoder, offline, by the million, exact to PyTorch."""

from importlib.metadata import version

from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.job.progress.meter import Progress
from pairscore.runtime.job.score import score_files
from pairscore.runtime.job.summary import Summary
from pairscore.runtime.scorer import Scorer

__version__ = version("pairscore")
__all__ = ["PairscoreError", "Progress", "Scorer", "Summary", "__version__", "score_files"]
