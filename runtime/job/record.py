"""The run record: the settings and input of a run, so that a run continues only one that is the same."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pairscore.runtime.engines.tuned import Choice
from pairscore.runtime.typed_json import from_json

RECORD_FORMAT = 2
# What messages call a setting whose field name is not what users know.
_LABELS = {
    "keep": "columns to keep",
    "on_null": "--on-null",
    "on_invalid_utf8": "--on-invalid-utf8",
    "filter": "--filter",
    "limit": "--limit",
    "part_rows": "--part-rows",
    "top_k": "--top-k",
    "by": "--by",
}


@dataclass(frozen=True)
class RunSettings:
    """All that decides rows, columns and scores beside the input; None where nothing was asked for.

    The names of the fields stand in run records and in the metadata of outputs: they stay. `bundle`: the variant's
    digest. `device`: cpu or cuda. `tuning`: what `pairscore tune` had chosen. `top_k`, `by`: the best rows to keep of
    each value of a column.
    """

    bundle: str
    precision: str
    engine: str
    device: str
    max_length: int
    claim_column: str
    evidence_column: str
    score_column: str
    on_null: str
    on_invalid_utf8: str
    part_rows: int
    keep: tuple[str, ...] | None = None
    filter: str | None = None
    limit: int | None = None
    tuning: Choice | None = None
    top_k: int | None = None
    by: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON-serialisable. What is None is left out, so that a field added later changes no earlier run's digest."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class InputRecord:
    """One input file's fingerprint. `footer`: SHA-256; None for a file that was left out."""

    name: str
    size: int | None
    footer: str | None


@dataclass(frozen=True)
class RunRecord:
    """A run's settings and its input files, in order."""

    settings: RunSettings
    inputs: tuple[InputRecord, ...]
    format: int = RECORD_FORMAT

    @property
    def digest(self) -> str:
        """SHA-256 over everything: equal for the same run on any machine."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """JSON-serialisable."""
        inputs = [asdict(each) for each in self.inputs]
        return {"format": self.format, "settings": self.settings.as_dict(), "inputs": inputs}

    def to_json(self) -> str:
        """The text of the record's file."""
        return json.dumps(self.as_dict(), indent=2, ensure_ascii=False) + "\n"

    @staticmethod
    def from_json(text: str | bytes) -> "RunRecord":
        """Raises ValueError that names the field and its value."""
        return from_json(RunRecord, text, RECORD_FORMAT)


def differences(old: RunRecord, new: RunRecord) -> list[str]:
    """What changed between two runs, a phrase each; empty for the same run."""
    return changed_settings(old.settings, new.settings) + _input_differences(old.inputs, new.inputs)


def changed_settings(old: RunSettings, new: RunSettings) -> list[str]:
    """What changed between two runs' settings, a phrase each."""
    before, now = vars(old), vars(new)
    return [
        f"{_LABELS.get(name, name.replace('_', ' '))} was {before[name]!r} and is now {now[name]!r}"
        for name in before
        if before[name] != now[name]
    ]


def _input_differences(old: Sequence[InputRecord], new: Sequence[InputRecord]) -> list[str]:
    if [each.name for each in old] != [each.name for each in new]:
        before, now = {each.name for each in old}, {each.name for each in new}
        for names, verb in ((now - before, "was added to"), (before - now, "is gone from")):
            if names:
                return [f"input file {min(names)!r} {verb} the input"]
        return [f"the input files come in another order ({len(old)} before, {len(new)} now)"]
    return [
        f"input file {now.name!r} changed (its size or footer differ)"
        for before, now in zip(old, new, strict=True)
        if before != now
    ]
