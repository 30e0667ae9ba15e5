"""What a job is asked to do: every option, checked where it is built.

To add an option, write

1. a field with its type, its default and its help: in `RowOptions` where it decides rows, columns or scores, with the
   default that means "as before the option was there", which records leave out, so that runs of earlier releases keep
   their digests; else in `JobOptions`. The command gets `--its-name` from it, and whoever builds a `JobOptions` gets
   its type, its range and its choices checked;
2. the same name and type in `ScoreOptions`, so that type checkers know the keyword of `score_files`.

A new output column is listed in `JobOptions.new_columns`; a rule about several options stands in `JobOptions._check`.
Messages write an option as on the command line; `pairscore.runtime.arguments` writes it as callers from Python do.
"""
# ruff: noqa: RUF009 (`_option` makes a field)

import operator
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypedDict, get_args, get_origin, get_type_hints

from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.spill.ranking import RANK_COLUMN
from pairscore.runtime.stream.columns import WINDOW_BYTES, WINDOW_PAIRS, NewColumnOptions
from pairscore.runtime.stream.passages import OVERLAP
from pairscore.runtime.stream.score_columns import PASSAGE_COLUMNS, ScoreColumns, score_columns

# The value that leaves the choice of a precision or an engine to the machine.
AUTO = "auto"

Promise = Literal["fp32", "bf16", "int8"]
OnText = Literal["error", "null"]
OnError = Literal["fail", "skip-file"]
AskedActivation = Literal["checkpoint", "identity", "sigmoid", "softmax", "calibrated"]
LongEvidenceMode = Literal["cut", "split"]
Combine = Literal["max", "mean"]
Compression = Literal["zstd", "snappy", "gzip", "lz4", "brotli", "none"]


@dataclass(frozen=True)
class Option:
    """How the command shows an option. `flag`: its name there, where that is not the field's. `least`: smallest number.

    `commas`: one value of the command may hold several, separated by commas. `always_recorded`: a run's record holds it
    where it is the default, too, as earlier releases wrote it.
    """

    help: str
    metavar: str | None = None
    flag: str | None = None
    least: int | None = None
    commas: bool = False
    always_recorded: bool = False


def _option(default: Any, help: str, **shown: Any) -> Any:
    return field(default=default, metadata={"option": Option(help, **shown)})


@dataclass(frozen=True, kw_only=True)
class RowOptions:
    """The options that decide rows, columns and scores, whatever computes them: a run records them."""

    claim_column: str = _option("claim", "Column of the claims.", always_recorded=True)
    evidence_column: str = _option("evidence", "Column of the evidence.", always_recorded=True)
    score_column: str = _option("score", "Name of the new column, float32.", always_recorded=True)
    keep: tuple[str, ...] | None = _option(
        None, "Input columns to keep, by commas.  [default: all]", metavar="COLUMNS", commas=True
    )
    prediction_column: str | None = _option(None, "Add a column of the label with the largest score.", metavar="NAME")
    truncated_column: str | None = _option(None, "Add a column that says whether a pair was cut.", metavar="NAME")
    long_evidence: LongEvidenceMode = _option(
        "cut", "Cut evidence that does not fit beside its claim, or split it into passages and read all of it."
    )
    overlap: int = _option(OVERLAP, "Tokens that neighbouring passages share.", metavar="TOKENS", least=0)
    combine: Combine = _option("max", "Take the best passage's score, or the mean of all.")
    passage_columns: bool = _option(
        False,
        "Add passage_begin and passage_end: where the best passage lies, in characters.",
        flag="--passage-columns",
    )
    rank_by: str | None = _option(
        None, "Label by whose score --top-k and passages are ranked, where there are several.", metavar="LABEL"
    )
    on_null: OnText = _option(
        "error", "A null claim or evidence is an error, or gets a null score.", always_recorded=True
    )
    on_invalid_utf8: OnText = _option(
        "error",
        "A claim or evidence whose bytes are not UTF-8 is an error, or gets a null score.",
        always_recorded=True,
    )
    filter: str | None = _option(
        None,
        "Score only rows that meet a condition in SQL, like \"lang = 'en' AND day >= '2024-01-31'\".",
        metavar="CONDITION",
    )
    top_k: int | None = _option(None, "Keep the best K rows a claim, and rank them.", metavar="K", least=1)
    by: str | None = _option(None, "Whose best rows --top-k keeps.  [default: the claim column]", metavar="COLUMN")
    limit: int | None = _option(None, "Take only the first rows of the input (before --filter).", least=0)
    part_rows: int = _option(
        WINDOW_PAIRS,
        "Rows of one part: what a crash can lose, and what is sorted together.",
        least=1,
        always_recorded=True,
    )


