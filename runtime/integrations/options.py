"""The options that Ray Data, Spark and DuckDB share: which columns to read, and how to open the bundle."""

from typing import TypedDict, cast

from pairscore.runtime.stream.columns import ColumnOptions, LongOptions


class ScorerOptions(TypedDict, total=False):
    """What `Scorer.from_pretrained` takes besides the bundle."""

    revision: str | None
    precision: str
    engine: str
    device: str
    max_length: int | None
    threads: int | None
    activation: str | None


class StepOptions(ScorerOptions, ColumnOptions, total=False):
    """Both."""


class FunctionOptions(ScorerOptions, LongOptions, total=False):
    """Of a function of two texts, which has no columns."""


def split(options: StepOptions | FunctionOptions) -> tuple[ScorerOptions, ColumnOptions]:
    """The scorer's options and the columns'. A name that nobody knows goes to the scorer, which refuses it."""
    columns = {name: value for name, value in options.items() if name in ColumnOptions.__annotations__}
    scorer = {name: value for name, value in options.items() if name not in columns}
    return cast(ScorerOptions, scorer), cast(ColumnOptions, columns)
