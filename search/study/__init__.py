"""The Optuna view of a run: a process of its own tails the ledger and writes a study that optuna-dashboard
shows.

The ledger is the truth; the study can be deleted at any time and is written again. Of the rest of the project
the view's process imports only the database of the ledger, and so no torch: it starts in half a second and
stays small beside the search. Run it by hand with ``python -m search.study RUN_DIR`` to rebuild the study of
a run that has ended.
"""

from search.study.beside import StudyView

__all__ = ["StudyView"]
