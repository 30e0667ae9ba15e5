"""Local files and object stores: whole writes, listings, and jobs on a real S3 server that fails on demand."""

import json
import random
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace

import deltalake
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer

from pairscore.runtime.errors import PairscoreError, TryAgainError
from pairscore.runtime.input.find import Found, find_files
from pairscore.runtime.input.footers import open_file
from pairscore.runtime.input.read import Reading, read_pieces
from pairscore.runtime.job.output.layout import open_output
from pairscore.runtime.job.output.locks import _me, _started, hold
from pairscore.runtime.job.prepare import prepare
from pairscore.runtime.job.run import run_job
from pairscore.runtime.storage.local import LocalStorage, is_hidden, open_storage
from pairscore.runtime.storage.parts import Block
from pairscore.runtime.storage.remote import RemoteStorage
from tests.command_line import run
from tests.object_store import BUCKET, Faults, proxy
from tests.pairs_files import AtPart, files_below, job, pairs_table, read_output, same, write_pairs


@pytest.fixture(scope="module")
def bundle(small_bundle):
    return small_bundle()


@pytest.fixture(scope="module")
def server():
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()
    server.stop()


@pytest.fixture
def faults():
    return Faults()


@pytest.fixture
def store(server, faults, monkeypatch):
    """A fresh bucket. Jobs reach it through the proxy, with drivers that neither wait long nor repeat by themselves."""
    import s3fs

    direct = s3fs.S3FileSystem(key="test", secret="test", endpoint_url="http://{}:{}".format(*server))
    direct.mkdir(BUCKET)
    with proxy(server, faults) as address:
        for name, value in {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "PAIRSCORE_RETRY_SECONDS": "0.01,0.02,0.04,0.08,0.1",
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"read_timeout": 1, "connect_timeout": 5}})
        monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
        s3fs.S3FileSystem.clear_instance_cache()
        yield direct
        s3fs.S3FileSystem.clear_instance_cache()
    direct.invalidate_cache()
    direct.rm(BUCKET, recursive=True)


def put_pairs(store, name, rows, seed=0):
    sink = pa.BufferOutputStream()
    pq.write_table(pairs_table(rows, seed), sink, row_group_size=40)
    store.pipe_file(f"{BUCKET}/{name}", sink.getvalue().to_pybytes())


@pytest.fixture
def remote_data(store):
    for place, rows in enumerate((130, 70)):
        put_pairs(store, f"data/{place}.parquet", rows, seed=place)
    return f"s3://{BUCKET}/data"


@pytest.fixture
def expected(bundle, tmp_path):
    """What a local run over the same rows writes."""
    for place, rows in enumerate((130, 70)):
        write_pairs(tmp_path / "local" / f"{place}.parquet", rows, seed=place, group=40)
    run_job(job(bundle, tmp_path / "local", tmp_path / "expected"))
    return read_output(tmp_path / "expected")


def fetched(store, tmp_path, name):
    """An output of the store, copied here."""
    store.invalidate_cache()
    target = tmp_path / "fetched" / name
    if store.isdir(f"{BUCKET}/{name}"):
        for path in store.find(f"{BUCKET}/{name}"):
            local = target / path.removeprefix(f"{BUCKET}/{name}/")
            local.parent.mkdir(parents=True, exist_ok=True)
            local.write_bytes(store.cat_file(path))
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(store.cat_file(f"{BUCKET}/{name}"))
    return target


# Jobs on an object store -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["out", "out.parquet"])
def test_a_job_from_store_to_store(bundle, store, remote_data, expected, tmp_path, name):  # noqa: PLR0917
    assert run_job(job(bundle, (remote_data,), f"s3://{BUCKET}/{name}")).whole
    copy = fetched(store, tmp_path, name)
    assert same(read_output(copy), expected)
    left = [path for path in store.find(BUCKET) if not path.startswith(f"{BUCKET}/data/")]
    assert all(path.startswith(f"{BUCKET}/{name}") for path in left)
    assert not any("_pairscore" in path for path in left)


