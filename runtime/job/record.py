"""The run record: the settings and input of a run, so that a run continues only one that is the same."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pairscore.runtime.job.settings import RunSettings, changed_settings
from pairscore.runtime.typed_json import from_json

RECORD_FORMAT = 2


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