@dataclass(frozen=True)
class JobOptions(RowOptions):
    """The options of a job. Raises PairscoreError for a value of another type, range or choice.

    Paths and lists of names may be given in any of their usual forms. `window_bytes`, of tests alone: a part whose
    columns hold more is cut into several.
    """

    bundle: str
    inputs: tuple[str, ...]
    output: str | None = None
    precision: str = _option(
        "fp32", "Variant of the bundle (see `pairscore info`), or auto: the fastest that runs here and keeps --promise."
    )
    promise: Promise = _option("int8", "What --precision auto may not fall below.")
    engine: str = _option(AUTO, "Engine that runs it.")
    device: str = _option("cpu", "cpu, cuda, cuda:N, or cuda:0,cuda:1.")
    threads: int | None = _option(
        None, "Cores that an engine on the processor computes on.  [default: all]", metavar="N", least=1
    )
    tuning: bool = _option(True, "Do without what `pairscore tune` chose.", flag="--no-tuning")
    max_length: int | None = _option(None, "Truncate pairs to fewer tokens than the bundle does.", least=1)
    activation: AskedActivation = _option(
        "checkpoint",
        "What turns logits into scores: identity for logits, checkpoint for the model's own, or what `pairscore "
        "calibrate` fitted.",
    )
    on_error: OnError = _option(
        "fail", "A file that cannot be read or scored ends the run, or is left out and reported."
    )
    reuse: tuple[str, ...] = _option(
        (), "Take scores of the same texts from a finished output; repeatable.", metavar="OLD"
    )
    refine: str | None = _option(
        None,
        "Compute again with this more exact variant every row that may be among the best K.",
        metavar="PRECISION",
    )
    shard: tuple[int, int] | None = _option(
        None, "Score the I-th of N shares: one command a machine, one --output for all.", metavar="I/N"
    )
    compression: Compression = _option("zstd", "Compression of the output.")
    overwrite: bool = _option(False, "Replace a finished output, or an unfinished one of another run.")
    window_bytes: int = WINDOW_BYTES

    def __post_init__(self) -> None:
        kinds = get_type_hints(JobOptions)
        for each in fields(self):
            shown = each.metadata.get("option", Option(""))
            value = _fitted(option_of(each.name), kinds[each.name], getattr(self, each.name), shown.least)
            object.__setattr__(self, each.name, value)
        self._check()

    @property
    def new_columns(self) -> list[str]:
        """Columns that the output gets beside the input's. A model of several labels adds them to the first's name."""
        asked = [self.prediction_column, self.truncated_column]
        return [
            self.score_column,
            *(name for name in asked if name is not None),
            *(PASSAGE_COLUMNS if self.passage_columns else ()),
            *([RANK_COLUMN] if self.top_k is not None else []),
        ]

    @property
    def precisions(self) -> tuple[str, ...] | None:
        """The variants of the bundle that may be opened; None for any."""
        return None if self.precision == AUTO else (self.precision, *([self.refine] if self.refine else []))

    @property
    def ranked_by(self) -> str | None:
        """The column whose values `top_k` ranks the rows of; None without it."""
        return None if self.top_k is None else self.by or self.claim_column

    def score_columns(self, labels: Sequence[str]) -> ScoreColumns:
        """The columns that scoring adds for a model of these labels. Raises PairscoreError for what it cannot have."""
        names = (*NewColumnOptions.__annotations__,)
        return score_columns(labels, **{name: getattr(self, name) for name in names})

    def _option_of_column(self, column: str) -> str:
        """The option that names a new column, with its value; of those that have fixed names, the score's."""
        for name in ("prediction_column", "truncated_column"):
            if getattr(self, name) == column:
                return f"{option_of(name)} {column!r}"
        return f"--score-column {self.score_column!r}"

    def _check(self) -> None:
        """Raise PairscoreError for options that do not go together."""
        if self.claim_column == self.evidence_column:
            raise PairscoreError(
                f"claim and evidence are both column {self.claim_column!r}: name two with --claim-column and "
                "--evidence-column"
            )
        taken = [self.claim_column, self.evidence_column]
        for name in self.new_columns:
            if name in taken:
                raise PairscoreError(
                    f"{self._option_of_column(name)}: the output would have two columns {name!r}; choose another"
                )
            taken.append(name)
        if self.shard and self.output is not None and self.output.endswith(".parquet"):
            raise PairscoreError("--shard writes parts: give --output a folder, not a name that ends in .parquet")
        if self.refine is not None and self.top_k is None:
            raise PairscoreError(f"--refine {self.refine} is of the best rows: say how many with --top-k")
        if self.refine is not None and self.precision in (self.refine, AUTO):
            raise PairscoreError(
                f"--refine {self.refine} needs another precision to begin with: name one with --precision, int8 say"
            )
        if self.by is not None and self.top_k is None:
            raise PairscoreError(f"--by {self.by!r} says whose best rows to keep: say how many with --top-k")
        if self.long_evidence == "cut":
            for name in ("overlap", "combine"):
                if getattr(self, name) != JobOptions.__dataclass_fields__[name].default:
                    value = getattr(self, name)
                    raise PairscoreError(
                        f"{option_of(name)} {value} is of passages: give --long-evidence split with it"
                    )
            if self.rank_by is not None and self.top_k is None:
                raise PairscoreError(
                    f"--rank-by {self.rank_by!r} names the label that --top-k or --long-evidence split goes by: give "
                    "one of them"
                )