def test_between_store_and_this_machine(bundle, store, remote_data, expected, tmp_path):
    run_job(job(bundle, (remote_data + "/*.parquet",), tmp_path / "out"))
    assert same(read_output(tmp_path / "out"), expected)
    run_job(job(bundle, (tmp_path / "local",), f"s3://{BUCKET}/out"))
    assert same(read_output(fetched(store, tmp_path, "out")), expected)


def test_a_stopped_job_goes_on(bundle, store, remote_data, expected, tmp_path):
    options = job(bundle, (remote_data,), f"s3://{BUCKET}/out")
    with pytest.raises(KeyError):
        run_job(options, log=AtPart(2, {}.popitem))
    with pytest.raises(PairscoreError, match="--limit was not given and is now 9"):
        run_job(replace(options, limit=9))
    assert run_job(options).earlier_parts == 2
    assert same(read_output(fetched(store, tmp_path, "out")), expected)
    assert run_job(options).nothing_to_do
    with pytest.raises(PairscoreError, match="exists and is whole"):
        run_job(replace(options, limit=60))
    run_job(replace(options, limit=60, overwrite=True))
    assert read_output(fetched(store, tmp_path / "again", "out")).num_rows == 60


def test_shards_on_a_store(bundle, store, remote_data, expected, tmp_path):
    for number in (2, 1):
        run_job(job(bundle, (remote_data,), f"s3://{BUCKET}/out", shard=(number, 2)))
    assert store.exists(f"{BUCKET}/out/_SUCCESS")
    assert same(read_output(fetched(store, tmp_path, "out")), expected)


@pytest.mark.parametrize("fault", ["error", "throttle", "reset", "cut", "stall"])
def test_faults_that_pass_change_nothing(bundle, store, remote_data, expected, tmp_path, faults, fault, caplog):  # noqa: PLR0917
    """One request in ten fails, reads and writes alike; answers are cut short or stalled only where there are any."""
    draw = random.Random(0)

    def choose(method, path, number):
        struck = draw.random() < 0.1
        return fault if struck and (fault not in ("cut", "stall") or method in ("GET", "PUT")) else None

    faults.stall_seconds = 1.5  # the driver waits for one
    faults.log.clear()
    faults.choose = choose
    run_job(job(bundle, (remote_data,), f"s3://{BUCKET}/out"))
    faults.choose = lambda method, path, number: None
    struck = [each for each in faults.log if each[2]]
    assert {method for method, _, _ in struck} >= {"GET"}
    assert len(struck) >= 2
    assert "again in" in caplog.text or fault == "reset"  # the driver itself repeats some of these
    assert same(read_output(fetched(store, tmp_path, "out")), expected)


def test_a_store_that_stays_away_ends_the_run_in_one_line(bundle, store, remote_data, expected, tmp_path, faults):  # noqa: PLR0917
    options = job(bundle, (remote_data,), f"s3://{BUCKET}/out")
    down = threading.Event()
    faults.choose = lambda method, path, number: "error" if down.is_set() else None
    with pytest.raises(PairscoreError, match=r"could not (write|remove) s3://bucket/out/.* in 6 attempts") as refused:
        run_job(options, log=AtPart(3, down.set))
    assert "\n" not in str(refused.value)
    assert "cannot use output 's3://bucket/out'" in str(refused.value)
    down.clear()
    # The lease of a run that could not say goodbye keeps nobody out whom its process shows to be its own.
    assert [path for path in store.find(f"{BUCKET}/out/_pairscore") if "lock-" in path]
    assert run_job(options).earlier_parts == 3
    assert same(read_output(fetched(store, tmp_path, "out")), expected)


def test_a_store_that_is_lost_while_a_job_begins_is_to_be_tried_again(bundle, store, remote_data, faults, monkeypatch):
    """Whatever the job looks at: its inputs, its output, the old scores."""
    monkeypatch.setenv("PAIRSCORE_RETRY_SECONDS", "0")
    run_job(job(bundle, (remote_data,), f"s3://{BUCKET}/old"))
    options = replace(job(bundle, (remote_data,), f"s3://{BUCKET}/out.parquet"), reuse=(f"s3://{BUCKET}/old",))
    for last in range(0, 24, 2):
        faults.log.clear()
        faults.choose = lambda method, path, number, last=last: "reset" if number >= last else None
        with pytest.raises(TryAgainError, match="attempts"):
            run_job(options)
    faults.choose = lambda method, path, number: None
    assert run_job(options).whole


