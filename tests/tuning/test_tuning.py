"""The comparison of settings on known speeds, what is remembered of it, and who uses that."""

import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairscore import PairscoreError, Scorer
from pairscore.runtime import tuning
from pairscore.runtime.bundle.manifest import Bundle
from pairscore.runtime.engines import tuning_cache
from pairscore.runtime.engines.protocol import EngineOptions
from pairscore.runtime.engines.registry import ENGINES, EngineSpec
from pairscore.runtime.engines.tuning_cache import TunedSetting, delete_tuned, load_tuned, save_tuned
from pairscore.runtime.tuning import (
    TOKEN_BUDGETS,
    MeasuredSetting,
    Setting,
    choose,
    successive_halving,
    typical_batches,
)
from tests import gpu_fakes
from tests.command_line import run

SETTINGS = [Setting(engine, 1, budget) for engine in ("one", "other") for budget in TOKEN_BUDGETS["cpu"]]
DEFAULT = SETTINGS[2]
CHOICE = TunedSetting("openvino", 2, 512, gain=1.25)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PAIRSCORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def compared(rates, noise=0.0):
    """The comparison on a machine of these rates, and the seconds that it spent."""
    draw = random.Random(0)
    spent = []

    def measure(setting, least):
        pairs = max(16, round(least * rates[setting]))
        spent.append(pairs / rates[setting] * (1 + noise * draw.random()))
        return pairs, spent[-1]

    return successive_halving(SETTINGS, DEFAULT, measure, 60.0), sum(spent)


@pytest.mark.parametrize("best", [0, 5, 9])
def test_the_fastest_wins_in_spite_of_noise(best):
    rates = {setting: 100.0 + place for place, setting in enumerate(SETTINGS)}
    rates[SETTINGS[best]] = 150.0
    results, spent = compared(rates, noise=0.1)
    choice = choose(results, DEFAULT)
    assert (choice.engine, choice.token_budget) == (SETTINGS[best].engine, SETTINGS[best].token_budget)
    assert choice.gain == pytest.approx(150 / rates[DEFAULT], rel=0.1)
    assert len(results) == len(SETTINGS)
    assert spent < 90
    assert spent > 30


@pytest.mark.parametrize("slower", [0.02, 0.0])
def test_what_is_no_clear_gain_is_not_chosen(slower):
    rates = dict.fromkeys(SETTINGS, 100.0)
    rates[DEFAULT] = 100.0 * (1 - slower)
    assert choose(compared(rates)[0], DEFAULT) is None


def test_the_default_stays_to_the_end_however_slow():
    rates = dict.fromkeys(SETTINGS, 100.0) | {DEFAULT: 10.0}
    results, _ = compared(rates)
    last = max(result.rounds for result in results)
    assert next(result for result in results if result.setting == DEFAULT).rounds == last
    assert choose(results, DEFAULT).gain == pytest.approx(10.0)


def test_a_rate_of_an_earlier_round_does_not_count():
    """Fewer pairs a turn flatter those who left early."""
    results = [
        MeasuredSetting(SETTINGS[0], 900.0, 1),
        MeasuredSetting(SETTINGS[1], 110.0, 3),
        MeasuredSetting(DEFAULT, 100.0, 3),
    ]
    assert choose(results, DEFAULT).token_budget == SETTINGS[1].token_budget


# Remembering ------------------------------------------------------------------------------------------


def test_a_choice_comes_back_on_this_machine_only(monkeypatch):
    save_tuned("digest", CHOICE)
    assert load_tuned("digest") == CHOICE
    assert load_tuned("another variant") is None
    here = tuning_cache.machine()
    for change in ({"cores": 99}, {"processor": "abacus"}, {"engines": {"onnxruntime": "9.9"}}):
        monkeypatch.setattr(tuning_cache, "machine", lambda change=change: {**here, **change})
        assert load_tuned("digest") is None


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"engine": "x"}', json.dumps(vars(CHOICE) | {"token_budget": None})])
def test_a_damaged_file_is_told_of_and_ignored(text, caplog):
    save_tuned("digest", CHOICE).write_text(text)
    assert load_tuned("digest") is None
    assert "ignoring the tuning in '" in caplog.text


