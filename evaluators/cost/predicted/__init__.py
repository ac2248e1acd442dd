"""Latency by arithmetic: what a runtime does is measured operation by operation at some widths, once."""
