"""Bundles on a Hugging Face hub: found by their id, fetched once into the hub's own cache.

A bundle there is the folder as `pairscore export` makes it (`hf upload org/name BUNDLE`). `HF_ENDPOINT`, `HF_HOME`,
`HF_TOKEN` and `HF_HUB_OFFLINE` mean what they mean to huggingface_hub.
"""

import logging
import re
from collections.abc import Collection, Generator
from contextlib import contextmanager
from pathlib import Path

from pairscore.runtime.bundle.manifest import MANIFEST_NAME, Manifest
from pairscore.runtime.errors import PairscoreError, TryAgainError, one_line

REVISION_HELP = "Branch, tag or commit of a bundle on the Hugging Face hub."
_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def find_bundle(bundle: str | Path, revision: str | None = None, precisions: Collection[str] | None = None) -> Path:
    """The folder of a bundle: `bundle` itself, or what the hub has under that id, fetched.

    A name is an id if it has the form org/name, and `org` is no folder here. revision: branch, tag or commit on the
    hub. precisions: variants to fetch; None for all. The files are checked against the manifest only when they are
    read, as everywhere. Raises PairscoreError for what the hub does not have, and where it cannot be reached.
    """
    folder = Path(bundle)
    if folder.exists() or not _ID.fullmatch(str(bundle)) or folder.parent.is_dir():
        if revision is not None:
            raise PairscoreError(f"{str(bundle)!r} is no id of a hub, and only those have revisions: drop --revision")
        return folder
    return _fetch(str(bundle), revision, precisions)


def _fetch(name: str, revision: str | None, precisions: Collection[str] | None) -> Path:
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    with hub_errors(name, revision, "bundle folder"):
        try:
            path = Path(hf_hub_download(name, MANIFEST_NAME, revision=revision))
        except LocalEntryNotFoundError:  # a kind of the next one, and no word of the hub's
            raise
        except EntryNotFoundError as error:
            raise PairscoreError(
                f"{name!r} on the hub is not a bundle (it has no {MANIFEST_NAME}): `pairscore export {name} BUNDLE` "
                "makes one of a checkpoint"
            ) from error
    try:
        manifest = Manifest.from_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PairscoreError(f"{name!r} on the hub has no valid manifest ({error}): export the bundle again") from error
    # The cache names the folder of a snapshot after its commit, so all files are of one.
    with hub_errors(name, revision, "bundle folder"):
        snapshot_download(name, revision=path.parent.name, allow_patterns=manifest.files_of(precisions))
    return path.parent


@contextmanager
def hub_errors(name: str, revision: str | None, kind: str) -> Generator[None, None, None]:
    """Say in one line what the hub refuses, and any way in which a network fails. kind: what a folder would be."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    # huggingface_hub writes a line for each of its attempts; the error below says it once.
    attempts = logging.getLogger("huggingface_hub.utils._http")
    level = attempts.level
    attempts.setLevel(logging.ERROR)
    try:
        yield
    except PairscoreError:
        raise
    except GatedRepoError as error:
        raise PairscoreError(f"{name!r} is gated: accept its terms on the hub and run `hf auth login`") from error
    except RepositoryNotFoundError as error:
        raise PairscoreError(
            f"no {kind} and no Hugging Face model {name!r}: check the name, or `hf auth login` for a private one"
        ) from error
    except RevisionNotFoundError as error:
        raise PairscoreError(f"{name!r} has no revision {revision!r}: check --revision") from error
    except Exception as error:
        from huggingface_hub.constants import HF_HUB_OFFLINE

        kind_of_error = PairscoreError if HF_HUB_OFFLINE else TryAgainError
        raise kind_of_error(
            f"no {kind} {name!r}, and the Hugging Face hub cannot be reached ({one_line(error)}): "
            f"give a local {kind}, or download the model into the hub's cache first"
        ) from error
    finally:
        attempts.setLevel(level)
