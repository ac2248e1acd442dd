"""``python -m benchmarks.trial_pruning [--quick] [--json FILE]``"""

from benchmarks import harness
from benchmarks.trial_pruning.claims import measure

if __name__ == "__main__":
    harness.main("trial_pruning", measure)
