"""Killed, stopped, out of disk, out of memory, locked out: afterwards the same job ends with the same bits."""

import multiprocessing
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pairscore.runtime.engines.out_of_memory import HalvingEngine
from pairscore.runtime.errors import PairscoreError, TryAgainError
from pairscore.runtime.job.output.layout import open_output
from pairscore.runtime.job.output.locks import hold
from pairscore.runtime.job.run import run_job
from pairscore.runtime.scorer import Scorer
from pairscore.runtime.storage.parts import listed_parts
from tests.pairs_files import AtPart, files_below, job, read_output, same, write_pairs

KILLS = 10
ROWS = (330, 0, 250)


@pytest.fixture(scope="module")
def bundle(small_bundle):
    return small_bundle()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for place, rows in enumerate(ROWS):
        write_pairs(folder / f"{place}.parquet", rows, seed=place, group=110)
    return folder


@pytest.fixture(scope="module")
def expected(bundle, data, tmp_path_factory):
    """What an uninterrupted run writes."""
    out = tmp_path_factory.mktemp("expected") / "out"
    run_job(job(bundle, data, out, part_rows=30))
    return read_output(out)


# Kills -------------------------------------------------------------------------------------------------


@pytest.mark.timeout(900)
def test_kills_lose_nothing(bundle, data, expected, tmp_path):
    """Real processes, killed at random moments of their whole life, started again until they end by themselves.

    Every kind of job: all rows or the best of each claim, with and without old scores.
    """
    processes = multiprocessing.get_context("forkserver")  # imports once; no engine threads to inherit
    processes.set_forkserver_preload(["pairscore.runtime.job.run", "onnxruntime"])

    def start(options):
        process = processes.Process(target=run_job, args=(options,))
        process.start()
        return process

    run_job(job(bundle, data, tmp_path / "old", limit=400))
    reuse = (str(tmp_path / "old"),)
    kinds = [{}, {"top_k": 3}, {"reuse": reuse}, {"top_k": 3, "reuse": reuse}]
    run_job(job(bundle, data, tmp_path / "best", part_rows=30, top_k=3))
    ends = [expected, read_output(tmp_path / "best")] * 2
    assert ends[1].num_rows < expected.num_rows / 3

    def restarted(name, kind, end):
        """Seconds of a whole run which finds that another was killed, and so first reads in a process of its own."""
        note = tmp_path / name / "_pairscore" / "reading-whole"
        note.parent.mkdir(parents=True)
        note.write_text("null")
        started = time.monotonic()
        process = start(job(bundle, data, tmp_path / name, part_rows=30, **kind))
        process.join()
        assert same(read_output(tmp_path / name), end)
        return time.monotonic() - started

    restarted("warm", {}, expected)
    seconds = [restarted(f"whole{place}", kind, end) for place, (kind, end) in enumerate(zip(kinds, ends, strict=True))]

    draw = random.Random(0)
    kills = finished = 0
    while kills < KILLS or finished < len(kinds):
        which = finished % len(kinds)
        kind, end = kinds[which], ends[which]
        output = tmp_path / (f"{finished}" if finished // 2 % 2 else f"{finished}.parquet")
        options = job(bundle, data, output, part_rows=30, **kind)
        exit_code = None
        while exit_code != 0:
            process = start(options)
            process.join(draw.uniform(0, 1.2 * seconds[which]))  # over 1: each start may be the last
            if process.is_alive():
                process.kill()
                process.join()
                kills += 1
                if "top_k" not in kind:  # parts hold more than the end until the last step
                    _check_parts(output, end)
            exit_code = process.exitcode
            assert exit_code in (0, -signal.SIGKILL)
        assert same(read_output(output), end)
        finished += 1


def _parts_folder(output):
    return output if output.suffix != ".parquet" else output.with_name(f"_{output.name}.parts")


def _check_parts(output, expected):
    """Whatever a killed run left under a final name is whole and right."""
    if _parts_folder(output) != output and output.exists():
        assert same(read_output(output), expected)
    folder = _parts_folder(output)
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*")] if folder.exists() else []
    for part in listed_parts(names):
        first = sum(ROWS[: part.file]) + part.start
        assert same(pq.read_table(folder / part.name), expected.slice(first, part.stop - part.start))


# Signals -----------------------------------------------------------------------------------------------


# The command on a slow disk: on a quick one a job this small may end before its signal comes.
SLOW_DISK = """
import time
from pairscore.cli import main
from pairscore.runtime.storage.local import LocalStorage

write = LocalStorage.write
LocalStorage.write = lambda *given: (time.sleep(0.1), write(*given))[1]
main()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_command_which_tells_how_to_go_on(bundle, tmp_path, number, code):
    write_pairs(tmp_path / "in.parquet", 1600)
    run_job(job(bundle, tmp_path / "in.parquet", tmp_path / "expected", part_rows=20))
    arguments = ["score", bundle, tmp_path / "in.parquet", "--output", tmp_path / "out", "--part-rows", "20"]
    arguments = [str(each) for each in arguments]
    log = tmp_path / "log"
    slow = [sys.executable, "-c", SLOW_DISK, *arguments]
    process = subprocess.Popen([*slow, "--log-json", str(log)], stderr=subprocess.PIPE, text=True)
    while not (log.exists() and log.read_text().count('"part"') >= 2):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert f"stopped by {number.name}" in said
    assert f"continue with: pairscore {' '.join(arguments)}" in said
    assert '"stopped"' in log.read_text()
    assert "Traceback" not in said
    left = files_below(tmp_path / "out")
    assert not any(name.endswith(".partial") for name in left)
    assert 2 <= len(listed_parts(left)) < 80
    subprocess.run([sys.executable, "-m", "pairscore.cli", *arguments, "--quiet"], check=True)
    assert same(read_output(tmp_path / "out"), read_output(tmp_path / "expected"))


def test_a_second_signal_ends_the_process_at_once():
    program = """
import os, signal, time
from pairscore.runtime.job.signals import Stopped, stop_on_signals
with stop_on_signals():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    except Stopped as stopped:
        assert stopped.exit_code == 130
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 143


# Storage -----------------------------------------------------------------------------------------------


@contextmanager
def small_disk(folder, size):
    """A file system of its own in memory; skips where this process may not mount one."""
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small file system needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        # Readers close their files on threads of their own, so the disk may still be in use for a moment.
        subprocess.run(["umount", "--lazy", folder], check=True)


def remount(folder, option):
    subprocess.run(["mount", "-o", f"remount,{option}", folder], check=True)


@pytest.mark.parametrize("name", ["out", "out.parquet"])
def test_a_full_disk_ends_the_run_in_one_line_and_keeps_whole_parts(bundle, data, expected, tmp_path, name):
    with small_disk(tmp_path / "disk", "96k") as disk:
        options = job(bundle, data, disk / name, part_rows=30)
        with pytest.raises(TryAgainError, match="No space left on device") as refused:
            run_job(options)
        assert "run the same command again" in str(refused.value)
        left = files_below(disk)
        parts = listed_parts(each.removeprefix("out/").removeprefix("_out.parquet.parts/") for each in left)
        assert 3 < len(parts) < 21
        assert not any(each.endswith(".partial") for each in left)
        assert not (disk / "out" / "_SUCCESS").exists()
        remount(disk, "size=16m")
        assert run_job(options).earlier_parts == len(parts)
        assert same(read_output(disk / name), expected)


def test_a_disk_too_small_for_the_merged_file_keeps_the_parts(bundle, data, expected, tmp_path):
    sizes = files_below_after(job(bundle, data, tmp_path / "folder", part_rows=30))
    kilobytes = sum(-(-len(content) // 4096) * 4 for content in sizes.values()) + 4 * 3
    with small_disk(tmp_path / "disk", f"{kilobytes}k") as disk:
        options = job(bundle, data, disk / "out.parquet", part_rows=30)
        with pytest.raises(TryAgainError, match="No space left on device"):
            run_job(options)
        assert not (disk / "out.parquet").exists()
        remount(disk, "size=16m")
        summary = run_job(options)
        assert (summary.earlier_parts, summary.figures.parts) == (21, 0)
        assert same(read_output(disk / "out.parquet"), expected)


def files_below_after(options):
    run_job(options)
    return files_below(Path(options.output))


def test_write_permission_taken_away(bundle, data, expected, tmp_path):
    """Root may write anywhere, so root becomes somebody else instead of changing modes: in a process of its own."""
    with tempfile.TemporaryDirectory() as shared:
        folder = Path(shared)
        folder.chmod(0o755)
        shutil.copytree(data, folder / "data")
        options = job(bundle, folder / "data", folder / "out", part_rows=30)
        lost = subprocess.run(
            [sys.executable, "-c", PERMISSION_LOST],
            input=pickle.dumps(options),
            capture_output=True,
            cwd=Path(__file__).parents[2],
            check=False,
        )
        assert (lost.returncode, lost.stderr) == (0, b"")
        (told,) = lost.stdout.decode().splitlines()
        assert "Permission denied" in told
        for each in ("out", "out/_pairscore", "out/_pairscore/tmp"):
            if (folder / each).exists():
                (folder / each).chmod(0o755)
        assert run_job(options).earlier_parts == 3
        assert same(read_output(folder / "out"), expected)


PERMISSION_LOST = """
import os, pickle, sys
from pathlib import Path
from pairscore import PairscoreError
from pairscore.runtime.job.run import run_job
from tests.pairs_files import AtPart

options = pickle.load(sys.stdin.buffer)

def lose():
    if os.geteuid() == 0:
        os.seteuid(65534)
    else:
        for each in ("", "_pairscore", "_pairscore/tmp"):
            (Path(options.output) / each).chmod(0o500)

try:
    run_job(options, log=AtPart(3, lose))
except PairscoreError as error:
    print(error)
"""


# Memory ------------------------------------------------------------------------------------------------


class SmallEngine:
    """A real engine with little memory: fails as ONNX Runtime does above so many tokens."""

    def __init__(self, engine, most_tokens):
        self._engine, self._most_tokens = engine, most_tokens
        self.name, self.device, self.callers = engine.name, engine.device, engine.callers
        self.token_budget = engine.token_budget
        self.tried = []

    def run(self, batch):
        self.tried.append(batch.input_ids.size)
        if batch.input_ids.size > self._most_tokens:
            raise RuntimeError("[ONNXRuntimeError] : 6 : Failed to allocate memory for requested buffer of size 1")
        return self._engine.run(batch)


def test_batches_that_do_not_fit_are_halved_and_the_size_is_kept(bundle, data, expected, tmp_path):
    engines = []

    def small():
        scorer = Scorer.from_pretrained(bundle)
        engines.append(SmallEngine(scorer.engine, 200))
        return replace(scorer, engine=HalvingEngine(engines[-1]))

    options = job(bundle, data, tmp_path / "out", part_rows=30)
    with pytest.raises(KeyError):
        run_job(options, log=AtPart(4, {}.popitem), scorer=small())
    run_job(options, scorer=small())
    assert same(read_output(tmp_path / "out"), expected)
    for engine in engines:
        failures = [tokens for tokens in engine.tried if tokens > 200]
        # 512 tokens at most, so two or three halvings find what fits; threads may run into each of them together.
        assert 0 < len(failures) <= 3 * engine.callers
        assert len(engine.tried) > 20 * len(failures)


def test_one_pair_that_does_not_fit_is_an_error(bundle):
    scorer = Scorer.from_pretrained(bundle)
    small = replace(scorer, engine=HalvingEngine(SmallEngine(scorer.engine, 3)))
    with pytest.raises(PairscoreError, match=r"cannot compute 1 pairs of \d+ tokens \(.*Failed to allocate memory"):
        small.predict([("a claim", "some evidence"), ("a claim", "more evidence")])


def test_other_errors_are_not_taken_for_memory(bundle):
    class Broken(SmallEngine):
        def run(self, batch):
            self.tried.append(len(batch.rows))
            raise RuntimeError("invalid graph")

    scorer = Scorer.from_pretrained(bundle)
    broken = Broken(scorer.engine, 0)
    with pytest.raises(PairscoreError, match="invalid graph"):
        replace(scorer, engine=HalvingEngine(broken)).predict([("a", "b"), ("a", "c")])
    assert len(broken.tried) == 1


# Locks -------------------------------------------------------------------------------------------------


def test_a_second_run_on_one_output_is_refused(bundle, data, expected, tmp_path):
    options = job(bundle, data, tmp_path / "out", part_rows=30)
    refused = []

    def run_again():
        with pytest.raises(TryAgainError) as error:
            run_job(options)
        refused.append(str(error.value))

    run_job(options, log=AtPart(2, run_again))
    assert f"another run is writing to '{tmp_path / 'out'}' (process {os.getpid()} on " in refused[0]
    assert same(read_output(tmp_path / "out"), expected)


def test_shards_work_side_by_side_but_not_beside_the_whole(tmp_path):
    def held(shard):
        return hold(open_output(str(tmp_path / "out")), shard)

    with held((1, 2)), held((2, 2)):
        for shard in ((1, 2), None):
            with pytest.raises(TryAgainError, match="another run is writing"), held(shard):
                pass
    with held(None):
        for shard in ((1, 2), None):
            with pytest.raises(TryAgainError, match="another run is writing"), held(shard):
                pass
    with held(None):
        pass
