"""int8 encoder kernels: token ids in, logits out, the same bytes on every processor.

`Encoder` runs a plan. `operations` has each operation alone, and `reference` the same in plain numpy.
"""

from pairscore_kernels.encoder import Encoder, available
from pairscore_kernels.plan import PLAN_FORMAT

__version__ = "0.2.0"

# All instruction sets, best first. `available()` tells those that this build has and this processor runs.
ISAS = ("amx", "avx512vnni", "avxvnni", "avx512bw", "avx2", "i8mm", "dotprod", "portable")

__all__ = ["ISAS", "PLAN_FORMAT", "Encoder", "__version__", "available"]
