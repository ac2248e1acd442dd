"""Racing: how many samples are seen until the front is the same, on recorded streams of candidates.

For each task (segmentation of generated hearts, the next character of sources) a search of 1,000 candidates
scores all of them on 5,000 samples and then on 15,000 others, and what every sample gives is kept in a
temporary folder. Rules are then replayed on this one stream, in the order and with the delays of a search
(lag 32, chunk 8), with a search split of all 20,000 samples and of the first 5,000:

- ``racing``: ``Quality(race=True)``, by the very classes that a search uses;
- ``margin``: the same with ``race_margin=.01``: who is not better by 1 % is as good as beaten;
- ``fixed``: every candidate is scored on the same 30 % of the split, and on nothing else;
- ``halving``: cohorts of 27 are scored on a ninth of the split, a third of them goes on to a third of it, and
  a third of those to all of it (ranks of non-domination, then crowding).

``samples`` is the share of all samples of all candidates that was seen; ``hypervolume`` that of the front
which is left, by its figures on all samples, over that of all candidates; ``wrong_stops`` the share of the
stopped among those candidates that would have joined the front which they were held against (for ``margin``:
by 1 % at least; for ``fixed``: that are on the true front and not on the one that is found). These have to
see all samples, so that their share, ``deserving``, is the least that a race can come to. Figures without the
name of a task are the worst of the four cases. The order of samples is drawn five times.

Settings of the rule were chosen on a stream of phantoms of seed 100; these are of seed 0. Free searches
follow, on characters: each of five seeds once with racing and once without, at equal evaluations (medians).

A stream is recorded once, in stages: a call that is interrupted goes on where it was. What was recorded lies
in the folder for temporary files.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import moocore
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import harness
from benchmarks.fronts.nets import CharacterNet, SmallUNet
from benchmarks.fronts.tasks import Characters, _sources
from evaluators import Candidate, Cost, Evaluator, Quality, Report, Training
from evaluators.data import Arrays, Classification, Phantoms, Preloaded
from evaluators.data.base import SPLITS, Data
from evaluators.racing import ERROR, MOST, PairedRace, parts
from operators.repair.batchnorm import recalibrate
from operators.selection import rank
from search import Finish, Search
from search.front import VolumeBox
from search.record.ledger import Ledger
from spaces.base import Space
from spaces.calling import forward, mode
from spaces.structures import rows

FOLDER = Path(tempfile.gettempdir()) / "secateur-racing"
SAMPLES, CANDIDATES, LAG, CHUNK, BATCH = 20_000, 1_000, 32, 8, 256
FIXED, COHORT, ETA, MARGIN = 0.3, 27, 3, 0.01


@dataclass(frozen=True)
class Task:
    """What is searched.

    Attributes:
        metric: that is raced.
        values: of outputs and targets, the metric of every sample.
    """

    metric: str
    model: Callable[[], nn.Module]
    data: Callable[[int, int], Arrays]
    training: Training
    values: Callable[[Data, Any, Any], Tensor]


def hearts(seed: int, samples: int) -> Arrays:
    """Generated hearts of 16 x 16 pixels."""
    counts = {"train": 300, "calibration": 128, "search": samples, "test": 64}
    return Phantoms(16, counts, difficulty=0.3, seed=seed)  # type: ignore[arg-type]


def characters(seed: int, samples: int, length: int = 16) -> Arrays:
    """Stretches of the standard library's sources; the seed draws the files."""
    counts = {"train": 6_000, "calibration": 128, "search": samples, "test": 64}
    text = _sources(seed, length * sum(counts.values()) + 1)
    codes = np.array([min(max(ord(c) - 31, 0), Characters.symbols - 1) for c in text])
    inputs, targets = (part.reshape(-1, length) for part in (codes[:-1], codes[1:]))
    order = np.random.default_rng([seed, 1]).permutation(len(inputs))
    edges = np.cumsum([0, *counts.values()])
    rows = {split: order[a:b] for split, a, b in zip(SPLITS, edges, edges[1:], strict=False)}
    return Arrays(inputs, targets, rows, Classification(Characters.symbols), seed)  # type: ignore[arg-type]


