"""Short names of types that many modules use: arrays by what they hold, and a pair of texts."""

import numpy as np
import numpy.typing as npt

Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]

# (claim, evidence)
Pair = tuple[str, str]
