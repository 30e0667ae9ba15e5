"""The examples for Polars and pandas, against the command."""

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from tests.conftest import SmallBundle
from tests.pipelines import ROOT, by_the_command, example

PAIRS = ROOT / "examples" / "claims.parquet"


@pytest.fixture(scope="module")
def bundle(small_bundle: SmallBundle) -> Path:
    return small_bundle()


def test_polars(bundle: Path, tmp_path: Path) -> None:
    example("with_polars.py")(str(bundle), str(PAIRS), str(tmp_path / "scored.parquet"))
    expected = pl.from_arrow(by_the_command(bundle, PAIRS, tmp_path / "out.parquet"))
    assert isinstance(expected, pl.DataFrame)
    expected = expected.filter(pl.col("topic") == "climate")
    scored = pl.read_parquet(tmp_path / "scored.parquet")
    assert scored.drop("score").equals(expected.drop("score"))
    np.testing.assert_allclose(scored["score"], expected["score"], rtol=0, atol=1e-6)


def test_pandas(bundle: Path, tmp_path: Path) -> None:
    example("with_pandas.py")(str(bundle), str(PAIRS), str(tmp_path / "scored.parquet"))
    expected = by_the_command(bundle, PAIRS, tmp_path / "out.parquet").to_pandas()
    scored = pd.read_parquet(tmp_path / "scored.parquet")
    assert scored["score"].is_monotonic_decreasing
    pd.testing.assert_frame_equal(scored.sort_index(), expected, check_exact=False, rtol=0, atol=1e-6)
