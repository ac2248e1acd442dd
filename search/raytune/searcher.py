"""The searcher of an Optuna study for `ray.tune`: it proposes the trials and tells the study how they end."""

from __future__ import annotations

import json
import logging
import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from ray import cloudpickle
from ray.tune.experiment import Trial as RayTrial
from ray.tune.search import Searcher
from ray.tune.utils.util import unflatten_dict

from evaluators.tic.prediction import attribute
from search.pruners import NonDominationPruner
from search.raytune.domains import Parameter, parameters
from search.raytune.stored_study import read_study
from spaces.allowed import Allowed, Names
from spaces.errors import InputError

RAY = "ray"
"""User attribute of a trial: which search proposed it, and Ray's name of the trial."""
REASON = "reason"
"""User attribute of a trial that did not complete, where the reason is known here."""

Space = Callable[[optuna.Trial], Mapping[str, Any] | None] | Mapping[str, BaseDistribution]

_log = logging.getLogger(__name__)


def _remedy(names: Sequence[str]) -> str:
    return f"study_of(path, allow={json.dumps(list(names))})"


class StudySearch(Searcher):
    """Lets the sampler of a study propose the trials of a `tune.Tuner`, and tells the study how they end. [O]

    Of several objectives a result may lack some that an earlier one of the trial had: a cost can be reported
    once, with the first. A trial is not judged before all are known, which a warning says, once.

    A trial that completes is told with its last value, one that the scheduler stops is PRUNED, one that
    raises is FAIL, and one that ends with a value that is not a number is PRUNED with the reason. Of a step
    that is reported twice (by a trial that starts again after an interruption) the first report stands.

    ``Tuner.restore`` finds the study again: where it lives in a database or journal, there; an in-memory
    study is written with the state of the experiment, and :meth:`study_of` gives it back. A trial of the
    study that Ray had not noted before it was killed is told FAIL and its parameters are enqueued again.

    Example:
        >>> import optuna
        >>> from ray import tune
        >>> from search.raytune.scheduler import StudyScheduler
        >>> def train(config):
        ...     for epoch in range(1, 10):
        ...         tune.report({"loss": config["rate"] + 1 / epoch})
        >>> study = optuna.create_study(direction="minimize", pruner=optuna.pruners.MedianPruner())
        >>> search, scheduler = StudySearch(study, metric="loss"), StudyScheduler(study)
        >>> config = tune.TuneConfig(search_alg=search, scheduler=scheduler, num_samples=20)
        >>> tuner = tune.Tuner(train, param_space={"rate": tune.loguniform(1e-4, 1e-1)},
        ...     tune_config=config)  # and tuner.fit()

    Args:
        study: with sampler, pruner and direction(s).
        space: a function ``suggest(trial)`` that draws by ``trial.suggest_*`` (what it returns is added to
            the configuration), or Optuna's distributions by name; None takes what the Tuner's `param_space`
            leaves open.
        metric: what is reported and told, for several objectives a list; None takes ``study.metric_names`` or
            that of the TuneConfig.
        step: key of a result that counts the steps.

    Raises:
        InputError: `metric` does not fit the study's directions.
    """

    def __init__(
        self,
        study: Study,
        space: Space | None = None,
        *,
        metric: str | Sequence[str] | None = None,
        step: str = "training_iteration",
    ) -> None:
        modes = ["max" if direction == StudyDirection.MAXIMIZE else "min" for direction in study.directions]
        names = metric if metric is not None else study.metric_names
        if names is not None:
            names = [names] if isinstance(names, str) else list(names)
            if len(names) != len(modes):
                raise InputError(
                    f"StudySearch.metric {names}: the study has {len(modes)} objective(s); expected one "
                    f"name for each"
                )
        single = len(modes) == 1
        found: Any = names[0] if names and single else names
        mode: Any = modes[0] if single else modes
        super().__init__(metric=found, mode=mode)
        self.study = study
        self._suggest = space if callable(space) else None
        self._parameters: dict[str, Parameter] | None = None
        if space is not None and not callable(space):
            self._parameters = {
                name: Parameter(tuple(name.split("/")), distribution) for name, distribution in space.items()
            }
        self._step = step
        self._id = uuid.uuid4().hex
        self._exhausted = False
        self._numbers: dict[str, int] = {}  # of the study's trials, by Ray's names
        self._live: dict[str, optuna.Trial] = {}
        self._last: dict[str, int] = {}  # step of the last report
        self._ray_trials: dict[str, RayTrial] = {}
        self._known: dict[str, dict[str, float]] = {}  # of several objectives, what was last reported of each
        self._warned: set[str] = set()  # objectives that a result lacked

    @staticmethod
    def study_of(path: str | Path, allow: Names = ()) -> Study:
        """Return the in-memory study that an experiment's directory holds.

        Only what a study is made of is unpickled: Optuna's classes, ours, and what is allowed. (But
        ``Tuner.restore`` unpickles all that Ray keeps there: only restore what you trust.)

        Args:
            path: the experiment's directory.
            allow: what else the study may hold, such as a sampler or pruner of yours: dotted names, or
                classes themselves.

        Raises:
            InputError: there is none, or it holds something that is not allowed.
        """
        files = sorted(Path(path).glob(Searcher.CKPT_FILE_TMPL.format("*")))
        study = None
        if files:
            allowed = Allowed(allow, remedy=_remedy, place=str(files[-1]))
            study = read_study(files[-1].read_bytes(), allowed)
        if study is None:
            raise InputError(
                f"{path}: no in-memory study here; expected the directory of a Tune experiment (or "
                f"optuna.load_study)"
            )
        return study

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """Take over what the TuneConfig and the `param_space` say."""
        self.agree(metric, mode)
        if self._suggest is not None or self._parameters is not None:
            return False
        self._parameters = parameters(config) or None
        return True

    def suggest(self, trial_id: str) -> Any:
        """Ask the study; nested names, such as ``optimiser/rate``, become nested dictionaries."""
        if self._exhausted:
            return Searcher.FINISHED
        if self._suggest is None and self._parameters is None:
            raise InputError(
                "StudySearch: nothing to search; expected domains in the Tuner's param_space, or `space`"
            )
        trial = self.study.ask(
            {name: parameter.distribution for name, parameter in (self._parameters or {}).items()}
        )
        trial.set_user_attr(RAY, self._mark(trial_id))
        self._attach(trial_id, trial)
        if self._suggest is None:
            return self._config(trial.params)
        try:
            more = self._suggest(trial)
        except BaseException:
            self._end(trial_id, state=TrialState.FAIL, reason="suggest raised an error")
            raise
        return unflatten_dict({**trial.params, **(more or {})})

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Report to the study, where no scheduler has done it."""
        self._report(trial_id, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the study, unless it has been told that the trial was pruned."""
        if trial_id not in self._live:
            return
        if error:
            self._end(trial_id, state=TrialState.FAIL, reason="the trial raised an error or its worker died")
            return
        values = self._values(trial_id, result or {})
        if values is None:
            self._stopped(trial_id, f"ended without a value of {self.metric}")
            return
        self._report(trial_id, result or {})
        if diverged := self._divergence(values):
            self._end(trial_id, state=TrialState.PRUNED, reason=diverged)
        else:
            self._end(trial_id, values=values)

    def save(self, checkpoint_path: str) -> None:
        """Write the searcher's state, the study with it where it is in memory."""
        self._settle()
        state = {
            "id": self._id,
            "numbers": self._numbers,
            "parameters": self._parameters,
            "metric": self._metric,
            "exhausted": self._exhausted,
            "study": self.study if self._in_memory else None,
        }
        Path(checkpoint_path).write_bytes(cloudpickle.dumps(state))

    def restore(self, checkpoint_path: str) -> None:
        """Read the searcher's state; `Tuner.restore` does this."""
        state = cloudpickle.loads(Path(checkpoint_path).read_bytes())
        self._id, self._numbers, self._metric = state["id"], state["numbers"], state["metric"]
        self._parameters, self._exhausted = state["parameters"], state["exhausted"]
        if state["study"] is not None:
            # in place: the scheduler holds the same object
            self.study.__setstate__(state["study"].__getstate__())
        else:
            # it is as it was at the beginning, and would draw what it drew then
            self.study.sampler.reseed_rng()
        self._live, self._last, self._ray_trials, self._known = {}, {}, {}, {}
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            mark = trial.user_attrs.get(RAY, {})
            if mark.get("search") == self._id and mark.get("trial") not in self._numbers:
                self._note(trial, "interrupted before Ray had noted it; its parameters were enqueued again")
                self.study.tell(trial.number, state=TrialState.FAIL)
                self.study.enqueue_trial(trial.params)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_live": {}, "_last": {}, "_ray_trials": {}, "_known": {}}

    def agree(self, metric: str | None, mode: str | None) -> None:
        """Take the metric of a TuneConfig, or find that it contradicts the study.

        Raises:
            InputError: it does.
        """
        if mode is not None and mode != self.mode:
            raise InputError(
                f"TuneConfig.mode {mode!r}: the study has {self.mode!r}; expected the same, or none"
            )
        if metric is not None and self._metric is None and isinstance(self.mode, str):
            self._metric = metric
        if metric is not None and metric != self._metric:
            raise InputError(
                f"TuneConfig.metric {metric!r}: StudySearch has {self._metric!r}; expected the same, or none"
            )

    def judge(self, trial_id: str, result: dict[str, Any], pruner: NonDominationPruner | None) -> bool:
        """Report a result, ask the study's pruner, and tell the study where it says stop."""
        if trial_id not in self._live:
            known = self._frozen(trial_id)
            return known is not None and known.state == TrialState.PRUNED
        self._report(trial_id, result, pruner)
        trial = self._live[trial_id]
        several = isinstance(self.mode, list)
        stop = pruner is not None and pruner.should_prune(trial) if several else trial.should_prune()
        if stop:
            self._end(
                trial_id, state=TrialState.PRUNED, reason=self._divergence(self._values(trial_id, result))
            )
        return stop

    def watch(self, ray_trial: RayTrial) -> None:
        """Join a trial of Ray, new, tried again or restored, with its trial of the study."""
        if self._metric is None:
            raise InputError(
                "StudySearch: it is not known which result counts; expected metric=, TuneConfig.metric or "
                "study.set_metric_names"
            )
        name = ray_trial.trial_id
        self._ray_trials[name] = ray_trial
        if name not in self._live:
            known = self._frozen(name) or self._failed_like(ray_trial)
            if known is None:
                _log.warning(
                    "trial %s of Ray has no trial in the study %s: it is not told",
                    name,
                    self.study.study_name,
                )
            elif known.state == TrialState.RUNNING:
                self._attach(name, optuna.Trial(self.study, known._trial_id))
            elif known.state == TrialState.FAIL and not ray_trial.is_finished():
                self._attach(name, self._again(name, known))
        self._settle()

    @property
    def _in_memory(self) -> bool:
        return isinstance(self.study._storage, InMemoryStorage)

    def _mark(self, trial_id: str) -> dict[str, str]:
        return {"search": self._id, "trial": trial_id}

    def _config(self, params: Mapping[str, Any]) -> dict[str, Any]:
        config: dict[str, Any] = {}
        for name, parameter in (self._parameters or {}).items():
            parameter.place(params[name], config)
        return config

    def _values(self, trial_id: str, result: Mapping[str, Any]) -> list[float] | None:
        """Return the objectives' values at a result, None where one is not known or all are missing."""
        names = self.metric if isinstance(self.metric, list) else [self.metric]
        here = {name: float(result[name]) for name in names if result.get(name) is not None}
        known = self._known.setdefault(trial_id, {})
        known |= here
        return [known[name] for name in names] if here and len(known) == len(names) else None

    def _warn(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Say once of an objective that a pruner waits for it."""
        names = self.metric if isinstance(self.metric, list) else [self.metric]
        for name in names:
            if name not in self._known.get(trial_id, {}) and name not in self._warned:
                self._warned.add(name)
                step = result.get(self._step)
                _log.warning("no result has %s at step %s; no trial is stopped before it has", name, step)

    def _divergence(self, values: Sequence[float] | None) -> str | None:
        return (
            f"diverged: {self.metric} is not a number"
            if any(math.isnan(value) for value in values or ())
            else None
        )

    def _attach(self, trial_id: str, trial: optuna.Trial) -> None:
        self._numbers[trial_id] = trial.number
        self._live[trial_id] = trial
        self._last[trial_id] = max(
            self.study._storage.get_trial(trial._trial_id).intermediate_values, default=-1
        )

    def _frozen(self, trial_id: str) -> FrozenTrial | None:
        if trial_id not in self._numbers:
            return None
        storage = self.study._storage
        return storage.get_trial(
            storage.get_trial_id_from_study_id_trial_number(self.study._study_id, self._numbers[trial_id])
        )

    def _report(
        self, trial_id: str, result: dict[str, Any], pruner: NonDominationPruner | None = None
    ) -> None:
        values, step = self._values(trial_id, result), int(result.get(self._step, -1))
        if values is None and trial_id in self._live:
            self._warn(trial_id, result)
        if trial_id not in self._live or values is None or step <= self._last[trial_id]:
            return
        trial = self._live[trial_id]
        if "tic_error" in result:
            told = {
                key: result.get(name)
                for key, name in (("bias", "tic_bias"), ("error", "tic_error"), ("movement", "movement"))
            }
            trial.set_user_attr(
                attribute(step), {key: None if value is None else float(value) for key, value in told.items()}
            )
        if isinstance(self.mode, str):
            trial.report(values[0], step)
        elif pruner is not None:
            pruner.report(trial, values, step)
        self._last[trial_id] = step

    def _end(
        self,
        trial_id: str,
        values: list[float] | None = None,
        state: TrialState = TrialState.COMPLETE,
        reason: str | None = None,
    ) -> None:
        trial = self._live.pop(trial_id)
        self._last.pop(trial_id)
        self._known.pop(trial_id, None)
        self._ray_trials.pop(trial_id, None)
        if reason is not None:
            trial.set_user_attr(REASON, reason)
        try:
            self.study.tell(trial, values, state=state, skip_if_finished=True)
        except RuntimeError:
            # a sampler that has nothing more to propose calls study.stop, which only study.optimize allows
            frozen = self._frozen(trial_id)
            if frozen is None or not frozen.state.is_finished():
                raise
            self._exhausted = True

    def _stopped(self, trial_id: str, reason: str) -> None:
        """End a trial that has no final value: what has reports was stopped, what has none never ran."""
        self._end(
            trial_id, state=TrialState.PRUNED if self._last[trial_id] >= 0 else TrialState.FAIL, reason=reason
        )

    def _settle(self) -> None:
        """End what Ray has ended without a call: a time budget and a stopper of the whole experiment make
        none.
        """
        for name in [name for name, ray_trial in self._ray_trials.items() if ray_trial.is_finished()]:
            if name in self._live:
                self._stopped(name, "stopped with the experiment")
            self._ray_trials.pop(name, None)

    def _note(self, trial: FrozenTrial, reason: str) -> None:
        self.study._storage.set_trial_user_attr(trial._trial_id, REASON, reason)

    def _failed_like(self, ray_trial: RayTrial) -> FrozenTrial | None:
        """The failed trial of which Ray starts a copy under a new name (``restart_errored``)."""
        drawn = ray_trial.evaluated_params or {}
        for trial in reversed(self.study.get_trials(deepcopy=False, states=(TrialState.FAIL,))):
            if trial.user_attrs.get(RAY, {}).get("search") == self._id and all(
                drawn.get(name) == value or repr(drawn.get(name)) == value
                for name, value in trial.params.items()
            ):
                return trial
        return None

    def _again(self, trial_id: str, failed: FrozenTrial) -> optuna.Trial:
        """A new trial for another attempt at a failed one: a finished trial of Optuna stays as it is."""
        # from its checkpoint, so what it reported before still holds
        resumed = failed.user_attrs[RAY]["trial"] == trial_id
        kept = {
            key: value for key, value in failed.user_attrs.items() if resumed and key not in (RAY, REASON)
        }
        template = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=failed.params,
            distributions=failed.distributions,
            intermediate_values=failed.intermediate_values if resumed else None,
            user_attrs=kept | {RAY: self._mark(trial_id), "again": failed.number},
        )
        storage = self.study._storage
        return optuna.Trial(
            self.study, storage.create_new_trial(self.study._study_id, template_trial=template)
        )
