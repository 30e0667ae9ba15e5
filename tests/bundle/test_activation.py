"""Activations equal PyTorch's, at the extremes too, without a warning."""

import warnings

import numpy as np
import pytest
import torch

from pairscore import PairscoreError
from pairscore.runtime.bundle.activation import activate

LOGITS = np.array([[0.0, -0.0, 1e-8, 5.5], [-100.0, 100.0, -1e4, 1e4], [3.25, -17.0, 88.0, -88.0]], dtype=np.float32)
PYTORCH = {
    "identity": torch.nn.Identity(),
    "sigmoid": torch.nn.Sigmoid(),
    "tanh": torch.nn.Tanh(),
    "softmax": torch.nn.Softmax(dim=1),
}


@pytest.mark.parametrize("name", PYTORCH)
def test_equals_pytorch(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = activate(name, LOGITS)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, PYTORCH[name](torch.from_numpy(LOGITS)).numpy(), rtol=3e-7, atol=1e-38)


@pytest.mark.parametrize("name", PYTORCH)
def test_no_rows(name: str) -> None:
    assert activate(name, np.empty((0, 3), np.float32)).shape == (0, 3)


def test_unknown_name_is_refused() -> None:
    with pytest.raises(PairscoreError, match="unknown activation 'relu'"):
        activate("relu", LOGITS)
