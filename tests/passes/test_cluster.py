"""Ray gives what this process gives, also when an actor is killed; a real Ray of two workers."""

import os
import random
import signal
import time
from collections import Counter

import pytest
import ray

from chiaroscuro import Classifier
from chiaroscuro.data.loading import load_images
from chiaroscuro.errors import ChoiceError, InputError, ModelError, ResultError
from chiaroscuro.passes import cluster, runner
from chiaroscuro.passes.cluster import compute_on_ray
from chiaroscuro.passes.runner import run_pass
from chiaroscuro.results.kinds import KINDS
from tests.passes.toy import KIND, MeanTask, Squares
from tests.pictures import BROKEN, class_rows, write_parquet
from tests.stress import RUNS, below, parts_of
from tests.toys import small_cnn

CLASSES = ["cat", "dog", "owl"]
pytestmark = pytest.mark.filterwarnings("default")  # Ray's own, of processes that it leaves to init


def toy():
    return Classifier(small_cnn(3), size=12, labels=CLASSES, name="toy")


@pytest.fixture
def images(tmp_path):
    rows = class_rows(3, 3)
    rows[4] = (BROKEN, 1)
    write_parquet(tmp_path / "data" / "test.parquet", rows, CLASSES)
    return load_images(tmp_path / "data")


@pytest.fixture(scope="module")
def two_cpus():
    """A Ray that this process has begun, with room for two workers."""
    os.environ.update(cluster._SURROUNDINGS)
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()
    for name in cluster._SURROUNDINGS:
        del os.environ[name]


def test_ray_writes_the_same_bytes_also_when_an_actor_is_killed(images, tmp_path, monkeypatch):
    """By a Ray of its own, which is gone afterwards, with everything as it was."""
    monkeypatch.setitem(KINDS, KIND.name, KIND)
    alone = run_pass(MeanTask(), toy(), images, tmp_path / "one")
    before, stops, told = dict(os.environ), signal.getsignal(signal.SIGTERM), []
    killed = tmp_path / "killed"
    task = MeanTask(killed=str(killed))
    shared = run_pass(
        task, toy(), images, tmp_path / "two", workers=2, engine="ray",
        progress=lambda *counts: told.append(counts),
    )  # fmt: skip
    assert killed.exists()
    assert shared == alone
    assert parts_of(tmp_path / "two") == parts_of(tmp_path / "one")
    assert told[0] == (0, 9, 0) and told[-1] == (9, 9, 0) and len(told) == 6
    assert not ray.is_initialized()
    assert dict(os.environ) == before and signal.getsignal(signal.SIGTERM) == stops


def test_an_unknown_engine_and_a_folder_that_is_not_shared_are_one_line(
    images, tmp_path, monkeypatch
):
    with pytest.raises(ChoiceError, match="unknown engine 'rai': did you mean ray"):
        run_pass(MeanTask(), None, images, tmp_path / "r", engine="rai")
    with pytest.raises(ChoiceError, match=r"no Ray at '127\.0\.0\.1:1' \(.*refused\): give HOST"):
        list(compute_on_ray(Squares(), range(3), address="127.0.0.1:1"))
    monkeypatch.setattr(runner, "compute_on_ray", lambda *_, **__: iter([3]))
    with pytest.raises(ResultError, match="wrote part 3, and it is not there: all nodes"):
        run_pass(MeanTask(), toy(), images, tmp_path / "r", engine="ray")


@pytest.fixture
def given(monkeypatch):
    """Actors and their numbers, each given once all actors that were asked for are there."""
    told, give = [], cluster._Pool.give

    def patient(pool, worker, number):
        if number is not None:
            told.append((worker, number))
            if others := [*pool._busy]:
                ray.wait(others, num_returns=len(others))
        give(pool, worker, number)

    monkeypatch.setattr(cluster._Pool, "give", patient)
    return told


@pytest.mark.parametrize(
    ("name", "workers", "kills"),
    [("evaluate", 1, 0), ("evaluate", 2, 0), ("maps", 1, 0), ("maps", 2, 1)],
)
def test_rows_and_maps_are_the_bytes_of_a_local_run(
    name, workers, kills, two_cpus, given, images, tmp_path
):
    """Every actor has its share, also one that takes the place of one killed at random."""
    hits = []

    def kill(done, total, before):
        if done and len(hits) < kills:
            while len(found := below(os.getpid(), "an actor")) != workers:
                time.sleep(0.01)  # those of an earlier run are ending
            time.sleep(random.random() / 50)
            hits.append(random.choice(found))
            os.kill(hits[-1], signal.SIGKILL)

    data, alone, shared = tmp_path / "data", tmp_path / "alone", tmp_path / "shared"
    RUNS[name](data, alone, 1)
    RUNS[name](data, shared, workers, "ray", progress=kill)
    assert parts_of(shared) == parts_of(alone)
    times = Counter(number for _, number in given)
    assert [*sorted(times)][:5] == [*range(5)] and sum(n > 1 for n in times.values()) == kills
    assert len({worker for worker, _ in given}) == workers + kills


def test_a_ray_that_runs_is_used_with_as_many_workers_as_find_room(two_cpus):
    """The third worker never begins."""
    found = compute_on_ray(Squares(last=6), range(99), workers=3)
    found = sorted(found)
    assert [(n, square) for n, square, *_ in found] == [(n, n * n) for n in range(7)]
    assert os.getpid() not in {pid for _, _, pid, _, _ in found}
    assert {threads for *_, threads, _ in found} == {1}
    assert ray.is_initialized()


def test_errors_come_out_as_they_were_raised(two_cpus):
    with pytest.raises(InputError, match="1 is unlucky"):
        list(compute_on_ray(Squares(fails=(1,)), range(3), threads=1))


def test_a_number_that_always_kills_is_one_clear_error(two_cpus, monkeypatch):
    monkeypatch.setattr(cluster, "ATTEMPTS", 2)
    with pytest.raises(ModelError, match="at batch 1 Ray workers were lost 2 times, the last "):
        list(compute_on_ray(Squares(killed=(1,)), range(3), threads=1))


def test_gpus_are_shared_where_there_are_fewer_than_workers(two_cpus, monkeypatch):
    gpus = cluster._gpus_each
    assert gpus(ray, "cpu", 2) == 0
    with pytest.raises(ChoiceError, match="device cuda:0 with engine ray: the cluster has 0 GPUs"):
        gpus(ray, "cuda:0", 1)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"GPU": 2.0})
    assert [gpus(ray, "cuda:0", workers) for workers in (1, 2, 3, 4)] == [1, 1, 0.666, 0.5]
    with pytest.raises(ChoiceError, match="device cuda:1"):
        gpus(ray, "cuda:1", 1)
