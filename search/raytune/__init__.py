"""An Optuna study in charge of ``ray.tune``: its sampler proposes, its pruner stops."""

from search.raytune.scheduler import StudyScheduler
from search.raytune.searcher import StudySearch

__all__ = ["StudyScheduler", "StudySearch"]
