"""Fronts after training, ours against pruning, training from scratch and search, at equal MACs of
training.
"""