def test_the_command_tells_of_repeated_requests(bundle, store, remote_data, faults, capsys, tmp_path):  # noqa: PLR0917
    faults.choose = lambda method, path, number: "error" if number % 5 == 4 else None
    code, _, said = run(capsys, "score", bundle, remote_data, "-o", tmp_path / "out", "--log-json", tmp_path / "log")
    assert code == 0
    assert "pairscore: could not" in said
    assert '"warning"' in (tmp_path / "log").read_text()


def test_what_is_not_there_is_not_asked_for_again(store, faults):
    storage, path = open_storage(f"s3://{BUCKET}/nothing")
    faults.log.clear()
    assert storage.kind(path) is None
    with pytest.raises(FileNotFoundError):
        storage.read(path)
    assert len(faults.log) < 8
    with pytest.raises(PairscoreError, match="no input 's3://bucket/nothing'"):
        find_files([f"s3://{BUCKET}/nothing"])


def test_a_large_row_group_is_read_in_pieces(store, faults):
    """A column chunk is fetched through a buffer, not at once."""
    sink = pa.BufferOutputStream()
    table = pairs_table(3000)
    pq.write_table(table, sink, row_group_size=3000, compression="none", use_dictionary=False, data_page_size=4000)
    store.pipe_file(f"{BUCKET}/big.parquet", sink.getvalue().to_pybytes())
    storage = RemoteStorage("s3", fsspec.filesystem("s3"), buffer_size=20_000)
    file = open_file(Found(storage, f"{BUCKET}/big.parquet", "big.parquet"))
    faults.log.clear()
    pieces = list(read_pieces(file, [Block(0, 0, 3000)], Reading(("claim", "evidence"), ("claim", "evidence"))))
    assert pa.concat_tables([piece.table for piece in pieces]).equals(table.select(["claim", "evidence"]))
    assert len([each for each in faults.log if each[0] == "GET"]) > 10


# Leases ------------------------------------------------------------------------------------------------


LOCKS = f"s3://{BUCKET}/locks"
ELSEWHERE = {"who": "process 1 on a lost machine", "host": "a lost machine"}


def left(store, **changes):
    """A lease that a run left; by default one of this process, of which this process knows nothing any more."""
    text = json.dumps({**_me(), **changes})
    store.pipe_file(f"{BUCKET}/locks/_pairscore/lock-whole-0123456789abcdef", text.encode())


def test_one_lease_at_a_time(store):
    output = open_output(LOCKS)
    with hold(output, None):
        for shard in (None, (1, 2)):
            with (
                pytest.raises(TryAgainError, match=rf"another run is writing to '{LOCKS}' \(process \d+ on"),
                hold(output, shard),
            ):
                pass
    with hold(output, (1, 2)), hold(output, (2, 2)):
        for shard in (None, (2, 2)):
            with pytest.raises(TryAgainError, match="another run is writing"), hold(output, shard):
                pass
    assert output.names() == []


