"""The old place of :mod:`spaces.calling`."""

from spaces.calling import device_of, forward

__all__ = ["device_of", "forward"]
