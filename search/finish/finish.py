"""The last stage: members of the front are fine-tuned, verified, exported and measured."""

from __future__ import annotations

import contextlib
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from evaluators.base import Candidate, Evaluator, Evaluators
from evaluators.cost.counting import COSTS, count
from evaluators.cost.latency import fastest_ms, measure, onnx_call
from evaluators.cost.onnx_extra import require_onnx
from evaluators.training.distillation import Distillation
from evaluators.training.evaluator import Training
from evaluators.training.finetuning import FineTuning, OwnTuning, Untuned
from evaluators.training.settings import Precision, TrainingSettings
from evaluators.training.weights import unpack_weights
from search.ask_and_tell import candidate_seed
from search.executors.base import Executor, Finished, Reported
from search.finish.checks import limits, tolerance, verify
from search.finish.choice import choose, front_of
from search.finish.export import ONNX, ModelSource, base_of, export, export_onnx
from search.finish.finished_models import FinishedModels
from search.finish.int8 import Int8Files
from search.finish.searched_cells import keep_cases
from search.finish.trial_test import TrialTest
from search.finish.tuned_members import TunedMembers
from search.front import Front
from search.problem import Problem
from search.record.directory import RunDirectory
from search.record.finals import BASE, CHOSEN, PICTURES, UNTUNED, Final, load_finals
from search.record.ledger import Ledger
from spaces.base import Masked, Trained
from spaces.callables import function_name, function_of, function_text
from spaces.calling import Example, forward, mode
from spaces.errors import require
from spaces.structures import repeated
from spaces.weights import put_weights

_PICTURES = 10
Progress = Callable[[str, int, int], None]
"""Told what is being done, how many are done, and of how many."""


class _Stage(NamedTuple):
    """What is done to a member: by which evaluator, its settings in one line, and what people are told."""

    evaluator: Evaluator
    settings: str
    doing: str


