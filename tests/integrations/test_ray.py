"""Ray Data with two actors: rows, columns, nulls, a killed actor, errors."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_AUTH_MODE"] = "disabled"  # else a token is written into the home folder

import ray
import ray.data

from pairscore import Scorer
from pairscore.integrations.ray import ScorePairs, score
from tests.code_blocks import code_blocks
from tests.conftest import SmallBundle
from tests.pairs_files import claimed_text, pairs_table
from tests.pipelines import ROOT, assert_same, by_the_command, example, rich_table

ACTORS = 2
FILES = 6


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    # Short, since sockets lie below it. One core more than the actors take: reading needs one too.
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder:
        ray.init(
            num_cpus=ACTORS + 1,
            include_dashboard=False,
            object_store_memory=128 * 2**20,
            log_to_driver=False,
            logging_level="error",
            _node_ip_address="127.0.0.1",
            _temp_dir=folder,
        )
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def bundle(small_bundle: SmallBundle) -> Path:
    return small_bundle()


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Several small files, so that there is work for every actor."""
    folder, table = tmp_path_factory.mktemp("pairs"), rich_table()
    rows = table.num_rows // FILES
    for place in range(FILES):
        pq.write_table(table.slice(place * rows, rows), folder / f"{place}.parquet")
    return folder


