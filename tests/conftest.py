"""Fixtures that several test modules share."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

# Before any test imports a library that would try the network.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test, and no process that a test starts, sees what this user tuned."""
    os.environ["PAIRSCORE_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`checkpoint(family, labels=1, max_length=64, ...)`: a folder, built once a session; do not write into it."""
    from tests.checkpoints import build_checkpoint

    built: dict[str, Path] = {}

    def build(family: str, labels: int = 1, max_length: int = 64, **changes: object) -> Path:
        key = repr((family, labels, max_length, sorted(changes.items())))
        if key not in built:
            folder = tmp_path_factory.mktemp("checkpoints") / family
            built[key] = build_checkpoint(family, folder, labels, max_length, **changes)
        return built[key]

    return build


class Exported(NamedTuple):
    """A checkpoint folder and the bundle that was exported from it; do not write into either."""

    checkpoint: Path
    bundle: Path


@pytest.fixture(scope="session")
def exported(checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Exported]:
    """`exported(family, labels=1, max_length=64, ...)`: takes what `checkpoint` takes, exports once a session."""
    from pairscore.export.bundle import export_bundle

    done: dict[Path, Path] = {}

    def export(family: str, *arguments: object, **changes: object) -> Exported:
        source = checkpoint(family, *arguments, **changes)
        if source not in done:
            target = tmp_path_factory.mktemp("bundles") / family
            export_bundle(str(source), target)
            done[source] = target
        return Exported(source, done[source])

    return export


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, so that a relative path in a command means nothing on this machine."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
