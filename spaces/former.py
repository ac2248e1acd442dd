"""Where modules and classes were when runs and recipes of format 1 were written.

Old paths can be imported for one version, with a DeprecationWarning; recipes, configurations and ledgers that
name them are read for good.
"""

MODULES: dict[str, str] = {}
"""Module of then -> module that has all of its classes today."""

CLASSES: dict[str, str] = {}
"""``module.Class`` of then -> ``module.Class`` today, where that class was renamed or moved alone."""
