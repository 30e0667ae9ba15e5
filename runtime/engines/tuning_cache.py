"""What `pairscore tune` found for a variant on this machine, kept in the user's cache folder.

A choice is found again only by the same variant, processor, number of cores and engine releases; where any of them
changed, scoring takes its defaults as if nothing had been tuned.
"""

import hashlib
import json
import logging
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from pairscore.runtime.engines.protocol import EngineOptions
from pairscore.runtime.engines.registry import ENGINES
from pairscore.runtime.machine import available_cores, cache_folder, gpu_names, installed_versions, processor_name
from pairscore.runtime.storage.local import LocalStorage
from pairscore.runtime.typed_json import from_json

# The largest count that a remembered choice may hold: somebody may have edited its file.
_LARGEST = 1 << 20

# The environment variable that forces an instruction set on the native engine.
ISA_VARIABLE = "PAIRSCORE_ISA"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Setting:
    """An engine and how it uses the machine: see `EngineOptions`. `token_budget`: 0 for the engine's own.

    `device`: cpu or cuda.
    """

    engine: str
    threads_per_batch: int
    token_budget: int
    device: str = "cpu"
    streams: int = 3

    @property
    def concurrency(self) -> str:
        """What computes at once, in words: "1 thread a batch", "2 streams"."""
        if self.device == "cpu":
            return f"{self.threads_per_batch} thread{'s' if self.threads_per_batch > 1 else ''} a batch"
        return f"{self.streams} stream{'s' if self.streams > 1 else ''}"

    def options(self, threads: int | None = None) -> EngineOptions:
        """For opening the engine. threads: the most cores that it may use; None for all."""
        return EngineOptions(
            threads=threads,
            threads_per_batch=min(self.threads_per_batch, threads or self.threads_per_batch),
            token_budget=self.token_budget or None,
            streams=self.streams,
        )


@dataclass(frozen=True)
class TunedSetting(Setting):
    """The setting that was chosen. `gain`: its speed over that of the defaults, in the run that chose it."""

    gain: float = 1.0

    def __post_init__(self) -> None:
        for name in ("threads_per_batch", "token_budget", "streams"):
            if not 1 <= getattr(self, name) <= _LARGEST:
                raise ValueError(f"{name} is {getattr(self, name)}, not 1 to {_LARGEST}")

    @property
    def setting(self) -> Setting:
        """Without the gain."""
        return Setting(**{each.name: getattr(self, each.name) for each in fields(Setting)})

    def __str__(self) -> str:
        return f"{self.engine}, {self.concurrency}, {self.token_budget:,} tokens a batch"


def save_tuned(variant_digest: str, choice: TunedSetting, threads: int | None = None) -> Path:
    """Keep the choice for this machine and so many threads, and return its file. threads: None for all cores."""
    path = _path(variant_digest, choice.device, threads)
    LocalStorage().write(str(path), f"{json.dumps(asdict(choice), indent=2)}\n".encode(), str(path.parent))
    return path


def delete_tuned(variant_digest: str, device: str = "cpu", threads: int | None = None) -> None:
    """Go back to the defaults on this machine. device: cpu or cuda."""
    _path(variant_digest, device, threads).unlink(missing_ok=True)


def load_tuned(variant_digest: str, device: str = "cpu", threads: int | None = None) -> TunedSetting | None:
    """The choice for this machine; None where there is none. Warns of a damaged file, and goes on without it.

    device: cpu or cuda.
    """
    path: Path | None = None
    try:
        path = _path(variant_digest, device, threads)
        choice = from_json(TunedSetting, path.read_text(encoding="utf-8"))
        if choice.engine not in ENGINES:
            raise ValueError(f"engine is {choice.engine!r}, not one of {', '.join(ENGINES)}")
        return choice
    except FileNotFoundError:
        return None
    except Exception as error:  # whatever is wrong with the cache, scoring can do without it
        where = "the cache folder" if path is None else repr(str(path))
        _log.warning("ignoring the tuning in %s (%s): run `pairscore tune` again", where, error)
        return None


def machine(threads: int | None = None) -> dict[str, object]:
    """What a choice depends on beside the variant. threads: that may be used; None for all cores."""
    releases = installed_versions(("onnxruntime", "onnxruntime-gpu", "openvino", "pairscore-kernels"))
    forced = {"instructions": os.environ[ISA_VARIABLE]} if os.environ.get(ISA_VARIABLE) else {}
    return {"processor": processor_name(), "cores": threads or available_cores(), "engines": releases, **forced}


def _path(variant_digest: str, device: str, threads: int | None) -> Path:
    decisive = {"variant": variant_digest, **machine(threads)}
    if device != "cpu":
        decisive |= {"device": device, "gpus": gpu_names()}
    key = json.dumps(decisive, sort_keys=True)
    return cache_folder() / "tuning" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