class Coarse(nn.Module):
    """A U-Net that sees and says half of the resolution."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.net = SmallUNet(widths)

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(self.net(F.avg_pool2d(x, 2)), scale_factor=2.0, mode="bilinear")


def dice_errors(data: Data, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the metric ``dice_error`` of the data from one count of pixels, in a tenth of the time."""
    classes, count = outputs.shape[1], len(targets)
    logits = outputs.flatten(2).transpose(0, 1).contiguous().numpy()
    best, said = logits[0].copy(), np.zeros(logits.shape[1:], np.int64)
    for label in range(1, classes):  # argmax over this axis takes longer than the network
        said[logits[label] > best] = label
        np.maximum(best, logits[label], out=best)
    cells = classes * (classes * torch.arange(count)[:, None] + targets.flatten(1)) + torch.from_numpy(said)
    pixels = torch.bincount(cells.flatten(), minlength=count * classes**2).view(count, classes, classes)
    both = pixels.diagonal(dim1=1, dim2=2)[:, 1:].double()
    sizes = (pixels.sum(1) + pixels.sum(2))[:, 1:]
    return 1 - torch.where(sizes > 0, 2 * both / sizes.clamp(min=1), 1.0).mean(1)


TASKS = {
    "phantoms": Task(
        "dice_error",
        lambda: Coarse((4, 8)),
        hearts,
        Training(epochs=20, batch_size=16, learning_rate=1e-2),
        dice_errors,
    ),
    "characters": Task(
        "loss",
        lambda: CharacterNet(Characters.symbols, 16, 16, 1, 2),
        characters,
        Training(epochs=4, batch_size=32, learning_rate=1e-2),
        lambda data, outputs, targets: data.loss(outputs, targets),
    ),
}


