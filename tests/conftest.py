"""Fixtures that several test modules share."""

import os
from collections.abc import Callable
from hashlib import sha256
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


# From a name, and what builds it in a folder, to that folder.
Once = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def built_once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """`built_once(name, build)`: what build(folder) left in a folder of that name, once for all processes of a session.

    Two that begin at the same time both build, and the first one's stays.
    """
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root

    def once(name: str, build: Callable[[Path], object]) -> Path:
        folder = root / "built" / name
        if not folder.exists():
            folder.parent.mkdir(exist_ok=True)
            own = tmp_path_factory.mktemp(name)
            build(own)
            try:
                own.rename(folder)
            except OSError:
                if not folder.exists():
                    raise
        return folder

    return once


@pytest.fixture(scope="session")
def checkpoint(built_once: Once) -> Callable[..., Path]:
    """`checkpoint(family, labels=1, max_length=64, ...)`: a folder, built once a session; do not write into it."""
    from tests.checkpoints import build_checkpoint

    def build(family: str, labels: int = 1, max_length: int = 64, **changes: object) -> Path:
        key = repr((family, labels, max_length, sorted(changes.items())))
        name = f"checkpoint-{sha256(key.encode()).hexdigest()[:16]}"
        folder = built_once(name, lambda to: build_checkpoint(family, to / family, labels, max_length, **changes))
        return folder / family

    return build


class Exported(NamedTuple):
    """A checkpoint folder and the bundle that was exported from it; do not write into either."""

    checkpoint: Path
    bundle: Path


@pytest.fixture(scope="session")
def exported(checkpoint: Callable[..., Path], built_once: Once) -> Callable[..., Exported]:
    """`exported(family, labels=1, max_length=64, ...)`: takes what `checkpoint` takes, exports once a session."""
    from pairscore.export.bundle import export_bundle

    def export(family: str, *arguments: object, **changes: object) -> Exported:
        source = checkpoint(family, *arguments, **changes)
        name = source.parent.name.replace("checkpoint", "bundle")
        return Exported(source, built_once(name, lambda to: export_bundle(str(source), to / family)) / family)

    return export


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, so that a relative path in a command means nothing on this machine."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
