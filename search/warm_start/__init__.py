"""A run that begins with what another one found."""

from search.warm_start.carried_results import CarriedResults
from search.warm_start.from_run import FromRun
from search.warm_start.warm_start import WarmStart

__all__ = ["CarriedResults", "FromRun", "WarmStart"]
