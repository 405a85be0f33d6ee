"""A node of a Ray cluster that is lost in the middle of a run: a real one, of two local nodes."""

import time
from collections import Counter

import pytest
import ray
from ray.cluster_utils import Cluster

from chiaroscuro.data.loading import load_images
from chiaroscuro.passes import cluster
from chiaroscuro.passes.runner import run_pass
from chiaroscuro.results.kinds import KINDS
from tests.passes.test_cluster import CLASSES, toy
from tests.passes.toy import KIND, MeanTask
from tests.pictures import class_rows, write_parquet
from tests.stress import below, is_worker, parts_of

pytestmark = pytest.mark.filterwarnings("default")  # Ray's own, of processes that it leaves to init


@pytest.fixture
def nodes(monkeypatch):
    """A cluster of a head and another node, with room for one worker each."""
    for name, value in cluster._SURROUNDINGS.items():
        monkeypatch.setenv(name, value)
    both = Cluster(True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    both.add_node(num_cpus=1)
    yield both
    both.shutdown()


def test_a_lost_node_is_as_its_lost_worker(nodes, tmp_path, monkeypatch, capfd, caplog):
    """Its batch is computed once more, the rest by the node that is left: the same bytes."""
    monkeypatch.setitem(KINDS, KIND.name, KIND)
    write_parquet(tmp_path / "data" / "test.parquet", class_rows(3, 6), CLASSES)
    images, given, give = load_images(tmp_path / "data"), [], cluster._Pool.give
    alone = run_pass(MeanTask(), toy(), images, tmp_path / "alone")

    def noted(pool, worker, number):
        given.append((worker, number))
        if number == 0:  # the other node's worker has begun too
            ray.wait([*pool._busy], num_returns=len(pool._busy))
        give(pool, worker, number)

    def lose(done, total, before):
        if done > 2 and nodes.worker_nodes:
            [node] = nodes.worker_nodes
            [worker] = below(node.all_processes["raylet"][0].process.pid, "an actor")
            nodes.remove_node(node, allow_graceful=False)
            while is_worker(worker, "an actor"):  # it ends when it misses its node
                time.sleep(0.01)

    monkeypatch.setattr(cluster._Pool, "give", noted)
    shared = run_pass(
        MeanTask(pause=0.3),
        toy(),
        images,
        tmp_path / "shared",
        workers=2,
        engine=f"ray:{nodes.address}",
        progress=lose,
    )
    assert shared == alone
    assert parts_of(tmp_path / "shared") == parts_of(tmp_path / "alone")
    times = Counter(number for _, number in given if number is not None)
    assert sorted(times) == [*range(9)] and sum(times.values()) == 10
    assert not ray.is_initialized()
    assert capfd.readouterr().out == ""  # where pages of Ray would spoil --json
    [said] = caplog.messages
    assert said.startswith("a Ray worker was lost at batch ")
