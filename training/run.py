"""What a training run is asked to do."""

from dataclasses import dataclass
from pathlib import Path

from pairscore.training.presets import Preset


@dataclass(frozen=True)
class TrainingRun:
    """What to train, from which start, into which folder. `max_steps`: stop early; None for the whole preset."""

    preset: Preset
    start: str
    pairs: tuple[Path, ...]
    out: Path
    dev: tuple[Path, ...] = ()
    seed: int = 0
    max_steps: int | None = None
    resume: bool = False
    keep_partial: bool = False
    show_progress: bool = True

    @property
    def partial(self) -> Path:
        """The working folder, beside the output folder."""
        return self.out.with_name(self.out.name + ".partial")

    @property
    def checkpoints(self) -> Path:
        """Where the trainer keeps what it resumes from."""
        return self.partial / "checkpoints"
