"""The engine of our own int8 kernels, the package pairscore-kernels: the same bytes on every processor.

It reads no graph but a plan: a JSON file that says what the model is made of, and beside it a safetensors file with the
weights. Every instruction set of the kernels gives the same logits, so golden rows are compared exactly.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from pairscore.runtime.engines.batch import Batch
from pairscore.runtime.engines.protocol import EngineOptions
from pairscore.runtime.errors import PairscoreError, one_line
from pairscore.runtime.machine import import_extra
from pairscore.runtime.types import FloatArray

TOKEN_BUDGET = 1024
# Forces an instruction set, where it is set and not empty.
ISA_VARIABLE = "PAIRSCORE_ISA"


class NativeEngine:
    """One encoder, called by several threads at once: each computes its own batch on its own core.

    Opened from a plan and the weights beside it. Raises PairscoreError naming what is missing or damaged.
    """

    name = "native"
    device = "cpu"

    def __init__(self, plan_path: Path, precision: str, device: str, options: EngineOptions) -> None:
        if device != "cpu":
            raise PairscoreError(f"the native engine serves the CPU, not device {device!r}: use --engine onnxruntime")
        if precision != "int8":
            raise PairscoreError(f"the native engine does not run {precision}: use --precision int8")
        kernels = _imported("pairscore_kernels")
        plan = _plan(plan_path, kernels)
        isa = _isa(kernels)
        weights = plan_path.with_suffix(".safetensors")
        try:
            self._encoder = kernels.Encoder(plan, _tensors(weights), isa=isa)
        except ValueError as error:
            raise PairscoreError(
                f"{str(plan_path)!r} and {weights.name!r} are no int8 model ({one_line(error)}): export it again"
            ) from error
        # The kernels check every id against its table, and a model with one type of token asks for no ids.
        self._typed = plan.get("token_types", 0) > 1
        self.isa: str = self._encoder.isa
        self.callers = options.callers
        self.token_budget = options.token_budget or TOKEN_BUDGET

    def run(self, batch: Batch) -> FloatArray:
        """As `Engine.run`."""
        types = batch.token_type_ids if self._typed else np.zeros_like(batch.input_ids)
        logits: FloatArray = self._encoder.run(batch.input_ids, types)
        return logits


open_engine = NativeEngine


def instruction_set() -> str | None:
    """The instruction set that the engine computes with here; None where it does not run."""
    try:
        kernels = _imported("pairscore_kernels")
        isa: str = _isa(kernels) or kernels.available()[0]
    except PairscoreError:
        return None
    return isa


def _imported(module: str) -> Any:
    return import_extra(module, "kernels", "the native engine")


def _plan(path: Path, kernels: Any) -> dict[str, Any]:
    """The plan, of a format that these kernels read."""
    try:
        plan: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise PairscoreError(
            f"plan {str(path)!r} cannot be read ({one_line(error)}): export the variant again"
        ) from error
    wanted = plan.get("format") if isinstance(plan, dict) else None
    if not isinstance(wanted, int):
        raise PairscoreError(f"plan {str(path)!r} says no format: export the variant again")
    if wanted != kernels.PLAN_FORMAT:
        newer = wanted > kernels.PLAN_FORMAT
        raise PairscoreError(
            f"plan {str(path)!r} has format {wanted}, and pairscore-kernels {kernels.__version__} reads format "
            f"{kernels.PLAN_FORMAT}: "
            + ("`pip install --upgrade pairscore-kernels`" if newer else "export the variant again")
        )
    return plan


def _tensors(path: Path) -> dict[str, Any]:
    safetensors, load_file = _imported("safetensors"), _imported("safetensors.numpy").load_file
    try:
        tensors: dict[str, Any] = load_file(path)
    except (OSError, safetensors.SafetensorError, ValueError, KeyError) as error:
        raise PairscoreError(
            f"weights {str(path)!r} cannot be read ({one_line(error)}): export the variant again"
        ) from error
    return tensors


def _isa(kernels: Any) -> str | None:
    """The instruction set that the environment asks for; None leaves the choice to the kernels."""
    isa = os.environ.get(ISA_VARIABLE)
    if not isa:
        return None
    here = kernels.available()
    if isa not in kernels.ISAS:
        raise PairscoreError(f"{ISA_VARIABLE} is {isa!r}, which is no instruction set: use {', '.join(kernels.ISAS)}")
    if isa not in here:
        raise PairscoreError(
            f"{ISA_VARIABLE} is {isa!r}, which this processor or this build of pairscore-kernels does not run: use "
            f"{', '.join(here)}, or unset it"
        )
    return isa
