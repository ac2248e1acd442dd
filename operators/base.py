"""How a candidate changes: what every operator shares."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

Guide = Mapping[str, np.ndarray]
"""Scores and statistics per locus that the strategy holds: name -> ``(length,)`` for the whole space, or
``(n, length)`` for the batch.

``activation`` is the mean absolute activation that each channel's group had when the parent was evaluated
(NaN where it was not kept); ``base_activation`` is the same of the base model; ``magnitude``, ``taylor``, ...
are criteria of the base model. Higher always means keep.
"""