class Recorder(Evaluator):
    """Scores candidates on the first samples of the search split, and writes what each of them gives into a
    row of a file.

    Args:
        file: of a matrix, float16 ``(candidates, samples)``.
        task: what is measured.
        first: samples that a search sees.
    """

    measures = True

    def __init__(self, file: Path, task: str, first: int) -> None:
        self.file, self.task, self.first = file, task, first
        self.metrics = (TASKS[task].metric,)

    def bind(self, space: Space, data: Data | None = None) -> None:
        super().bind(space, data)
        assert data is not None
        self._batches = Preloaded(data)

    def evaluate(self, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        """Yield one report."""
        row = self.record(model, candidate.id, slice(0, self.first))
        yield Report({TASKS[self.task].metric: float(row.mean(dtype=np.float64))})

    def record(self, model: nn.Module, id: int, columns: slice) -> np.ndarray:
        """Return what some samples give, and write it into a candidate's row; not of the base model, -1."""
        assert self.data is not None
        recalibrate(model, self._batches.batches("calibration", BATCH))
        values, task = [], TASKS[self.task]
        split = self._batches.whole("search", 1024)
        with mode(model, False), torch.inference_mode():
            for start in range(columns.start, columns.stop, BATCH):
                inputs, targets = rows(split, slice(start, min(start + BATCH, columns.stop)))
                values.append(task.values(self.data, forward(model, inputs), targets))
        row = torch.cat(values).numpy().astype(np.float16)
        if id >= 0:
            np.load(self.file, mmap_mode="r+")[id, columns] = row
        return row


@dataclass(eq=False)
class Stream:
    """Candidates in the order in which they were asked.

    Attributes:
        losses: of every candidate on every sample, ``(candidates, samples)``.
        macs: of every candidate.
    """

    losses: np.ndarray
    macs: np.ndarray

    @cached_property
    def means(self) -> np.ndarray:
        return self.losses.mean(axis=1, dtype=np.float64)

    @property
    def points(self) -> np.ndarray:
        """What is minimised, ``(candidates, 2)``."""
        return np.column_stack([self.means, self.macs])

    def first(self, samples: int) -> Stream:
        """The same with a smaller search split."""
        return Stream(self.losses[:, :samples], self.macs)

    def hypervolume(self, ids: np.ndarray) -> float:
        """Of the front of some candidates, over that of all; in the box that a run shows."""
        box = VolumeBox.of(self.points)
        assert box is not None
        return box.share(self.points[_front(self.points, ids)]) / box.share(
            self.points[_front(self.points, np.arange(len(self.macs)))]
        )


def _front(points: np.ndarray, ids: np.ndarray) -> np.ndarray:
    return ids[moocore.is_nondominated(points[ids])]


def recorded(name: str, seed: int, candidates: int, first: int, samples: int) -> Stream:
    """Return a stream, recorded where it is not there yet: a search that sees the first samples, and then its
    candidates on all others.
    """
    task, folder = TASKS[name], FOLDER / f"{name}-{seed}-{candidates}-{first}-{samples}"
    folder.mkdir(parents=True, exist_ok=True)
    file, data = folder / "losses.npy", task.data(seed, samples)
    if not file.exists():
        np.save(file, np.full((candidates, samples), np.nan, np.float16))
    torch.manual_seed(seed)
    recorder = Recorder(file, name, first)
    search = Search(
        task.model(),
        data,
        evaluators=[Cost(), recorder],
        objectives=[task.metric, "macs"],
        training=task.training,
        finish=Finish(members=0),
        directory=folder / "run",
        study=False,
        seed=seed,
        lag=LAG,
        chunk=CHUNK,
    )
    space = search.run(evaluations=candidates).problem.space
    recorder.bind(space, data)
    macs = np.zeros(candidates)
    with contextlib.closing(Ledger.reader(folder / "run" / "ledger.db")) as ledger:
        for _, evaluation in ledger.evaluations():
            id, genome = evaluation.candidate.id, evaluation.candidate.genome
            macs[id] = evaluation.metrics["macs"]
            if np.isnan(np.load(file, mmap_mode="r")[id, -1]):
                recorder.record(space.build(genome), id, slice(first, samples))
    return Stream(np.load(file).astype(np.float32), macs)


@dataclass(eq=False)
class Outcome:
    """What a rule made of a stream.

    Attributes:
        samples: share that was seen.
        stopped: bool ``(candidates,)``.
        deserving: candidates that would have joined the front which they were held against, likewise.
        left: ids of the front in the end.
    """

    samples: float
    stopped: np.ndarray
    deserving: np.ndarray
    left: np.ndarray

    def figures(self, stream: Stream) -> dict[str, float]:
        wrong = self.stopped & self.deserving
        return {
            "samples": self.samples,
            "hypervolume": stream.hypervolume(self.left),
            "wrong_stops": wrong.sum() / max(self.deserving.sum(), 1),
            "wrong_stops_count": int(wrong.sum()),
            "deserving": float(self.deserving.mean()),
            "stopped": float(self.stopped.mean()),
        }


def race(
    stream: Stream, error: float = ERROR, seed: int = 0, most: int = MOST, margin: float = 0.0
) -> Outcome:
    """Replay racing."""
    n, samples = stream.losses.shape
    means, macs = stream.means, stream.macs
    seen, stopped, deserving = np.zeros(n), np.zeros(n, bool), np.zeros(n, bool)
    front = np.array([], dtype=int)
    for start in range(0, n, CHUNK):
        told = np.arange(max(0, start - LAG + CHUNK))
        front = _front(stream.points, told[~stopped[told]]) if len(told) else told
        for id in range(start, min(start + CHUNK, n)):
            better = front[macs[front] <= macs[id]]
            rivals = better[np.argsort(means[better], kind="stable")][:most]
            deserving[id] = not ((1 - margin) * means[better] <= means[id]).any()
            order = np.random.default_rng([seed, id]).permutation(samples)
            test = PairedRace((1 - margin) * stream.losses[rivals], error)
            for part in parts(samples, BATCH):
                index = order[part]
                seen[id] += len(index)
                if test.add(stream.losses[id, index], index) is not None:
                    stopped[id] = seen[id] < samples
                    break
    left = _front(stream.points, np.flatnonzero(~stopped))
    return Outcome(float(seen.mean() / samples), stopped, deserving, left)


def fixed(stream: Stream, seed: int = 0) -> Outcome:
    """Replay a fixed share of the split."""
    n, samples = stream.losses.shape
    some = np.random.default_rng([seed, n]).permutation(samples)[: round(FIXED * samples)]
    guessed = np.column_stack([stream.losses[:, some].mean(axis=1, dtype=np.float64), stream.macs])
    everyone = np.arange(n)
    found, true = _front(guessed, everyone), _front(stream.points, everyone)
    return Outcome(FIXED, ~np.isin(everyone, found), np.isin(everyone, true), found)


def halving(stream: Stream, seed: int = 0) -> Outcome:
    """Replay successive halving in cohorts."""
    n, samples = stream.losses.shape
    order = np.random.default_rng([seed, n]).permutation(samples)
    seen, stopped, deserving = np.zeros(n), np.zeros(n, bool), np.zeros(n, bool)
    front = np.array([], dtype=int)
    for start in range(0, n, COHORT):
        going = np.arange(start, min(start + COHORT, n))
        held = stream.points[front]
        deserving[going] = [not (held <= stream.points[id]).all(axis=1).any() for id in going]
        for share in (ETA**-2, ETA**-1):
            some = order[: round(share * samples)]
            seen[going] = len(some)
            guessed = stream.losses[going][:, some].mean(axis=1, dtype=np.float64)
            ranks, crowding = rank(np.column_stack([guessed, stream.macs[going]]), np.zeros(len(going)))
            best = np.lexsort((-crowding, ranks))[: max(1, len(going) // ETA)]
            stopped[np.delete(going, best)] = True
            going = going[best]
        seen[going] = samples
        front = _front(stream.points, np.concatenate([front, going]))
    return Outcome(float(seen.mean() / samples), stopped, deserving, front)


RULES: dict[str, Callable[[Stream, int], Outcome]] = {
    "racing": lambda stream, seed: race(stream, seed=seed),
    "margin": lambda stream, seed: race(stream, seed=seed, margin=MARGIN),
    "fixed": fixed,
    "halving": halving,
}


def replayed(stream: Stream, draws: int) -> dict[str, dict[str, float]]:
    """Return the figures of every rule, means over draws of the order of samples."""
    found = {}
    for name, rule in RULES.items():
        figures = [rule(stream, seed).figures(stream) for seed in range(draws)]
        found[name] = {key: float(np.mean([one[key] for one in figures])) for key in figures[0]}
        found[name]["hypervolume_worst"] = min(one["hypervolume"] for one in figures)
    return found


def free(name: str, seed: int, candidates: int, samples: int) -> dict[str, float]:
    """Return what racing does to a search of its own: figures over those of the same search without it."""
    file = FOLDER / f"free-{name}-{seed}-{candidates}-{samples}.json"
    if file.exists():
        return json.loads(file.read_text())
    task, fronts, figures = TASKS[name], [], {}
    data = task.data(seed, samples)
    for racing in (None, True):
        torch.manual_seed(seed)
        began = time.process_time()
        result = Search(
            task.model(),
            data,
            evaluators=[Cost(), Quality(race=racing, record_activations=False)],
            objectives=[task.metric, "macs"],
            training=task.training,
            seed=seed,
        ).run(evaluations=candidates)
        figures["cpu" if racing else "cpu_without"] = time.process_time() - began
        fronts.append(np.array([[one.metrics[task.metric], one.metrics["macs"]] for one in result.front]))
        if racing:
            figures["seen"] = result.race.seen / (candidates * samples)
    reference = np.concatenate(fronts).max(axis=0) * 1.1
    without, raced = (moocore.hypervolume(front, ref=reference) for front in fronts)
    figures["hypervolume"] = raced / without
    file.write_text(json.dumps(figures))
    return figures


def measure(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return figures and settings."""
    torch.set_num_threads(1)
    candidates, samples = (96, 2_000) if quick else (CANDIDATES, SAMPLES)
    splits, draws, seeds = ((500, samples), 1, 1) if quick else ((5_000, samples), 5, 5)
    cases: dict[str, dict[str, dict[str, float]]] = {}
    for name in TASKS:
        stream = recorded(name, 0, candidates, splits[0], samples)
        for split in splits:
            cases[f"{name}, {split}"] = replayed(stream.first(split), draws)
    size = (48, 500) if quick else (300, 5_000)
    searches = [free("characters", seed, *size) for seed in range(1, 1 + seeds)]
    figures: dict[str, Any] = {}
    for rule in RULES:
        ours = [case[rule] for case in cases.values()]
        figures[f"{rule}_samples"] = max(one["samples"] for one in ours)
        figures[f"{rule}_hypervolume"] = min(one["hypervolume"] for one in ours)
        figures[f"{rule}_wrong_stops"] = max(one["wrong_stops"] for one in ours)
        figures[f"{rule}_deserving"] = max(one["deserving"] for one in ours)
    for key in ("seen", "hypervolume"):
        figures[f"free_{key}"] = float(np.median([one[key] for one in searches]))
    settings = {
        "error": ERROR, "margin": MARGIN, "rivals": MOST, "candidates": candidates, "splits": splits,
        "draws": draws, "lag": LAG, "chunk": CHUNK, "batch": BATCH,
    }  # fmt: skip
    return figures | {"cases": cases, "searches": searches}, settings


if __name__ == "__main__":
    harness.main("racing", measure)
