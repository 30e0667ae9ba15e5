"""The encoder as Python sees it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairscore_kernels import _core
from pairscore_kernels.plan import check_tensors, parse_plan

__all__ = ["Encoder", "available"]


def available() -> tuple[str, ...]:
    """Instruction sets that this build has and this processor runs, best first."""
    return tuple(_core.available())


class Encoder:
    """An encoder with an int8 plan. Its scores depend on neither the batch, the threads nor the instruction set.

    `plan` is the parsed JSON object, `tensors` are its arrays by name; they are copied. `isa` forces an instruction
    set; None takes the best one. Raises ValueError where the plan, a tensor or the instruction set cannot be run.
    """

    def __init__(self, plan: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]], isa: str | None = None) -> None:
        self.plan = parse_plan(plan)
        checked, head_outputs = check_tensors(self.plan, tensors)
        self._encoder = _core.new_encoder(
            check_isa(isa),
            checked,
            modern=self.plan.modern,
            mean_pooling=self.plan.pooling == "mean",
            hidden=self.plan.hidden,
            columns=self.plan.columns,
            heads=self.plan.heads,
            intermediate=self.plan.intermediate,
            layers=self.plan.layers,
            labels=self.plan.labels,
            embedding_size=self.plan.embedding_size,
            vocabulary=self.plan.vocabulary,
            positions=self.plan.positions,
            position_offset=self.plan.position_offset,
            token_types=self.plan.token_types,
            epsilon=self.plan.epsilon,
            activation=self.plan.activation,
            group_size=self.plan.group_size,
            down_group_size=self.plan.down_group_size,
            rotations=(self.plan.rotation, self.plan.down_rotation),
            padding_id=-1 if self.plan.padding_id is None else self.plan.padding_id,
            relative_positions=self.plan.relative_positions,
            layers_plan=(self.plan.windows, self.plan.rotary),
            head=[
                (layer.name, layer.activation, -1.0 if layer.norm_epsilon is None else layer.norm_epsilon)
                for layer in self.plan.head
            ],
            head_outputs=head_outputs,
        )

    @property
    def isa(self) -> str:
        """Name of the instruction set that runs."""
        return self._encoder.isa

    def run(self, input_ids: NDArray[np.int32], token_type_ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """Logits of pairs of one length, without padding.

        input_ids and token_type_ids: int32 (pairs, length); result: float32 (pairs, labels). Runs on the calling thread
        without the GIL; any number of threads may call at once. Raises ValueError where an array has another element
        type or shape, or an id lies outside of its table.
        """
        for name, array in (("input_ids", input_ids), ("token_type_ids", token_type_ids)):
            if not isinstance(array, np.ndarray) or array.dtype != np.int32 or array.ndim != 2:
                raise ValueError(f"{name} is {_describe(array)}, not an int32 array (pairs, length)")
        if input_ids.shape != token_type_ids.shape:
            raise ValueError(f"token_type_ids has shape {token_type_ids.shape}, and input_ids {input_ids.shape}")
        pairs, length = input_ids.shape
        if not 1 <= length <= self.plan.positions:
            raise ValueError(f"pairs have {length} tokens; this encoder takes 1 to {self.plan.positions}")
        logits = np.empty((pairs, self.plan.labels), dtype=np.float32)
        self._encoder.run(np.ascontiguousarray(input_ids), np.ascontiguousarray(token_type_ids), logits)
        return logits


def check_isa(isa: str | None) -> str:
    """The name of an instruction set that runs here; raises ValueError for any other."""
    names = _core.available()
    if isa is None:
        return names[0]
    if isa not in names:
        raise ValueError(f"isa {isa!r} does not run here: this build on this processor has {', '.join(names)}")
    return isa


def _describe(array: object) -> str:
    return f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else f"a {type(array).__name__}"
