"""The bytes that every machine has to compute: recorded once, compared on all processors, compilers and systems."""

import json

from tests.kernels.installed import every_isa


@every_isa
def test_the_bytes_are_those_that_were_recorded(isa: str):
    """After a wanted change to the arithmetic: python -m tests.kernels.golden > tests/kernels/golden.json"""
    from tests.kernels import golden

    assert golden.digests(isa) == json.loads(golden.FILE.read_text())
