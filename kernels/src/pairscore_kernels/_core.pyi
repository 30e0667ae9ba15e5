from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

def available() -> list[str]: ...

class Encoder:
    @property
    def isa(self) -> str: ...
    def run(self, input_ids: NDArray[Any], token_type_ids: NDArray[Any], logits: NDArray[Any]) -> None: ...

def new_encoder(
    isa: str,
    tensors: Mapping[str, NDArray[Any]],
    *,
    modern: bool,
    mean_pooling: bool,
    hidden: int,
    columns: int,
    heads: int,
    intermediate: int,
    layers: int,
    labels: int,
    embedding_size: int,
    vocabulary: int,
    positions: int,
    position_offset: int,
    token_types: int,
    epsilon: float,
    activation: str,
    group_size: int,
    down_group_size: int,
    rotations: tuple[int, int],
    padding_id: int,
    relative_positions: int,
    layers_plan: tuple[Sequence[int], Sequence[int]],
    head: Sequence[tuple[str, str, float]],
    head_outputs: Sequence[int],
) -> Encoder: ...
def quantize(
    isa: str,
    x: NDArray[Any],
    smooth: NDArray[Any] | None,
    group_size: int,
    rotation: int,
    values: NDArray[Any],
    scales: NDArray[Any],
    zero_points: NDArray[Any],
) -> None: ...
def quantize_gated(
    isa: str,
    activation: str,
    x: NDArray[Any],
    smooth: NDArray[Any] | None,
    group_size: int,
    rotation: int,
    values: NDArray[Any],
    scales: NDArray[Any],
    zero_points: NDArray[Any],
) -> None: ...
def linear(
    isa: str,
    x: NDArray[Any],
    weight: NDArray[Any],
    scale: NDArray[Any],
    bias: NDArray[Any],
    smooth: NDArray[Any] | None,
    group_size: int,
    rotation: int,
    activation: str,
    residual: NDArray[Any] | None,
    out: NDArray[Any],
) -> None: ...
def dense(
    isa: str, x: NDArray[Any], weight: NDArray[Any], bias: NDArray[Any], activation: str, out: NDArray[Any]
) -> None: ...
def layer_norm(
    isa: str, x: NDArray[Any], weight: NDArray[Any], bias: NDArray[Any], epsilon: float, out: NDArray[Any]
) -> None: ...
def rotate(isa: str, cosines: NDArray[Any], sines: NDArray[Any], heads: int, out: NDArray[Any]) -> None: ...
def mean(isa: str, x: NDArray[Any], out: NDArray[Any]) -> None: ...
def attention(
    isa: str, queries: NDArray[Any], keys: NDArray[Any], values: NDArray[Any], window: int, out: NDArray[Any]
) -> None: ...
def state_attention(isa: str, asking: NDArray[Any], states: NDArray[Any], out: NDArray[Any]) -> None: ...
def relative_attention(
    isa: str,
    queries: NDArray[Any],
    keys: NDArray[Any],
    values: NDArray[Any],
    position_keys: NDArray[Any],
    position_queries: NDArray[Any],
    key_scales: NDArray[Any],
    query_scales: NDArray[Any],
    bias: NDArray[Any],
    rows: NDArray[Any],
    out: NDArray[Any],
) -> None: ...
def embed(
    isa: str,
    ids: NDArray[Any],
    type_ids: NDArray[Any],
    words: NDArray[Any],
    types: NDArray[Any] | None,
    positions: NDArray[Any] | None,
    out: NDArray[Any],
) -> None: ...
def activate(isa: str, name: str, values: NDArray[Any], out: NDArray[Any]) -> None: ...
def exponential(isa: str, values: NDArray[Any], out: NDArray[Any]) -> None: ...
