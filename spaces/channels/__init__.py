"""Channel masks: trace a model, couple its channels, slice it."""

from spaces.channels.plan import SlicePlan
from spaces.channels.space import ChannelSpace

__all__ = ["ChannelSpace", "SlicePlan"]