def test_a_user_without_a_home_scores_untuned(monkeypatch, caplog):
    monkeypatch.delenv("PAIRSCORE_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(tuning_cache.Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert load_tuned("digest") is None
    assert "ignoring the tuning in the cache folder (no home)" in caplog.text


def test_a_scorer_takes_the_choice_unless_told_otherwise(exported):
    bundle = exported("bert").bundle
    plain = Scorer.from_pretrained(bundle)
    assert plain.tuned is None
    save_tuned(Bundle.open(bundle).digest("fp32"), CHOICE)
    tuned = Scorer.from_pretrained(bundle)
    assert (tuned.tuned, tuned.engine.name, tuned.engine.token_budget) == (CHOICE, "openvino", 512)
    assert Scorer.from_pretrained(bundle, max_length=32).engine.token_budget == 512
    for told in ({"tuning": False}, {"threads": 1}, {"engine": "onnxruntime"}):
        scorer = Scorer.from_pretrained(bundle, **told)
        assert (scorer.tuned, scorer.engine.name) == (None, "onnxruntime")
    save_tuned(Bundle.open(bundle).digest("fp32"), CHOICE, 1)
    one = Scorer.from_pretrained(bundle, threads=1)
    assert (one.tuned, one.engine.name, one.engine.callers) == (CHOICE, "openvino", 1)


def test_a_choice_ends_with_the_release_of_the_kernels_and_with_a_forced_instruction_set(monkeypatch):
    save_tuned("digest", CHOICE)
    monkeypatch.setenv("PAIRSCORE_ISA", "avx2")
    assert load_tuned("digest") is None
    monkeypatch.delenv("PAIRSCORE_ISA")
    assert load_tuned("digest") == CHOICE
    versions = tuning_cache.installed_versions
    monkeypatch.setattr(
        tuning_cache, "installed_versions", lambda names: {**versions(names), "pairscore-kernels": "9.9"}
    )
    assert load_tuned("digest") is None
    assert "pairscore-kernels" in tuning_cache.machine()["engines"]


@pytest.mark.parametrize("first", ["tuned", "untuned"])
def test_a_started_job_goes_on_as_it_was_tuned_then(capsys, exported, tmp_path, first):
    """On whichever machine: engines may differ in a score's last bits."""
    bundle = exported("bert").bundle
    digest = Bundle.open(bundle).digest("fp32")
    pairs = pa.table({"claim": [f"claim {number}" for number in range(40)], "evidence": ["ice"] * 40})
    pq.write_table(pairs, tmp_path / "pairs.parquet")
    arguments = ["score", bundle, tmp_path / "pairs.parquet", "--output", tmp_path / "out", "--part-rows", 10]
    if first == "tuned":
        save_tuned(digest, CHOICE)
    code, _, errors = run(capsys, *arguments, "--shard", "1/2")
    assert (code, "Tuned for this machine: openvino, 2 threads a batch" in errors) == (0, first == "tuned")
    if first == "untuned":
        save_tuned(digest, CHOICE)
    else:
        delete_tuned(digest)
        code, _, errors = run(capsys, *arguments, "--shard", "2/2", "--no-tuning")
        assert code == 2
        assert "engine was 'openvino' and is now 'onnxruntime'" in errors
    code, _, errors = run(capsys, *arguments, "--shard", "2/2")
    assert (code, "Tuned for this machine: openvino" in errors) == (0, first == "tuned")
    assert pq.read_table(tmp_path / "out").num_rows == 40


def test_batches_are_full_and_of_typical_lengths(exported):
    scorer = Scorer.from_pretrained(exported("bert").bundle, tuning=False)
    pairs = [("ice " * number, "sea") for number in range(1, 33)]
    lengths = sorted(4 + number for number in range(1, 33))
    for budget in (64, 256):
        batches = typical_batches(scorer, pairs, budget)
        assert [batch.input_ids.shape[1] for batch in batches] == [lengths[place] for place in (4, 12, 20, 28)]
        assert all(budget - batch.input_ids.shape[1] < batch.input_ids.size <= budget for batch in batches)


def test_a_choice_for_a_gpu_is_one_of_its_own(monkeypatch):
    on_gpu = TunedSetting("onnxruntime", 1, 65_536, "cuda", streams=4, gain=1.5)
    monkeypatch.setattr(tuning_cache, "gpu_names", lambda: ["a GPU"])
    save_tuned("digest", CHOICE)
    save_tuned("digest", on_gpu)
    assert (load_tuned("digest"), load_tuned("digest", "cuda")) == (CHOICE, on_gpu)
    assert str(on_gpu) == "onnxruntime, 4 streams, 65,536 tokens a batch"
    assert on_gpu.options() == EngineOptions(token_budget=65_536, streams=4)
    monkeypatch.setattr(tuning_cache, "gpu_names", lambda: ["another GPU"])
    assert load_tuned("digest", "cuda") is None
    delete_tuned("digest")
    assert load_tuned("digest") is None


def test_streams_are_compared_on_a_gpu(exported, monkeypatch):
    bundle = exported("bert").bundle
    monkeypatch.setitem(ENGINES, "onnxruntime", EngineSpec("tests.gpu_fakes", "onnxruntime", ("cpu", "cuda")))
    monkeypatch.setitem(tuning.TOKEN_BUDGETS, "cuda", (64, 128))
    gpu_fakes.opened.clear()
    found = tuning.compare_settings(bundle, seconds=1, device="cuda:1")
    results, default, choice = found.results, found.default, found.choice
    assert {each.device for each in gpu_fakes.opened} == {"cuda:1"}
    assert default == Setting("onnxruntime", 1, gpu_fakes.opened[0].token_budget, "cuda", streams=3)
    tried = {(each.setting.streams, each.setting.token_budget) for each in results}
    assert tried >= {(streams, budget) for streams in (1, 2, 3, 4) for budget in (64, 128)}
    assert choice is None or choice.device == "cuda"
    if choice:
        save_tuned(Bundle.open(bundle).digest("fp32"), choice)
        assert Scorer.from_pretrained(bundle, device="cuda:0").tuned == choice
        assert Scorer.from_pretrained(bundle).tuned is None


# The command ------------------------------------------------------------------------------------------


def test_tune_shows_what_it_measured_and_remembers(capsys, exported, tmp_path, cache):
    bundle = exported("bert").bundle
    pq.write_table(pa.table({"claim": ["sea", "ice"] * 40, "evidence": ["level", "melt"] * 40}), tmp_path / "p.parquet")
    code, out, _ = run(capsys, "tune", bundle, "--seconds", 2, "--pairs", tmp_path / "p.parquet", "--json")
    assert code == 0
    result = json.loads(out)
    seen = {(each["setting"]["engine"], each["setting"]["token_budget"]) for each in result["results"]}
    assert seen == {(engine, budget) for engine in ("onnxruntime", "openvino") for budget in TOKEN_BUDGETS["cpu"]}
    assert all(each["pairs_per_second"] > 0 for each in result["results"])
    found = load_tuned(Bundle.open(bundle).digest("fp32"))
    assert (found and vars(found)) == result["choice"]
    code, out, _ = run(capsys, "tune", bundle, "--seconds", 1)
    assert code == 0
    assert "default" in out
    assert out.splitlines()[-1].startswith(("Remembered for this machine: ", "The defaults are as fast"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing"], "no bundle at 'missing'"),
        (["{bundle}", "--precision", "int4"], "has no int4 variant"),
        (["{bundle}", "--pairs", "no.parquet"], "no file 'no.parquet'"),
    ],
)
def test_bad_input_is_one_line(capsys, exported, arguments, message):
    code, out, errors = run(capsys, "tune", *(each.format(bundle=exported("bert").bundle) for each in arguments))
    assert (code, out) == (2, "")
    assert errors.count("\n") == 1
    assert message in errors


def test_a_variant_that_nothing_runs_is_refused(exported, monkeypatch):
    monkeypatch.setattr(tuning, "is_installed", lambda engine: False)
    with pytest.raises(PairscoreError, match=r"no engine of the fp32 variant of .* is installed"):
        tuning.tune(exported("bert").bundle)
