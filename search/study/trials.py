"""Writing trials and notes into an Optuna study."""

from __future__ import annotations

import contextlib
import datetime as dt
import math
import warnings
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.curves import curve
from search.record.ledger_store import EvaluationRow, LedgerStore
from search.study.files import described, id_of
from search.study.goals import Goals
from search.study.journal import DamagedStudyError
from search.study.parameters import Parameters

SHOWN = "shown"
"""User attribute of a study that shows a part of a run: how many of its trials, and which."""
_MOST_RUNNING = 1000
"""Places that are kept at once; beyond, a trial has another number than its candidate."""
MEMBER = "## On the front"
"""How the notes of the front's members begin."""
_STATES = {"complete": TrialState.COMPLETE, "failed": TrialState.FAIL, "pruned": TrialState.PRUNED}


class Study:
    """Writes trials and notes; what is in it already is not written twice.

    Args:
        storage: of the study.
        name: of the study.
        goals: of the run.
        parameters: make a trial's of a genome.
        store: of the run's ledger.
        last: number of the latest evaluation.
        monitor: what the curves show; empty: the first objective.
        numbered: whether every trial has the number of its candidate. A study that has other numbers is
            written anew, and candidates that are still evaluated have trials that are running.

    Attributes:
        following: the number of the next trial; nobody else writes any.
        misnumbered: whether a trial has been written that could not have its candidate's number, since the
            candidate was evaluated again.
    """

    def __init__(
        self,
        storage: BaseStorage,
        name: str,
        goals: Goals,
        parameters: Parameters,
        store: LedgerStore,
        last: int,
        monitor: str = "",
        numbered: bool = False,
    ) -> None:
        self._monitor = monitor or goals.objectives[0][0]
        self._storage, self._goals, self._parameters, self._store = storage, goals, parameters, store
        self._study = self._open(name)
        self.trials = self._known()
        self._numbered, self._running = numbered, self._unfinished()
        self.misnumbered = False
        another = bool(self.trials) and max(self.trials) > last  # of another ledger
        if another or (not self._is_true() and numbered):
            optuna.delete_study(study_name=name, storage=storage)  # a view is rebuilt, never mended
            self._study, self.trials, self._running = self._open(name), {}, {}
        self.following = len(self._all())
        attributes = storage.get_study_system_attrs(self._study._study_id)
        noted = {trial: attributes.get(f"dashboard:{trial}:note_str:0", "") for trial in self.trials.values()}
        self._notes: dict[int | None, str] = {
            trial: text for trial, text in noted.items() if text.startswith(MEMBER)
        }
        self._members = {seq for seq, trial in self.trials.items() if trial in self._notes}

    def _open(self, name: str) -> optuna.Study:
        names = [metric for metric, _ in self._goals.objectives]
        try:
            study = optuna.load_study(study_name=name, storage=self._storage)
        except KeyError:
            directions = [
                StudyDirection.MAXIMIZE if maximise else StudyDirection.MINIMIZE
                for _, maximise in self._goals.objectives
            ]
            study = optuna.create_study(storage=self._storage, study_name=name, directions=directions)
        if study.metric_names != names:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study.set_metric_names(names)
        return study

    def _all(self) -> list[FrozenTrial]:
        return self._storage.get_all_trials(self._study._study_id, deepcopy=False)

    def _known(self) -> dict[int, int]:
        return {
            int(trial.user_attrs["seq"]): trial._trial_id
            for trial in self._all()
            if "seq" in trial.user_attrs and trial.state.is_finished()
        }

    def _unfinished(self) -> dict[int, int]:
        return {
            int(trial.user_attrs["candidate"]): trial._trial_id
            for trial in self._all()
            if "candidate" in trial.user_attrs and not trial.state.is_finished()
        }

    def _is_true(self) -> bool:
        """Whether all trials that are there have the numbers of candidates and are still in the ledger: a
        candidate that failed may be evaluated again.

        Raises:
            DamagedStudyError: naming the first that says something else than the ledger.
        """
        known = {
            trial.user_attrs["seq"]: trial
            for trial in self._all()
            if "seq" in trial.user_attrs and trial.state.is_finished()
        }
        left = set(known)
        for row in self._store.evaluations() if known else ():
            trial = known.get(row.seq)
            if trial is None:
                continue
            left.discard(row.seq)
            values = self._goals.values(row.metrics) if row.state == "complete" else None
            found = trial.values if trial.state is TrialState.COMPLETE else None
            if trial.state is not _STATES[row.state] or found != values:
                raise DamagedStudyError(f"trial {trial.number} is not what the ledger says of it")
        return not left and all(trial.user_attrs.get("candidate") == trial.number for trial in self._all())

    def write(self, row: EvaluationRow) -> None:
        """Write one evaluation as one finished trial: a single entry of the journal, but where a trial that
        is running has its place.
        """
        id, trial = row.candidate.id, self._trial(row)
        if self._numbered:
            self._keep_places(id)
        running = self._running.pop(id, None)
        if running is None:
            self.misnumbered |= self._numbered and self.following != id
            self.trials[row.seq] = self._create(trial)
        else:
            self._end(running, trial)
            self.trials[row.seq] = running

    def _keep_places(self, id: int) -> None:
        """Write trials that are running for all candidates before this one that have none."""
        following = self.following
        if not 0 < id - following <= _MOST_RUNNING:
            return
        asked = {row.id: row for row in islice(self._store.candidates(following), id - following)}
        for place in range(following, id):
            attributes: dict[str, Any] = {"candidate": place}
            parameters = {}
            if place in asked:
                attributes["operator"] = asked[place].operator
                parameters = self._parameters(asked[place].genome)
            trial = create_trial(
                state=TrialState.RUNNING,
                params=parameters,
                distributions={name: self._parameters.distributions[name] for name in parameters},
                user_attrs=attributes,
            )
            self._running[place] = self._create(trial)

    def _create(self, trial: FrozenTrial) -> int:
        self.following += 1
        return self._storage.create_new_trial(self._study._study_id, trial)

    def _end(self, running: int, trial: FrozenTrial) -> None:
        """Let a trial that is running end as this one."""
        for name, value in trial.user_attrs.items():
            self._storage.set_trial_user_attr(running, name, value)
        for name, value in trial.system_attrs.items():
            self._storage.set_trial_system_attr(running, name, value)
        for step, value in trial.intermediate_values.items():
            self._storage.set_trial_intermediate_value(running, step, value)
        self._storage.set_trial_state_values(running, trial.state, trial.values)

    def _trial(self, row: EvaluationRow) -> FrozenTrial:
        candidate, metrics, state = row.candidate, row.metrics, _STATES[row.state]
        steps = self._store.reports(candidate.id)
        parameters = self._parameters(candidate.genome)
        excesses = self._goals.excesses(metrics) if state is TrialState.COMPLETE else {}
        attributes: dict[str, Any] = {
            "candidate": candidate.id,
            "operator": candidate.operator,
            "parents": ", ".join(map(str, candidate.parents)),
        }
        if state is TrialState.COMPLETE:
            attributes["feasible"] = "yes" if self._goals.feasible(metrics) else "no"
        if row.reason:
            attributes["reason"] = row.reason
        # a browser cannot read nan and inf in JSON
        attributes |= {name: value if math.isfinite(value) else str(value) for name, value in metrics.items()}
        attributes |= {"seconds": round(row.seconds, 4), "worker": row.worker, "seq": row.seq}
        trial = create_trial(
            state=state,
            values=self._goals.values(metrics) if state is TrialState.COMPLETE else None,
            params=parameters,
            distributions={name: self._parameters.distributions[name] for name in parameters},
            user_attrs=attributes,
            # the list is what optuna-dashboard 0.21 reads (it greys infeasible trials), the named ones what
            # Optuna 5 reads
            system_attrs={"constraints": list(excesses.values())} if excesses else {},
            constraints=excesses or None,
            intermediate_values=curve(self._monitor, steps)
            if len(steps) > 1 or state is TrialState.PRUNED
            else {},
        )
        trial.datetime_complete = dt.datetime.fromtimestamp(row.at)
        trial.datetime_start = trial.datetime_complete - dt.timedelta(seconds=row.seconds)
        return trial

    def say(self, text: str) -> None:
        """Keep in the study's user attributes what is shown of the run."""
        if self._study.user_attrs.get(SHOWN) != text:
            self._study.set_user_attr(SHOWN, text)

    def annotate(self, seq: int | None, text: str, member: bool = False) -> None:
        """Put a note on a trial, or on the study (None), where optuna-dashboard is installed to show it.

        Args:
            seq: number of the trial's evaluation.
            text: of the note; it begins with :data:`MEMBER` where the trial is on the front.
            member: whether it is.
        """
        key = None if seq is None else self.trials[seq]
        if seq is not None:
            (self._members.add if member else self._members.discard)(seq)
        if self._notes.get(key) == text:
            return
        with contextlib.suppress(ImportError):
            from optuna_dashboard import get_note, save_note

            # a finished trial has no handle any more; these are the attributes that the functions look at
            target: Any = (
                self._study
                if key is None
                else SimpleNamespace(storage=self._storage, study=self._study, _trial_id=key)
            )
            if get_note(target) != text:
                save_note(target, text)
        self._notes[key] = text

    def attach(self, seq: int | None, files: Sequence[Path]) -> None:
        """Offer files of the run as artifacts of a trial, or of the study (None), and no others.

        Args:
            seq: number of the trial's evaluation.
            files: relative to the run's folder.
        """
        start = "artifacts:" if seq is None else f"dashboard:artifacts:{self.trials[seq]}:"
        offered = {f"{start}{id_of(file)}": described(file) for file in files}
        known = self._storage.get_study_system_attrs(self._study._study_id)
        gone = {name: "null" for name in known if name.startswith(start) and name not in offered}
        for name, text in (offered | gone).items():
            if known.get(name) != text:
                self._storage.set_study_system_attr(self._study._study_id, name, text)

    @property
    def annotated(self) -> set[int]:
        """Numbers of the evaluations whose note says that they are on the front."""
        return set(self._members)
