"""WHAT can vary: channels, choices, cells, joint spaces."""

from typing import TYPE_CHECKING

from spaces.lazy import lazily
from spaces.names import find_former_modules

if TYPE_CHECKING:
    from spaces.base import Masked, Segment, Sliced, Space, Trained
    from spaces.cells import CellSpace, SupernetSpace
    from spaces.channels import ChannelSpace
    from spaces.choices import Categorical, Choice, ChoiceSpace, Float, HyperParameters, Integer
    from spaces.errors import InputError
    from spaces.joint import JointSpace, Part
    from spaces.pairs.mixed import MixedPairs, Pairs
    from spaces.pairs.pair import Pair, VariationalPair
    from spaces.pairs.space import PairSpace
    from spaces.trials import TrialSpace

__all__ = [
    "Categorical",
    "CellSpace",
    "ChannelSpace",
    "Choice",
    "ChoiceSpace",
    "Float",
    "HyperParameters",
    "InputError",
    "Integer",
    "JointSpace",
    "Masked",
    "MixedPairs",
    "Pair",
    "PairSpace",
    "Pairs",
    "Part",
    "Segment",
    "Sliced",
    "Space",
    "SupernetSpace",
    "Trained",
    "TrialSpace",
    "VariationalPair",
]

# A name is imported when it is first used: what needs none of them, as the process of the Optuna view, does
# without torch.
_HOMES = {
    "Categorical": "spaces.choices",
    "CellSpace": "spaces.cells",
    "ChannelSpace": "spaces.channels",
    "Choice": "spaces.choices",
    "ChoiceSpace": "spaces.choices",
    "Float": "spaces.choices",
    "HyperParameters": "spaces.choices",
    "InputError": "spaces.errors",
    "Integer": "spaces.choices",
    "JointSpace": "spaces.joint",
    "Masked": "spaces.base",
    "MixedPairs": "spaces.pairs.mixed",
    "Pair": "spaces.pairs.pair",
    "PairSpace": "spaces.pairs.space",
    "Pairs": "spaces.pairs.mixed",
    "Part": "spaces.joint",
    "Segment": "spaces.base",
    "Sliced": "spaces.base",
    "Space": "spaces.base",
    "SupernetSpace": "spaces.cells",
    "Trained": "spaces.base",
    "TrialSpace": "spaces.trials",
    "VariationalPair": "spaces.pairs.pair",
}

__getattr__ = lazily(__name__, _HOMES)
find_former_modules()
