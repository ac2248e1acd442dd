"""Killing the driver at random moments: what is lost, what is done twice, and whether the same front comes
out.

Every life of the run is a fresh process on two workers of a Ray cluster. It gets SIGKILL after a random
number of evaluations (every fifth one at a random moment of its start, while it still replays) and the next
life does the same again. Every evaluation leaves a line in a witness file as it begins, with its id and the
life it belongs to.

``--only silence`` measures one figure, beside the others of the file: how long no result comes after the link
of one of three nodes is cut, with Ray's own settings (:mod:`benchmarks.silence`; it needs the superuser).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from torch import nn

from benchmarks import harness, silence
from evaluators.base import Candidate, Evaluator, Report
from search.executors import RayExecutor
from search.loop import Budget, Loop
from search.problem import Objective, Problem
from search.record.ledger import Ledger
from search.strategies.evolution import Evolution
from search.testing import BitSpace

SECONDS = 0.01  # of an evaluation
BATCH, LAG, CHUNK = 2, 16, 4


class Witnessed(Evaluator):
    """Two opposing shares of kept channels, a trace of noise from the candidate's own seed, and a line in a
    file.
    """

    metrics = ("error", "cost")

    def __init__(self, file: Path, life: int) -> None:
        self.file, self.life = str(file), life

    def evaluate(self, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        with open(self.file, "ab", buffering=0) as witness:
            witness.write(b"%d %d\n" % (self.life, candidate.id))
        time.sleep(SECONDS)
        kept = candidate.genome.astype(float)
        error = 1 - float(kept[1::2].mean()) + 0.01 * torch.rand(1).item()
        yield Report(
            {"error": error, "cost": float(kept[::2].mean())},
            arrays={"activation": candidate.genome.astype(np.float16)},
        )


def live(folder: Path, address: str, workers: int, evaluations: int, life: int) -> None:
    """Run the search in this process to its end: the same command in every life. The front goes to a file at
    last.
    """
    torch.set_num_threads(1)
    ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    space = BitSpace(64, 8)
    evaluator = Witnessed(folder / "witness", life)
    evaluator.bind(space)
    problem = Problem(space, evaluator, (Objective("error"), Objective("cost")))
    ledger = Ledger(folder / "ledger.db", space)
    executor = RayExecutor(workers=workers, batch=BATCH)
    loop = Loop(
        problem,
        Evolution(population=16),
        executor,
        ledger,
        Budget(evaluations=evaluations),
        lag=LAG,
        chunk=CHUNK,
    )
    assert loop.run().kind == "evaluations"
    executor.close()
    ledger.close()
    front = [[e.candidate.id, e.candidate.genome.tobytes().hex(), e.metrics] for e in loop.front.members]
    (folder / "front.json").write_text(json.dumps(front))


class Run:
    """A run in a folder of its own, and what can be seen of it from outside."""

    def __init__(self, folder: Path, address: str, workers: int, evaluations: int) -> None:
        folder.mkdir()
        self.folder, self.address, self.workers, self.evaluations = folder, address, workers, evaluations
        self.lives = 0

    def start(self) -> BaseProcess:
        context = multiprocessing.get_context(
            "forkserver"
        )  # forked from a process that has only imported torch and Ray
        process = context.Process(
            target=live, args=(self.folder, self.address, self.workers, self.evaluations, self.lives)
        )
        self.lives += 1
        process.start()
        return process

    def witnesses(self) -> list[tuple[int, int]]:
        """Life and id of every evaluation that began."""
        file = self.folder / "witness"
        lines = file.read_text().splitlines() if file.exists() else []
        return [(int(life), int(id)) for life, id in (line.split() for line in lines)]

    def committed(self) -> dict[int, dict[str, float]]:
        """Metrics by id, as another process reads them."""
        path = self.folder / "ledger.db"
        if not path.exists() or not path.stat().st_size:
            return {}
        ledger = Ledger.reader(path)
        results = {e.candidate.id: e.metrics for _, e in ledger.evaluations()}
        ledger.close()
        return results

    def outcome(self) -> tuple[Any, Any]:
        """The front, and all candidates with their metrics."""
        return json.loads((self.folder / "front.json").read_text()), sorted(self.committed().items())


def finish(run: Run) -> tuple[Any, Any]:
    """Run to the end without a disturbance."""
    process = run.start()
    process.join()
    assert process.exitcode == 0
    return run.outcome()


def kill_again_and_again(run: Run, kills: int, rng: np.random.Generator) -> dict[str, int]:
    """Kill the driver `kills` times, then let it end; count what was lost and what was done twice."""
    committed: dict[int, dict[str, float]] = {}
    lost = most = 0
    for kill in range(kills + 1):
        before = len(run.witnesses())
        process = run.start()
        if kill == kills:
            process.join()
            assert process.exitcode == 0
        else:
            if kill % 5 == 4:
                time.sleep(rng.uniform(0, 3))
            else:
                wanted = rng.uniform(0, 1.6 * run.evaluations / (kills + 1))
                while process.is_alive() and len(run.witnesses()) - before < wanted:
                    time.sleep(0.005)
                time.sleep(rng.uniform(0, 2 * SECONDS))
            assert process.pid is not None and process.is_alive(), (
                "it ended before it could be killed; give it more evaluations"
            )
            os.kill(process.pid, signal.SIGKILL)
            process.join()
        again = {id for life, id in run.witnesses() if life == run.lives - 1} & set(committed)
        now = run.committed()
        lost += len(again) + sum(now.get(id) != metrics for id, metrics in committed.items())
        begun = {id for life, id in run.witnesses() if life < run.lives}
        most = max(most, len(begun - set(now)))
        committed = now
    witnesses = run.witnesses()
    return {
        "lost_results": lost,
        "recomputed": len(witnesses) - len({id for _, id in witnesses}),
        "uncommitted_at_a_kill": most,
    }


def measure(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return figures and settings."""
    kills, evaluations = (4, 240) if quick else (20, 1000)
    multiprocessing.get_context("forkserver").set_forkserver_preload(
        ["search.strategies.evolution", "search.executors.ray_tasks", "search.loop", "search.testing"]
    )
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    address = ray.get_runtime_context().gcs_address
    with tempfile.TemporaryDirectory() as folder:
        whole = finish(Run(Path(folder, "two"), address, 2, evaluations))
        alone = finish(Run(Path(folder, "one"), address, 1, evaluations))
        killed = Run(Path(folder, "killed"), address, 2, evaluations)
        counts = kill_again_and_again(killed, kills, np.random.default_rng(0))
        same = killed.outcome()
    ray.shutdown()
    figures = {
        "lost_results": counts["lost_results"],
        "recomputed": counts["recomputed"],
        "most_uncommitted_at_a_kill": counts["uncommitted_at_a_kill"],
        "identical_front": whole == alone == same,
        "front_members": len(whole[0]),
    }
    settings = {
        "kills": kills,
        "evaluations": evaluations,
        "seconds_an_evaluation": SECONDS,
        "batch": BATCH,
        "lag": LAG,
        "chunk": CHUNK,
    }
    return figures, settings


def silent(file: Path | None) -> None:
    """Cut a link, and write what comes of it beside the figures that are there."""
    settings = silence.Settings()
    where = harness.environment()
    with tempfile.TemporaryDirectory() as folder:
        story = silence.cut_in_the_middle(Path(folder), settings, {})
    assert not story.outcome["failed"]
    figures = {
        "seconds_without_a_result": story.longest,
        "seconds_until_ray_knew": story.known,
        "seconds_until_it_began_again": story.again,
        "same_front_after_a_cut_link": story.outcome == silence.undisturbed(settings),
    }
    made = json.loads(file.read_text()) if file is not None and file.exists() else None
    if made is None:
        harness.report("resume", figures, {"silence": asdict(settings)}, where, file)
        return
    settled = made["settings"] | {"silence": asdict(settings) | {"environment": where}}
    harness.report("resume", made["figures"] | figures, settled, made["environment"], file)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--only", choices=["silence"])
    parser.add_argument("--json", type=Path)
    chosen, _ = parser.parse_known_args()
    if chosen.only:
        silent(chosen.json)
    else:
        harness.main("resume", measure)
