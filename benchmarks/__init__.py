"""One module per claim, run as ``python -m benchmarks.NAME [--quick] [--json FILE]``."""
