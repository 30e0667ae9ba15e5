"""Write a folder under a temporary name and rename it into place: whole, or not at all."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pairscore.runtime.bundle.manifest import MANIFEST_NAME
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.storage.local import sync


def check_target(target: Path, overwrite: bool) -> None:
    """Raise PairscoreError unless a bundle may be written at `target`. What is not a bundle is never overwritten."""
    if not target.name:
        raise PairscoreError(f"{str(target)!r} cannot be a bundle's name: give the path of a folder to make")
    if not target.exists() and not target.is_symlink():
        return
    if target.is_dir() and not any(target.iterdir()):
        return
    if not (target / MANIFEST_NAME).is_file():
        raise PairscoreError(f"{str(target)!r} exists and is not a bundle: remove it, or choose another name")
    if not overwrite:
        raise PairscoreError(f"bundle {str(target)!r} exists: choose another name, or replace it with --overwrite")


@contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """A new folder beside `target` that takes its place when the block ends without an error.

    On any error, an interrupt included, the new folder is removed and what was at `target` stays.
    """
    target = Path(os.path.abspath(target))  # noqa: PTH100 (resolve() would follow a link at the target itself)
    made = _make_parents(target.parent)
    staging = target.parent / f".{target.name}.{secrets.token_hex(4)}.partial"
    try:
        staging.mkdir()
        yield staging
        for path in (*staging.rglob("*"), staging):
            sync(path)
        _replace(target, staging)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        for folder in made:
            if not any(folder.iterdir()):
                folder.rmdir()
        raise


def _make_parents(folder: Path) -> list[Path]:
    """Make `folder`; returns the folders that were not there, innermost first."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _replace(target: Path, staging: Path) -> None:
    if not target.exists():
        staging.rename(target)
    else:
        old = staging.with_suffix(".replaced")
        target.rename(old)
        try:
            staging.rename(target)
        except BaseException:
            old.rename(target)
            raise
        shutil.rmtree(old, ignore_errors=True)
    sync(target.parent)
