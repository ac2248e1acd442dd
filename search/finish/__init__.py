"""The last stage: members of the front are chosen, fine-tuned, checked, exported and measured."""

from typing import TYPE_CHECKING

from spaces.lazy import lazily

if TYPE_CHECKING:
    from search.finish.export import ModelSource
    from search.finish.finish import Finish
    from search.finish.recipe import Recipe, load
    from search.finish.trial_test import TrialTest

__all__ = ["Finish", "ModelSource", "Recipe", "TrialTest", "load"]

__getattr__ = lazily(
    __name__,
    {
        "ModelSource": "search.finish.export",
        "Finish": "search.finish.finish",
        "Recipe": "search.finish.recipe",
        "load": "search.finish.recipe",
        "TrialTest": "search.finish.trial_test",
    },
)
