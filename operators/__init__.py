"""How a candidate changes: mutation, crossover, criteria, initialisation, selection, repair."""

import spaces  # noqa: F401  modules that moved can be found from here on
