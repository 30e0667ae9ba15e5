"""The report of a training run: what decided its outcome, and what happened."""

import json
import os
import platform
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerState

from pairscore.runtime.bundle.manifest import sha256
from pairscore.runtime.machine import library_versions, processor_name
from pairscore.training.presets import CHOICES_ON_DEV
from pairscore.training.run import TrainingRun
from pairscore.training.samples import HARD_NEGATIVES, HARD_RANKS, NEGATIVES

EVALUATION_NAME = "evaluation.json"


def configuration(run: TrainingRun, start_folder: Path, counts: dict[str, Any]) -> dict[str, Any]:
    """Everything that decides the outcome, as it reads back from JSON; files appear by their digests, not by their
    paths. counts: of what the training files hold.
    """
    settings = {
        "preset": asdict(run.preset),
        "start": run.start,
        "start_sha256": _weights_digest(start_folder),
        "seed": run.seed,
        "max_steps": run.max_steps,
        "data": [{"file": path.name, "sha256": sha256(path)} for path in run.pairs],
        "dev": [{"file": path.name, "sha256": sha256(path)} for path in run.dev],
        **counts,
    }
    plain: dict[str, Any] = json.loads(json.dumps(settings))
    return plain


def training_report(
    settings: dict[str, Any],
    *,
    samples_an_epoch: int,
    calibration: dict[str, float] | None,
    state: TrainerState,
    seconds: float,
    resumed: bool,
) -> dict[str, Any]:
    """The content of `training.json`, the source of the model card. `seconds`: since the start or the resume."""
    losses = [{"step": entry["step"], "loss": entry["loss"]} for entry in state.log_history if "loss" in entry]
    return settings | {
        "samples_an_epoch": samples_an_epoch,
        "negatives": None
        if settings["preset"]["labels"]
        else {"each_claim": NEGATIVES, "hard": HARD_NEGATIVES, "hard_from_bm25_ranks": HARD_RANKS},
        "teacher_calibration": calibration,
        "choices_on_dev": list(CHOICES_ON_DEV.get(settings["preset"]["name"], ())),
        "steps": state.global_step,
        "loss": losses,
        "seconds": round(seconds),
        "resumed": resumed,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "processor": processor_name(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "system": f"{platform.system()} {platform.machine()}",
        },
        "versions": library_versions() | {"bm25s": version("bm25s")},
    }


def write_json(path: Path, content: Any) -> None:
    """Indented, with a final newline."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _weights_digest(folder: Path) -> str | None:
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return sha256(folder / name)
    return None