class ScoreOptions(TypedDict, total=False):
    """The keywords of `score_files`: those of `JobOptions`."""

    claim_column: str
    evidence_column: str
    score_column: str
    keep: Sequence[str] | None
    prediction_column: str | None
    truncated_column: str | None
    long_evidence: LongEvidenceMode
    overlap: int
    combine: Combine
    passage_columns: bool
    rank_by: str | None
    on_null: OnText
    on_invalid_utf8: OnText
    filter: str | None
    top_k: int | None
    by: str | None
    limit: int | None
    part_rows: int
    precision: str
    promise: Promise
    engine: str
    device: str
    threads: int | None
    tuning: bool
    max_length: int | None
    activation: AskedActivation
    on_error: OnError
    reuse: str | Path | Sequence[str | Path]
    refine: str | None
    shard: tuple[int, int] | None
    compression: Compression
    overwrite: bool


def shown_options() -> dict[str, Option]:
    """Field of `JobOptions` -> how the command shows it. `bundle`, `inputs` and `output` come in ways of their own."""
    return {each.name: each.metadata["option"] for each in fields(JobOptions) if "option" in each.metadata}


def option_of(name: str) -> str:
    """How the command writes an option: `--top-k`, `--no-tuning`."""
    shown = JobOptions.__dataclass_fields__[name].metadata.get("option")
    return (shown and shown.flag) or f"--{name.replace('_', '-')}"


def _fitted(flag: str, kind: Any, value: Any, least: int | None) -> Any:
    """`value` as an option of type `kind` holds it. Raises PairscoreError where it does not fit."""
    if isinstance(kind, UnionType):  # of a type and None
        if value is None:
            return None
        (kind,) = (each for each in get_args(kind) if each is not NoneType)
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise PairscoreError(f"{flag} {value!r} is unknown: use {', '.join(get_args(kind))}")
        return value
    if kind == tuple[int, int]:
        return _shard(flag, value)
    if kind == tuple[str, ...]:
        if isinstance(value, str | os.PathLike) or not isinstance(value, Sequence):
            value = (value,)
        return tuple(_fitted(flag, str, each, None) for each in value)
    try:
        fitted = _plain(kind, value)
    except TypeError:
        raise PairscoreError(f"{flag} {value!r} is not {_WORDS[kind]}: give {_WORDS[kind]}") from None
    if least is not None and not fitted >= least:
        raise PairscoreError(f"{flag} {value} is too small: use {least} or more")
    return fitted


def _shard(flag: str, value: Any) -> tuple[int, int]:
    """(3, 16) of itself or of "3/16"."""
    given = value.split("/") if isinstance(value, str) else value
    try:
        number, count = (int(each) if isinstance(each, str) else operator.index(each) for each in given)
    except (TypeError, ValueError):
        raise PairscoreError(f"{flag} {value!r} is not I/N: write, for example, 3/16") from None
    if not 1 <= number <= count:
        raise PairscoreError(f"shard {number}/{count} does not exist: count from 1/{count} to {count}/{count}")
    return number, count


def _plain(kind: type, value: Any) -> Any:
    """`value` as a whole number, a truth value or text. Raises TypeError for what is none."""
    if isinstance(value, bool) != (kind is bool):
        raise TypeError
    plain = operator.index(value) if kind is int else os.fspath(value) if kind is str else value
    if not isinstance(plain, kind):  # a path in bytes
        raise TypeError
    return plain


_WORDS: dict[Any, str] = {int: "a whole number", bool: "True or False", str: "text"}
