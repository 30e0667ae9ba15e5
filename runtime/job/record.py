"""The run record: what a run was started with, so that only the same run is ever continued."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pairscore.runtime.errors import PairscoreError

RECORD_FORMAT = 1


@dataclass(frozen=True)
class InputRecord:
    """One input file's fingerprint. `footer`: SHA-256; None for a file that was left out."""

    name: str
    size: int | None
    footer: str | None


@dataclass(frozen=True)
class RunRecord:
    """`settings`: all that decides rows, columns and scores, by the name a message calls it. `inputs`: in order."""

    settings: dict[str, Any]
    inputs: tuple[InputRecord, ...]
    format: int = RECORD_FORMAT

    @property
    def digest(self) -> str:
        """SHA-256 over everything: equal for the same run on any machine."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def to_json(self) -> str:
        """The text of the record's file."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @staticmethod
    def from_json(text: str | bytes) -> "RunRecord":
        """Raises ValueError, KeyError or TypeError for what is no record of this format."""
        raw = json.loads(text)
        if raw["format"] != RECORD_FORMAT:
            raise ValueError(f"format {raw['format']!r}")
        return RunRecord(raw["settings"], tuple(InputRecord(**each) for each in raw["inputs"]))


def differences(old: RunRecord, new: RunRecord) -> list[str]:
    """What changed between two runs, a phrase each; empty for the same run."""
    changed = [
        f"{name} was {old.settings.get(name)!r} and is now {new.settings.get(name)!r}"
        for name in dict.fromkeys([*old.settings, *new.settings])
        if old.settings.get(name) != new.settings.get(name)
    ]
    return changed + _input_differences(old.inputs, new.inputs)


def check_same_run(old: RunRecord, new: RunRecord, output: str) -> None:
    """Raise PairscoreError saying what changed."""
    changed = differences(old, new)
    if changed:
        more = f" (and {len(changed) - 1} more changes)" if len(changed) > 1 else ""
        raise PairscoreError(
            f"output {output!r} holds an unfinished run with other settings: {changed[0]}{more}; continue it as it "
            "was started, begin anew with --overwrite, or choose another output"
        )


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
