"""Fixtures that several test modules share.

Whatever takes time to build is built once for all processes of a session, and nobody writes into it:

- `small_bundle(labels=1, max_length=64, seed=0)`: a bundle made by hand in 0.1 s, without torch. Take this one wherever
  it does not matter that a transformer gives the scores: jobs, files, kills, pipelines. See `tests/small_bundle.py`.
- `exported(family, labels=1, max_length=64, ...)`: a tiny checkpoint and its bundle by the real export, in 2 to 10 s.
- `checkpoint(family, ...)`: that checkpoint alone.
- `graph(exporter, family, ...)`: the ONNX file that an exporter makes of it, before any rewrite.
- `built_once(name, build)`: anything else.
"""

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import pytest
from filelock import FileLock
from hypothesis import settings

# Before any test imports a library that would try the network.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Every core has a process of tests already, and tiny models gain nothing from PyTorch's threads: a third of an export.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# On a machine with other work, a case takes as long as it takes.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test, and no process that a test starts, sees what this user tuned."""
    os.environ["PAIRSCORE_CACHE"] = str(tmp_path_factory.mktemp("cache"))


# From a name, and what builds it in a folder, to that folder.
Once = Callable[[str, Callable[[Path], object]], Path]
# From the number of labels, the length and the seed to a bundle's folder.
SmallBundle = Callable[..., Path]


@pytest.fixture(scope="session")
def built_once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """`built_once(name, build)`: what build(folder) left in a folder of that name, once for all processes of a session.

    A process that wants what another one is building waits for it.
    """
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root

    def once(name: str, build: Callable[[Path], object]) -> Path:
        folder = root / "built" / name
        if not folder.exists():
            folder.parent.mkdir(exist_ok=True)
            with FileLock(folder.with_suffix(".lock")):
                if not folder.exists():
                    unfinished = tmp_path_factory.mktemp(name)
                    build(unfinished)
                    unfinished.rename(folder)
        return folder

    return once


@pytest.fixture(scope="session")
def small_bundle(built_once: Once) -> SmallBundle:
    """`small_bundle(labels=1, max_length=64, seed=0)`: a bundle's folder; do not write into it."""

    def build(labels: int = 1, max_length: int = 64, seed: int = 0) -> Path:
        from tests.small_bundle import build_small_bundle

        name = f"small-{labels}-{max_length}-{seed}"
        return built_once(name, lambda to: build_small_bundle(to / "small", labels, max_length, seed)) / "small"

    return build


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


@pytest.fixture(scope="session")
def graph(checkpoint: Callable[..., Path], built_once: Once) -> Callable[..., Path]:
    """`graph(exporter, family, ...)`: takes what `checkpoint` takes; the file of the exporter's own graph."""
    from pairscore.export.checkpoint import open_checkpoint
    from pairscore.export.graphs.exporter import export_graph
    from pairscore.export.model import load_model

    def write(exporter: str, family: str, **changes: object) -> Path:
        source = checkpoint(family, **changes)
        name = source.parent.name.replace("checkpoint", f"graph-{exporter}")
        return (
            built_once(name, lambda to: export_graph(load_model(open_checkpoint(str(source))), to, exporter))
            / "model.onnx"
        )

    return write


class Exported(NamedTuple):
    """A checkpoint folder and the bundle that was exported from it; do not write into either."""

    checkpoint: Path
    bundle: Path


@pytest.fixture(scope="session")
def exported(checkpoint: Callable[..., Path], built_once: Once) -> Callable[..., Exported]:
    """`exported(family, labels=1, max_length=64, ...)`: takes what `checkpoint` takes, exports once a session."""
    from pairscore.export.api import export_bundle

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
