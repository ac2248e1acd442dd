"""A node of the cluster dies in the middle of a search."""

from __future__ import annotations

import time

import numpy as np
import pytest
import ray
from ray.cluster_utils import Cluster

from evaluators.base import Candidate, Evaluator, Report, State
from search.executors.base import Finished
from search.executors.ray_tasks import RayExecutor
from search.testing import BitSpace
from tests.waiting import measured, until


class Slow(Evaluator):
    metrics = ("ones",)

    def evaluate(self, model, candidate):
        time.sleep(0.4)
        yield Report(
            {"ones": float(candidate.genome.sum())}, arrays={"large": np.zeros(200_000)}
        )  # too large to travel in the message


@pytest.fixture
def cluster():
    began = time.monotonic()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    measured(time.monotonic() - began)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_ran_on_a_lost_node_is_done_elsewhere_and_a_new_node_joins_in(cluster):
    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    space = BitSpace(8)
    executor = RayExecutor(address=cluster.address, batch=2)
    executor.start(space, Slow())
    assert executor.capacity == 2
    executor.submit([Candidate(i, space.base) for i in range(60)])
    results, lost = {}, None
    while len(results) < 60:
        for event in until(lambda: executor.events(5.0), "another result"):
            if isinstance(event, Finished):
                assert event.evaluation.candidate.id not in results
                results[event.evaluation.candidate.id] = event.evaluation
        if len(results) >= 10 and lost is None:
            lost = len(results)
            cluster.remove_node(node, allow_graceful=False)
            cluster.add_node(num_cpus=2)
    executor.close()
    assert lost < 30
    assert all(e.state is State.COMPLETE and e.metrics == {"ones": 8.0} for e in results.values())
    assert not ray.is_initialized()  # it left the cluster it had joined
