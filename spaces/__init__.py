"""WHAT can vary: channels, choices, cells, joint spaces."""

from spaces.base import Masked, Segment, Sliced, Space, Trained
from spaces.cells import CellSpace, SupernetSpace
from spaces.channels import ChannelSpace
from spaces.choices import Categorical, Choice, ChoiceSpace, Float, HyperParameters, Integer
from spaces.errors import InputError
from spaces.joint import JointSpace, Part
from spaces.pairs.mixed import MixedPairs, Pairs
from spaces.pairs.space import Pair, PairSpace, VariationalPair
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
