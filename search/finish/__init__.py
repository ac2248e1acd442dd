"""The last stage: members of the front are chosen, fine-tuned, checked, exported and measured."""

from typing import TYPE_CHECKING

from search.lazy import lazily

if TYPE_CHECKING:
    from search.finish.export import Origin
    from search.finish.finish import Finish
    from search.finish.recipe import Recipe, load
    from search.finish.trial_test import Winner

__all__ = ["Finish", "Origin", "Recipe", "Winner", "load"]

__getattr__ = lazily(
    __name__,
    {
        "Origin": "search.finish.export",
        "Finish": "search.finish.finish",
        "Recipe": "search.finish.recipe",
        "load": "search.finish.recipe",
        "Winner": "search.finish.trial_test",
    },
)