@pytest.fixture(scope="module")
def expected(bundle: Path, pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    return by_the_command(bundle, pairs, tmp_path_factory.mktemp("out") / "scored.parquet")


def blocks(pairs: Path, rows: int) -> ray.data.Dataset:
    """In blocks of so many rows: left alone, Ray reads this little as one, which keeps one actor busy."""
    return ray.data.read_parquet(str(pairs)).repartition(target_num_rows_per_block=rows)


def observed(dataset: ray.data.Dataset, bundle: Path, folder: Path, *, die: bool, **settings: Any) -> pa.Table:
    """The dataset through `Observed` on two actors, as one table."""
    compute = ray.data.ActorPoolStrategy(size=settings.pop("actors", ACTORS))
    step = dataset.map_batches(
        Observed,
        fn_constructor_args=[str(bundle), str(folder), die],
        fn_constructor_kwargs={"on_null": "null"},
        batch_format="pyarrow",
        compute=compute,
        **{"num_cpus": 1, **settings},
    )
    return table_of(step)


def table_of(dataset: ray.data.Dataset) -> pa.Table:
    blocks = ray.get(dataset.to_arrow_refs())
    return pa.concat_tables(block for block in blocks if block.num_columns)  # Ray's own empty ones have none


class Observed(ScorePairs):
    """Writes down which process it is, what it computes on and how many rows it gets; dies once if told to."""

    def __init__(self, bundle: str, folder: str, die: bool, **options: Any) -> None:
        super().__init__(bundle, **options)
        self.folder, self.die, self.calls = Path(folder), die, 0
        callers, device = self._scorer.engine.callers, self._scorer.engine.device
        (self.folder / f"opened-{os.getpid()}").write_text(f"{callers} {device}")

    def __call__(self, batch: Any) -> pa.Table:
        self.calls += 1
        (self.folder / f"call-{os.getpid()}-{self.calls}").write_text(str(batch.num_rows))
        marker = self.folder / "died"
        if self.die and self.calls == 2 and not marker.exists():
            marker.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(batch)


def test_scores_are_the_command_s(bundle: Path, pairs: Path, expected: pa.Table) -> None:
    scored = table_of(score(ray.data.read_parquet(str(pairs)), str(bundle), batch_size=50, on_null="null"))
    assert scored.schema.equals(expected.schema)
    assert_same(scored, expected)


def test_text_that_is_not_utf8(bundle: Path) -> None:
    table = pa.table({"claim": ["a claim"] * 2, "evidence": claimed_text([b"some evidence", b"f\xff"])})
    scored = table_of(score(ray.data.from_arrow(table), str(bundle), on_invalid_utf8="null"))
    assert scored["score"].is_valid().to_pylist() == [True, False]


def test_a_killed_actor_changes_nothing(bundle: Path, pairs: Path, expected: pa.Table, tmp_path: Path) -> None:
    table = observed(blocks(pairs, 20), bundle, tmp_path, die=True, batch_size=20)
    assert_same(table, expected)
    dead = (tmp_path / "died").read_text()
    assert (tmp_path / f"call-{dead}-2").exists()
    opened = list(tmp_path.glob("opened-*"))
    assert len(opened) == ACTORS + 1  # once an actor, however many batches, and once by the one that was restarted
    assert {path.read_text() for path in opened} == {"1 cpu"}  # one core each, as num_cpus says


def test_small_and_empty_blocks(bundle: Path, pairs: Path, expected: pa.Table, tmp_path: Path) -> None:
    dataset = blocks(pairs, 10).map_batches(
        lambda batch: batch if batch["id"][0].as_py() >= 120 else batch.slice(0, 0), batch_format="pyarrow"
    )
    table = observed(dataset, bundle, tmp_path, die=False, actors=1, num_cpus=2, batch_size=60)
    assert_same(table, expected.slice(120))
    assert {path.read_text() for path in tmp_path.glob("opened-*")} == {"2 cpu"}
    assert max(int(path.read_text()) for path in tmp_path.glob("call-*")) == 60  # put together from blocks of 10


def test_ray_s_error_carries_our_line(bundle: Path) -> None:
    with pytest.raises(ray.exceptions.RayError, match=r"no bundle at '.*nowhere': make one with"):
        score(ray.data.from_arrow(rich_table(5)), str(bundle / "nowhere")).materialize()


def test_every_new_column(bundle: Path) -> None:
    """Long evidence in passages, and what was cut, as `Scorer.score_table` gives them."""
    table = pa.table({"claim": ["Sea level rises."] * 3, "evidence": ["Ice melts. " * 100, "Ice.", "Warm seas. " * 60]})
    options: dict[str, Any] = {
        "long_evidence": "split",
        "overlap": 8,
        "passage_columns": True,
        "truncated_column": "cut",
    }
    found = pa.concat_tables(ray.get(score(ray.data.from_arrow(table), bundle, **options).to_arrow_refs()))
    expected = Scorer.from_pretrained(bundle).score_table(table, **options)
    assert found.sort_by("evidence").equals(expected.sort_by("evidence"))


def test_a_batch_that_is_not_arrow(bundle: Path) -> None:
    dataset = ray.data.from_arrow(rich_table(5)).map_batches(
        ScorePairs, fn_constructor_args=[str(bundle)], batch_format="numpy"
    )
    with pytest.raises(ray.exceptions.RayError, match="a batch as dict: pass batch_format='pyarrow' to map_batches"):
        dataset.materialize()


def test_the_code_of_the_guide_runs(bundle: Path, tmp_path: Path) -> None:
    """With folders of this machine in place of a store's."""
    (tmp_path / "pairs").mkdir()
    pq.write_table(pairs_table(40), tmp_path / "pairs" / "0.parquet")
    ((_, code),) = code_blocks("docs/pipelines.md", "integrations.ray")
    for named, here in (
        ("s3://bucket", str(tmp_path)),
        ('"/mnt/bundle"', repr(str(bundle))),
        ('"bundle"', repr(str(bundle))),
    ):
        code = code.replace(named, here)
    exec(code.replace("num_cpus=4", "num_cpus=1"), {})
    assert pq.read_table(tmp_path / "scored").num_rows == 40


@pytest.mark.every_combination
def test_the_example(bundle: Path, tmp_path: Path) -> None:
    claims = ROOT / "examples" / "claims.parquet"
    example("with_ray.py")(str(bundle), str(claims), str(tmp_path / "out"))
    table = pq.read_table(tmp_path / "out")
    wanted = by_the_command(bundle, claims, tmp_path / "scored.parquet")
    numbered = [each.append_column("id", pa.array(range(len(each)))) for each in (table, wanted)]
    assert_same(*numbered)
