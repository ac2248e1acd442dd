"""``python -m benchmarks.cells [--quick] [--json FILE]``"""

from benchmarks import harness
from benchmarks.cells.claims import measure

if __name__ == "__main__":
    harness.main("cells", measure)
