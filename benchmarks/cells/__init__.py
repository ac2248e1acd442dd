"""Rules that stop a search of cells early: what they cost, and what they find."""
