"""Models that nobody here wrote, as their libraries give them: what can be pruned, and is it right?"""
