"""The Optuna view of a run: a process of its own tails the ledger and writes a study that optuna-dashboard
shows.

The ledger is the truth; the study can be deleted at any time and is written again. Nothing here imports the
rest of the project (and so no torch): the view starts in half a second and stays small beside the search. Run
it by hand with ``python -m search.study RUN_DIR`` to rebuild the study of a run that has ended.
"""

from search.study.beside import StudyView

__all__ = ["StudyView"]
