"""The kernels under test. They are a distribution of their own: where it is not installed, its tests are skipped."""

import pytest

kernels = pytest.importorskip("pairscore_kernels", reason="pairscore-kernels is not installed: pip install ./kernels")
operations = pytest.importorskip("pairscore_kernels.operations")
plan = pytest.importorskip("pairscore_kernels.plan")
reference = pytest.importorskip("pairscore_kernels.reference")

every_isa = pytest.mark.parametrize("isa", kernels.available())
# The portable code is what the others must equal byte for byte.
every_fast_isa = pytest.mark.parametrize("isa", [isa for isa in kernels.available() if isa != "portable"])
