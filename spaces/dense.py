"""The old place of :class:`spaces.models.Dense`."""

from spaces.models import Dense

__all__ = ["Dense"]