class Finish:
    """Fine-tunes some members of the front and exports them. What is done already is not done again.

    A pair of a coevolution begins with the weights that its cell left it, a candidate that inherited its
    weights with what it became.

    A trial of a hyper-parameter search has been trained when it comes here: it is exported with the weights
    that its training ended with, from its checkpoint or, where there is none, from the same training once
    more; the test split is measured then, once.

    Args:
        members: how many members of the front, spread over it.
        epochs: of fine-tuning, at most; the best one on the search split is kept. 0: nothing is tuned, the
            members are measured and exported as the search left them.
        learning_rate: of fine-tuning, at its peak.
        batch_size: of fine-tuning.
        distillation: learn from the base model as well; null for labels only.
        base: whether the base model is tuned and measured in the same way, as the control.
        onnx: whether to write ONNX files.
        time_limit: seconds of tuning per member; null: none. (The executor's own limit is made for the
            search's short evaluations.)
        latency_batch: samples of a call whose latency is measured.
        latency_repeats: calls that are timed, at least, of which the fastest counts; one thread.
        latency_seconds: that they are timed for, at least.
        tune: a function of your own in place of our fine-tuning, ``tune(model, data, settings)``, which
            returns the tuned model (see :class:`evaluators.training.OwnTuning`): itself, its path
            ``module.function``, or ``class_path`` and ``init_args`` of a class whose objects are called.
            `epochs`, `learning_rate` and `batch_size` are handed to it.
        precision: of fine-tuning, as in :class:`~evaluators.Training`; so are `accumulation` and
            `checkpointing`.
        quantise: ``int8``: beside every ONNX file of a member one with weights and activations of 8 bits;
            null: none.
        tolerance: how much worse an int8 file may be than its float file on the search split, in the first
            objective that is measured on data: of an error in its own unit (.01 is one point), of other
            metrics relative. Layers stay float until it is met.

    Raises:
        InputError: a setting out of its range, or a function that does not import.
    """

    def __init__(
        self,
        members: int = 5,
        epochs: int = 8,
        learning_rate: float = 2e-3,
        batch_size: int = 64,
        distillation: Distillation | None = None,
        base: bool = True,
        onnx: bool = True,
        time_limit: float | None = None,
        latency_batch: int = 1,
        latency_repeats: int = 50,
        latency_seconds: float = 1.0,
        tune: str | dict[str, Any] | Callable | None = None,
        precision: Precision | None = None,
        accumulation: int | None = None,
        checkpointing: Sequence[str] | None = None,
        quantise: Literal["int8"] | None = None,
        tolerance: float = 0.01,
    ) -> None:
        require(
            "finish",
            (members >= 0, f"members {members}; expected at least 0"),
            (epochs >= 0, f"epochs {epochs}; expected at least 0"),
            (
                time_limit is None or time_limit > 0,
                f"time_limit {time_limit}; expected a number above 0 or null",
            ),
            (latency_batch >= 1, f"latency_batch {latency_batch}; expected at least 1"),
            (latency_repeats >= 1, f"latency_repeats {latency_repeats}; expected at least 1"),
            (0 <= latency_seconds < float("inf"), f"latency_seconds {latency_seconds}; expected at least 0"),
            (tune is None or epochs >= 1, "tune with epochs 0, which tunes nothing; expected one of them"),
            (tune is None or distillation is None, "distillation with tune; expected one of them"),
            (quantise in (None, "int8"), f"quantise {quantise!r}; expected int8 or null"),
            (
                quantise is None or onnx,
                "quantise with onnx false, of which int8 is made; expected one of them",
            ),
            (0 <= tolerance < float("inf"), f"tolerance {tolerance}; expected a number of at least 0"),
        )
        if quantise is not None:
            require_onnx("finish.quantise")
        self.quantise, self.tolerance = quantise, tolerance
        self.members, self.base, self.onnx, self.time_limit = members, base, onnx, time_limit
        self.latency_batch, self.latency_repeats = latency_batch, latency_repeats
        self.latency_seconds = latency_seconds
        self.epochs, self.tune = epochs, tune
        self._function = None if tune is None else function_of(tune, "finish.tune")
        self.training = Training(
            epochs=max(1, epochs),
            learning_rate=learning_rate,
            batch_size=batch_size,
            distillation=distillation,
            precision=precision,
            accumulation=accumulation,
            checkpointing=checkpointing,
        )
        self._settings = UNTUNED if epochs == 0 else _in_words(self.training.settings)
        self._tuning = UNTUNED if epochs == 0 else ""
        if self._function is not None:
            self._tuning = function_name(self._function)
            self._settings = f"tune={function_text(self._function)}; {self._settings}"

    @property
    def tunes(self) -> bool:
        """Whether it fine-tunes members by gradients of their loss: a function of the user's is not asked."""
        return self.members > 0 and self.epochs > 0 and self._function is None

    def run(
        self,
        problem: Problem,
        executor: Executor,
        ledger: Ledger,
        directory: Path,
        *,
        front: Front | None = None,
        origin: ModelSource | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> list[Final]:
        """Choose, tune, verify, export and measure.

        Args:
            problem: of the search, with its data bound.
            executor: where the members are tuned, side by side.
            ledger: of the run; every tuned member is committed as it comes.
            directory: of the run; models go to ``models/<id>`` in it.
            front: of the search; None: made of the ledger again.
            origin: how to make the base model again, for the recipes.
            seed: of the run, for the tuning of the base model.
            progress: told what is going on.

        Returns:
            The base model (where the space has one and it is wanted), then the members from the best in the
            first objective on.
        """
        tell = progress or (lambda text, done, total: None)
        stage = self._stage(problem)
        found = (front or front_of(problem, ledger)) if self.members else Front(problem)
        candidates = [member.candidate for member in choose(found, self.members)]
        if (
            self.base
            and problem.space.base is not None
            and candidates
            and not isinstance(problem.space, Masked)
        ):
            candidates.insert(0, Candidate(BASE, problem.space.base, (), "base", candidate_seed(seed, 2**31)))
        models = FinishedModels(problem, ledger, directory)
        tuned = TunedMembers(ledger, RunDirectory(directory).state / "tuned")
        tuned.sweep()
        models.look_through({candidate.id for candidate in candidates}, stage.settings)
        self._conclude_interrupted(problem, tuned, models, candidates, origin, stage.settings)
        ledger.save_note(CHOSEN, [candidate.id for candidate in candidates])
        ledger.commit()
        todo = [c for c in candidates if not models.is_done(c.id, stage.settings)]
        for candidate in todo:
            if folder := models.damaged(candidate.id, stage.settings):
                tell(f"{folder} is damaged and exported again", 0, len(todo))
        untuned = [c for c in todo if not tuned.holds(c.id, stage.settings)]
        self._tune(problem, stage, executor, tuned, untuned, tell)
        # one after the other, with idle workers: latency is measured here
        for done, candidate in enumerate(todo):
            tell("exporting the front", done, len(todo))
            self._conclude(problem, tuned, models, candidate, origin)
        if self.quantise is not None and candidates:
            self._quantise(problem, models, candidates, tell)
        models.write_index()
        return load_finals(ledger)

    def _quantise(
        self, problem: Problem, models: FinishedModels, candidates: Sequence[Candidate], tell: Progress
    ) -> None:
        """Write the int8 files that are not there yet."""
        data = problem.evaluator.data
        assert data is not None
        example = data.example()
        files = Int8Files(
            problem, models, self.tolerance, lambda file: self._onnx_latency(str(file), example)
        )
        todo = files.todo([candidate.id for candidate in candidates])
        for done, final in enumerate(todo):
            tell("quantising the front", done, len(todo))
            files.add(final)

    def _stage(self, problem: Problem) -> _Stage:
        """Return what is done to a member."""
        if isinstance(problem.space, Trained):
            return _Stage(TrialTest(problem.evaluator), "as trained in the search", "testing the best trial")
        tuning: Evaluator = FineTuning(self.training)
        doing = "fine-tuning the front"
        if self.epochs == 0:
            tuning, doing = Untuned(), "testing the front"
        elif self._function is not None:
            tuning = OwnTuning(self._function, self.training.settings)
        # the evaluator gives what was built the weights that the search left it
        if isinstance(problem.space, Masked) or problem.evaluator.inherits:
            tuning = Evaluators([problem.evaluator, tuning])
        return _Stage(tuning, self._settings, doing)

    def _tune(
        self,
        problem: Problem,
        stage: _Stage,
        executor: Executor,
        tuned: TunedMembers,
        todo: Sequence[Candidate],
        tell: Progress,
    ) -> None:
        """Fine-tune on the executor; each result is committed as it comes."""
        if not todo:
            return
        evaluator = stage.evaluator
        evaluator.bind(problem.space, problem.evaluator.data)
        with _time_limit(executor, self.time_limit):
            executor.start(problem.space, evaluator)
            waiting, done, epoch = deque(todo), 0, 0
            while done < len(todo):
                while waiting and len(todo) - len(waiting) - done < max(1, executor.capacity):
                    executor.submit([waiting.popleft()])
                for event in executor.events(timeout=1.0):
                    if isinstance(event, Reported):
                        epoch = event.report.step
                    elif isinstance(event, Finished):
                        done += 1
                        tuned.keep(event.evaluation, stage.settings)
                tell(f"{stage.doing} (epoch {epoch})", done, len(todo))

    def _conclude_interrupted(
        self,
        problem: Problem,
        tuned: TunedMembers,
        models: FinishedModels,
        candidates: Sequence[Candidate],
        origin: ModelSource | None,
        settings: str,
    ) -> None:
        """Export what an interrupted call had tuned and this one would not: other members, or others'
        settings.
        """
        chosen = {candidate.id for candidate in candidates}
        for id, before in tuned.waiting().items():
            if id == BASE or (id in chosen and before == settings):
                continue
            evaluation = tuned.ledger.evaluation(id, arrays=False)
            if evaluation is not None and not tuned.read(id)[0]["reason"]:
                self._conclude(problem, tuned, models, evaluation.candidate, origin)

    def _conclude(
        self,
        problem: Problem,
        tuned: TunedMembers,
        models: FinishedModels,
        candidate: Candidate,
        origin: ModelSource | None,
    ) -> None:
        """Verify, export and measure a tuned member, and keep what was found."""
        ledger, directory = tuned.ledger, models.directory
        note, weights = tuned.read(candidate.id)
        settings = note["settings"]
        searched = ledger.evaluation(candidate.id, arrays=False) if candidate.id != BASE else None
        final = Final(
            candidate.id,
            searched.metrics if searched else dict(problem.base),
            settings=settings,
            reason=note["reason"],
        )
        if weights is not None:
            tests = {name: value for name, value in note["metrics"].items() if name.startswith("test_")}
            final = replace(
                final,
                test=tests,
                tuned={name: value for name, value in note["metrics"].items() if name not in tests},
                folder="" if candidate.id == BASE else models.folder_for(candidate.id, settings),
            )
            ended = problem.space.finish(
                candidate.genome,
                lambda: ledger.evaluation(candidate.id).arrays,  # type: ignore[union-attr]
            )
            space, genome = ended
            model = replace(candidate, genome=genome)
            known = load_finals(ledger)
            base = next((_measured(other) for other in known if other.id == BASE), problem.base)
            final = self._export(
                replace(problem, space=space), directory, model, weights, origin, final, base
            )
            if final.folder:
                keep_cases(
                    problem, candidate, ended, unpack_weights(weights), ledger, directory / final.folder
                )
            if isinstance(problem.space, Masked) and final.folder:
                ledger.save_arrays(f"{PICTURES}{candidate.id}", _pictures(problem, candidate, weights))
        models.keep(final)
        tuned.forget(candidate.id)
        models.write_index()

    def _export(
        self,
        problem: Problem,
        directory: Path,
        candidate: Candidate,
        weights: np.ndarray,
        origin: ModelSource | None,
        final: Final,
        measured: Mapping[str, float],
    ) -> Final:
        """Return a final with what was verified, exported and counted; `measured` was so on the base
        model.
        """
        space, data = problem.space, problem.evaluator.data
        assert data is not None  # or the fine-tuning would have refused it
        example = data.example()
        model = space.build(candidate.genome)
        put_weights(model, unpack_weights(weights))
        model.eval()
        differences = verify(problem, candidate.genome, model)
        worst = max(differences.values(), default=0.0)
        if not worst <= tolerance(model):
            return replace(
                final,
                folder="",
                differences=differences,
                reason=f"the compact model differs from the masked full one by {worst:.1e}",
            )
        screened = problem.evaluator.screen(candidate.genome[None])
        requested = {name: float(screened[name][0]) for name in (*COSTS, "latency_ms") if name in screened}
        realised = count(model, example) | {"latency_ms": self._latency(model, example)}
        searched = problem.evaluator.measured(model)
        if (
            searched or "latency_ms" in requested
        ):  # perhaps of another runtime or batch size, or not known here
            realised |= {"torch_latency_ms": realised.pop("latency_ms")} | searched
        onnx: dict[str, Any] = {}
        if folder := final.folder:
            base = base_of(space, candidate.genome)
            metrics = final.searched | final.test
            recipe = export(
                directory / folder,
                candidate.id,
                candidate.genome,
                model,
                space,
                example,
                origin,
                base=base,
                metrics=metrics,
                requested=requested,
                realised=realised,
                onnx=self.onnx,
                tuning="" if isinstance(problem.space, Trained) else self._tuning,
                card=(measured, _measured(final) | realised),
            )
            onnx = recipe.onnx
            if "file" in onnx and onnx["dynamic_batch"]:
                realised["onnx_latency_ms"] = self._onnx_latency(str(directory / folder / ONNX), example)
        elif self.onnx:
            # exported as the members are, or the latencies could not be compared
            with tempfile.TemporaryDirectory() as temporary:
                onnx = export_onnx(model, example, Path(temporary) / ONNX)
                if "file" in onnx and onnx["dynamic_batch"]:
                    realised["onnx_latency_ms"] = self._onnx_latency(str(Path(temporary) / ONNX), example)
                onnx.pop("file", None)
        return replace(
            final,
            requested=requested,
            realised=realised,
            limits=limits(problem, final.searched | final.test | realised) if candidate.id != BASE else [],
            differences=differences,
            onnx=onnx,
        )

    def _batch(self, example: Example) -> Example:
        batch: Example = repeated(example, self.latency_batch)
        return batch

    def _latency(self, model: nn.Module, example: Example) -> float:
        return measure(model, self._batch(example), self.latency_repeats, seconds=self.latency_seconds)

    def _onnx_latency(self, file: str, example: Example) -> float:
        return fastest_ms(
            onnx_call(file, self._batch(example)), self.latency_repeats, 5, self.latency_seconds
        )


def _measured(final: Final) -> dict[str, float]:
    return final.searched | final.tuned | final.test | final.realised


@contextlib.contextmanager
def _time_limit(executor: Executor, seconds: float | None) -> Iterator[None]:
    """Give an executor that limits candidates in time another limit for a while."""
    before = executor.time_limit
    executor.time_limit = seconds
    try:
        yield
    finally:
        executor.time_limit = before


def _pictures(problem: Problem, candidate: Candidate, weights: np.ndarray) -> dict[str, np.ndarray]:
    """A few inputs of the test split and what a tuned pair makes of them; empty where it makes something else
    than its inputs.
    """
    data = problem.evaluator.data
    assert data is not None
    model = problem.space.build(candidate.genome)
    put_weights(model, unpack_weights(weights))
    inputs, _ = next(iter(data.batches("test", _PICTURES)))
    with mode(model, False), torch.no_grad():
        outputs = forward(model, inputs)
    if not isinstance(inputs, Tensor) or not isinstance(outputs, Tensor):
        return {}
    if inputs.numel() != outputs.numel() or not inputs.is_floating_point():
        return {}
    return {"inputs": inputs.numpy(), "outputs": outputs.reshape(inputs.shape).numpy()}


def _in_words(settings: TrainingSettings) -> str:
    """Return settings in one line. Ledgers hold it, and a member whose line is another is tuned again: its
    words, the class names among them, stay what they were.
    """
    named: dict[str, object] = settings.told()
    if settings.distillation is not None:
        named["distillation"] = "evaluators.distillation.Distillation"
        named |= {f"distillation.{name}": value for name, value in vars(settings.distillation).items()}
    lines = [f"training.{name}={value}" for name, value in sorted(named.items())]
    return "; ".join(["training=evaluators.training.Training", "training.teacher=None", *lines])