def test_of_many_that_start_together_at_most_one_holds(store):
    barrier, count, lock = threading.Barrier(6), [0, 0], threading.Lock()

    def try_it():
        barrier.wait()
        try:
            with hold(open_output(LOCKS), None):
                with lock:
                    count[0] += 1
                    count[1] = max(count)
                barrier.wait()
                with lock:
                    count[0] -= 1
        except PairscoreError:
            barrier.wait()

    threads = [threading.Thread(target=try_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count[1] <= 1


def test_a_lease_that_vanishes_between_listing_and_look_is_no_conflict(store, faults):
    left(store)

    def choose(method, asked, number):
        if method == "HEAD" and "0123456789abcdef" in asked:
            store.rm_file(f"{BUCKET}/locks/_pairscore/lock-whole-0123456789abcdef")

    faults.choose = choose
    with hold(open_output(LOCKS), None):
        assert len(open_output(LOCKS).names()) == 1


def test_the_lease_of_a_run_elsewhere_expires(store):
    left(store, **ELSEWHERE, machine="")
    output = open_output(LOCKS)
    with (
        pytest.raises(
            TryAgainError, match=r"process 1 on a lost machine; if that run is dead, its lease ends in 1\d\d s"
        ),
        hold(output, None),
    ):
        pass
    with hold(output, None, lease_seconds=-1.0) as held:  # every lease is too old now
        assert not any("0123456789abcdef" in name for name in output.names())
        with pytest.raises(TryAgainError, match="another may have taken over"):
            held.check()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_the_lease_of_a_process_that_is_gone_is_taken_over_at_once(store):
    ended = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    number = str(ended.pid)
    left(store, process=number, started=_started(number))
    with pytest.raises(TryAgainError, match="another run is writing"), hold(open_output(LOCKS), None):
        pass
    ended.kill()
    ended.wait()
    with hold(open_output(LOCKS), None):
        pass
    left(store, started="1")  # its number is another process's now
    with hold(open_output(LOCKS), None):
        pass
    left(store)  # of an earlier run of this very process
    with hold(open_output(LOCKS), None):
        pass


def test_the_lease_of_another_container_is_waited_for(store, caplog):
    left(store, machine="another")
    with hold(open_output(LOCKS), None, lease_seconds=4.0):
        assert "waiting for the lease of process" in caplog.text
        assert "which ends in " in caplog.text
    left(store, machine="another")
    threading.Timer(1.0, left, [store], {"machine": "another"}).start()  # it renews its lease
    with pytest.raises(TryAgainError, match="another run is writing"), hold(open_output(LOCKS), None, 600.0):
        pass


def test_a_plan_asks_for_each_file_at_most_twice(store, faults, small_bundle):
    for number in range(30):
        sink = pa.BufferOutputStream()
        pq.write_table(pairs_table(3), sink)
        store.pipe_file(f"{BUCKET}/many/{number:02d}.parquet", sink.getvalue().to_pybytes())
    for given in (f"s3://{BUCKET}/many", f"s3://{BUCKET}/many/*.parquet"):
        faults.log.clear()
        assert prepare(job(small_bundle(), (given,), None)).plan.rows == 90
        assert len(faults.log) <= 2 * 30 + 6, given


def test_missing_credentials_are_told_at_once(monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("tried again"))
    with pytest.raises(PairscoreError, match="Unable to locate credentials") as refused:
        find_files(["s3://other/x.parquet"])
    assert not isinstance(refused.value, TryAgainError)


# Local files -------------------------------------------------------------------------------------------


def test_a_local_write_appears_whole_and_leaves_nothing_else(tmp_path):
    storage = LocalStorage()
    target = tmp_path / "a" / "b.bin"
    for content in (b"one", b"two"):
        storage.write(str(target), content, str(tmp_path / "tmp"))
        assert target.read_bytes() == content
    assert sorted(files_below(tmp_path)) == ["a/b.bin"]
    target.unlink()
    target.mkdir()
    with pytest.raises(OSError, match="directory"):
        storage.write(str(target), b"three", str(tmp_path / "tmp"))
    assert files_below(tmp_path) == {}


def test_local_listings(tmp_path):
    storage = LocalStorage()
    for name in ("b/_x", "a", "b/c"):
        storage.write(str(tmp_path / "data" / name), b"", str(tmp_path / "tmp"))
    assert storage.files(str(tmp_path / "data")) == ["a", "b/_x", "b/c"]
    assert [storage.kind(str(tmp_path / name)) for name in ("data", "data/a", "x")] == ["folder", "file", None]
    for _ in range(2):
        storage.remove(str(tmp_path / "data" / "a"))
    assert storage.files(str(tmp_path / "data")) == ["b/_x", "b/c"]
    for _ in range(2):
        storage.remove_folder(str(tmp_path / "data"))
    assert storage.kind(str(tmp_path / "data")) is None


@pytest.mark.parametrize(
    ("name", "hidden"), [("a/b.parquet", False), ("_a/b", True), ("a/.b", True), ("a/b_c.d", False)]
)
def test_hidden_names(name, hidden):
    assert is_hidden(name) is hidden


# Other addresses ---------------------------------------------------------------------------------------


def test_file_addresses_are_local(tmp_path):
    storage, path = open_storage(f"file://{tmp_path}/x")
    assert (storage.scheme, path) == ("file", f"{tmp_path}/x")


def test_any_store_that_fsspec_knows_will_do(bundle, tmp_path, expected):

    memory = fsspec.filesystem("memory")
    for path in (tmp_path / "local").iterdir():
        memory.pipe_file(f"/in/{path.name}", path.read_bytes())
    run_job(job(bundle, ("memory://in",), "memory://out.parquet"))
    (tmp_path / "out.parquet").write_bytes(memory.cat_file("/out.parquet"))
    assert same(read_output(tmp_path / "out.parquet"), expected)
    run_job(job(bundle, ("memory://in",), "memory://old"))
    again = run_job(
        job(bundle, ("memory://in",), "memory://best", reuse=("memory://old", "memory://out.parquet"), top_k=1)
    )
    assert (again.figures.reused, again.figures.statistics.pairs) == (expected.num_rows, 0)
    found = sorted(path for path in memory.find("/best") if path.endswith(".parquet"))
    best = pa.concat_tables([pq.read_table(pa.BufferReader(memory.cat_file(path))) for path in found])
    assert best["rank"].unique().to_pylist() == [1]
    assert best.num_rows == len(expected["claim"].unique())
    memory.rm("/", recursive=True)


def test_hub_addresses_open_without_a_connection():
    storage, path = open_storage("hf://datasets/some/where/a.parquet")
    assert (storage.scheme, path) == ("hf", "datasets/some/where/a.parquet")


def test_pauses_that_are_no_numbers_are_refused(monkeypatch):
    monkeypatch.setenv("PAIRSCORE_RETRY_SECONDS", "1,soon")
    with pytest.raises(PairscoreError, match=r"PAIRSCORE_RETRY_SECONDS=1,soon is no list of seconds"):
        open_storage("memory://x")
    for pauses in ("-1", "1,nan", "inf"):
        monkeypatch.setenv("PAIRSCORE_RETRY_SECONDS", pauses)
        with pytest.raises(PairscoreError, match="is no list of seconds from 0 to 3600"):
            open_storage("memory://x")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(PairscoreError, match=r"gs:// needs gcsfs .*pip install pairscore\[remote\]"):
        open_storage("gs://bucket/x")


def test_a_store_that_is_connected_to_at_once_and_cannot_be_reached():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # taken, and nobody listens
        url = f"ftp://127.0.0.1:{closed.getsockname()[1]}/pairs"
        with pytest.raises(TryAgainError, match=r"cannot open 'ftp://.*refused.*: check the address"):
            open_storage(url)
    with pytest.raises(PairscoreError, match=r"cannot open 'ftp://nowhere.invalid/pairs'"):
        open_storage("ftp://nowhere.invalid/pairs")


def test_a_delta_table_on_an_object_store(bundle, store, tmp_path):
    deltalake.write_deltalake(
        str(tmp_path / "table"), pairs_table(30).append_column("day", pa.array(["x y"] * 30)), partition_by="day"
    )
    deltalake.DeltaTable(str(tmp_path / "table")).delete("id < 10")
    for path in (tmp_path / "table").rglob("*"):
        if path.is_file():
            store.pipe_file(f"{BUCKET}/table/{path.relative_to(tmp_path / 'table')}", path.read_bytes())
    run_job(job(bundle, (f"s3://{BUCKET}/table",), str(tmp_path / "out.parquet")))
    scored = pq.read_table(tmp_path / "out.parquet", partitioning=None)
    assert sorted(scored["id"].to_pylist()) == list(range(10, 30))
    assert set(scored["day"].to_pylist()) == {"x y"}
