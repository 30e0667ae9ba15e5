"""`make mutations` can still be run: every fault applies to the code as it is, and names tests that exist."""

from pathlib import Path

import pytest

from tests.robustness.mutations import FAULTS, ROOT, applied


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_fault_still_applies(fault):
    assert applied(fault, ROOT) != (ROOT / fault.file).read_text()
    assert all((ROOT / each).is_file() for each in fault.tests if each.startswith("tests/"))


def test_a_fault_that_no_longer_applies_is_named(tmp_path):
    fault = FAULTS[0]
    path = tmp_path / Path(fault.file)
    path.parent.mkdir(parents=True)
    path.write_text("nothing of it")
    with pytest.raises(ValueError, match=rf"^{fault.file} holds 0 times what"):
        applied(fault, tmp_path)
