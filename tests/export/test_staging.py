"""A folder appears whole or not at all."""

import pytest

from pairscore import PairscoreError
from pairscore.export.staging import check_target, staged_folder


def fill(folder, text):
    (folder / "inner").mkdir()
    (folder / "inner" / "file").write_text(text)
    (folder / "pairscore.json").write_text(text)


def test_it_appears_only_at_the_end(tmp_path):
    target = tmp_path / "new" / "parents" / "bundle"
    with staged_folder(target) as folder:
        fill(folder, "one")
        assert not target.exists()
        assert folder.parent == target.parent  # one file system, so the rename is atomic
    assert (target / "inner" / "file").read_text() == "one"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_nothing(tmp_path, error):
    def work():
        with staged_folder(tmp_path / "new" / "bundle") as folder:
            fill(folder, "half")
            raise error

    with pytest.raises(error):
        work()
    assert not list(tmp_path.iterdir())


def test_an_error_keeps_what_was_there(tmp_path):
    def work():
        with staged_folder(tmp_path / "bundle") as folder:
            fill(folder, "half")
            raise ValueError

    (tmp_path / "bundle").mkdir()
    fill(tmp_path / "bundle", "old")
    with pytest.raises(ValueError):  # noqa: PT011 (the one raised above)
        work()
    assert (tmp_path / "bundle" / "inner" / "file").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_it_replaces_what_was_there(tmp_path):
    (tmp_path / "bundle").mkdir()
    fill(tmp_path / "bundle", "old")
    (tmp_path / "bundle" / "stale").touch()
    with staged_folder(tmp_path / "bundle") as folder:
        fill(folder, "new")
    assert (tmp_path / "bundle" / "inner" / "file").read_text() == "new"
    assert not (tmp_path / "bundle" / "stale").exists()
    assert len(list(tmp_path.iterdir())) == 1


def test_what_may_be_written_to(tmp_path):
    check_target(tmp_path / "nothing", overwrite=False)
    (tmp_path / "empty").mkdir()
    check_target(tmp_path / "empty", overwrite=False)
    (tmp_path / "bundle").mkdir()
    fill(tmp_path / "bundle", "old")
    check_target(tmp_path / "bundle", overwrite=True)
    with pytest.raises(PairscoreError, match=r"exists: choose another name, or replace it with --overwrite"):
        check_target(tmp_path / "bundle", overwrite=False)


def test_what_is_not_a_bundle_is_never_overwritten(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").touch()
    (tmp_path / "file").touch()
    for name in ("folder", "file"):
        with pytest.raises(PairscoreError, match="exists and is not a bundle"):
            check_target(tmp_path / name, overwrite=True)
