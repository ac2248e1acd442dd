"""``python -m benchmarks.tables [--quick] [--json FILE]``: records what is missing, says what it shows."""

from benchmarks import harness
from benchmarks.tables.claims import measure

if __name__ == "__main__":
    harness.main("tables", measure)
