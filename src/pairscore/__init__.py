"""Score claim-evidence pairs with a cross-encoder, offline, by the million, exact to PyTorch.

Each name is imported when it is first used, so `import pairscore` loads neither PyTorch nor an engine.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pairscore.export.api import export_bundle
    from pairscore.export.errors import ParityError
    from pairscore.export.parity.verify import verify
    from pairscore.runtime.describe import describe
    from pairscore.runtime.errors import PairscoreError, TryAgainError
    from pairscore.runtime.job.progress.meter import Progress
    from pairscore.runtime.job.score import score_files
    from pairscore.runtime.job.summary import Summary
    from pairscore.runtime.report.survey import survey
    from pairscore.runtime.scorer import Scorer
    from pairscore.runtime.tuning import tune
    from pairscore.training.calibration.api import calibrate

__version__: str
__all__ = [
    "PairscoreError",
    "ParityError",
    "Progress",
    "Scorer",
    "Summary",
    "TryAgainError",
    "__version__",
    "calibrate",
    "describe",
    "export_bundle",
    "score_files",
    "survey",
    "tune",
    "verify",
]

_MODULE_OF = {
    "PairscoreError": "runtime.errors",
    "ParityError": "export.errors",
    "Progress": "runtime.job.progress.meter",
    "Scorer": "runtime.scorer",
    "Summary": "runtime.job.summary",
    "TryAgainError": "runtime.errors",
    "calibrate": "training.calibration.api",
    "describe": "runtime.describe",
    "export_bundle": "export.api",
    "score_files": "runtime.job.score",
    "survey": "runtime.report.survey",
    "tune": "runtime.tuning",
    "verify": "export.parity.verify",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name == "__version__":
            found = import_module("importlib.metadata").version("pairscore")  # slow to import
        elif name in _MODULE_OF:
            found = getattr(import_module(f"pairscore.{_MODULE_OF[name]}"), name)
        else:
            raise AttributeError(f"module 'pairscore' has no attribute {name!r}")
        globals()[name] = found
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
