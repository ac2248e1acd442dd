"""How far predicted latency is off measured latency."""
