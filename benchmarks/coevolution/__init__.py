"""Coevolution of encoders and decoders: the published experiment again, what explains its numbers, and
controls for ours.
"""
