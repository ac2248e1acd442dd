"""How a candidate changes: mutation, crossover, criteria, initialisation, selection, repair."""
