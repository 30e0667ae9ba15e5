"""The checkpoint that ships: whole, in fp16, and its card is what its own account gives."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import CrossEncoder

from pairscore.training.card import model_card

SHIPPED = Path(__file__).parents[2] / "models" / "climate-claims-minilm-l6"


@pytest.fixture(scope="module")
def accounts():
    return [json.loads((SHIPPED / f"{name}.json").read_text(encoding="utf-8")) for name in ("training", "evaluation")]


def test_the_card_is_written_from_the_run_s_account(accounts):
    assert (SHIPPED / "README.md").read_text(encoding="utf-8") == model_card(SHIPPED.name, *accounts)


def test_the_recorded_run_is_the_recipe_s(accounts):
    training, evaluations = accounts
    assert (training["claims"], training["samples_an_epoch"], training["max_steps"]) == (1228, 18_858, None)
    model = evaluations[0]["systems"][-1]
    assert model["map"] >= 0.55
    assert model["mrr_at_5"] >= 0.65
    assert model["ndcg_at_5"] >= 0.55


def test_it_loads_as_crossencoder_does_and_tells_evidence_from_noise():
    weights = load_file(SHIPPED / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    model = CrossEncoder(str(SHIPPED), device="cpu", model_kwargs={"torch_dtype": torch.float32})
    assert isinstance(model.activation_fn, torch.nn.Sigmoid)
    assert (model.num_labels, model.tokenizer.model_max_length) == (1, 512)
    claim = "The sea level is not rising."
    bearing, other = model.predict(
        [(claim, "Global mean sea level has risen by about 20 centimetres since 1900."), (claim, "Bananas are yellow.")]
    )
    assert bearing > 0.5
    assert other < 0.1
