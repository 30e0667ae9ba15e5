"""The run record: what identifies a run, however messages word it."""

from dataclasses import replace

import pytest

from pairscore.runtime.engines.tuning_cache import TunedSetting
from pairscore.runtime.job.record import InputRecord, RunRecord, differences
from pairscore.runtime.job.settings import RunSettings

SETTINGS = RunSettings(
    bundle="b" * 64,
    precision="fp32",
    engine="onnxruntime",
    device="cpu",
    max_length=64,
    claim_column="claim",
    evidence_column="evidence",
    score_column="score",
    on_null="error",
    on_invalid_utf8="error",
    part_rows=50,
)
RECORD = RunRecord(SETTINGS, (InputRecord("0.parquet", 100, "f" * 64), InputRecord("1.parquet", None, None)))
EVERYTHING = replace(
    SETTINGS, keep=("id",), filter="id > 3", limit=9, tuning=TunedSetting("openvino", 2, 512, gain=1.25), on_null="null"
)


def test_a_run_keeps_its_digest_whatever_this_release_calls_its_settings():
    """The digest stands in the parts that a run to continue has written: no other name or order may change it."""
    assert RECORD.digest == "bc48046b73425dbc1993da5a303371c7f98c8a217fffcebbdc8c1b3d993fe2ef"
    assert replace(RECORD, settings=EVERYTHING).digest == (
        "1b40f7edf3ffb896683fd2bf803b62ea289f71ca813249b28148511f58ebe092"
    )


@pytest.mark.parametrize("settings", [SETTINGS, EVERYTHING])
def test_a_record_is_read_back_as_it_was(settings):
    record = replace(RECORD, settings=settings)
    assert RunRecord.from_json(record.to_json()) == record


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"format": 2', '"format": 1'),
        ('"limit"', '"most"'),
        ('"part_rows"', '"rows"'),
        ('"keep": [', '"keep": 1, "more": ['),
        ('"gain"', '"profit"'),
        ('"footer"', '"foot"'),
    ],
)
def test_what_is_no_record_is_refused(old, new):
    text = replace(RECORD, settings=EVERYTHING).to_json()
    assert old in text
    with pytest.raises(ValueError, match=r"is missing|no field|not a list|this release reads format 2"):
        RunRecord.from_json(text.replace(old, new))


def test_differences_are_told_in_the_words_of_users():
    assert differences(RECORD, RECORD) == []
    told = differences(RECORD, replace(RECORD, settings=EVERYTHING))
    assert told[:4] == [
        "--keep was not given and is now ('id',)",
        "--on-null was 'error' and is now 'null'",
        "--filter was not given and is now 'id > 3'",
        "--limit was not given and is now 9",
    ]
    assert told[4] == "tuning was not given and is now 'openvino, 2 threads a batch, 512 tokens a batch'"
    changed = replace(SETTINGS, bundle="c", precision="int8", engine="x", device="cuda", max_length=1)
    assert [each.partition(" was ")[0] for each in differences(RECORD, replace(RECORD, settings=changed))] == [
        "bundle",
        "--precision",
        "--engine",
        "--device",
        "--max-length",
    ]
