"""BM25 (Robertson and Zaragoza 2009 [P]): what words alone find."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer

K1, B = 1.2, 0.75


def bm25_ranks(firsts: Sequence[str], rests: Sequence[str]) -> np.ndarray:
    """Return at which place each text finds the rest of the same number, from 1 on, int64 ``(texts,)``."""
    words = CountVectorizer(token_pattern=r"[A-Za-z0-9]+")
    counts = words.fit_transform(rests).astype(float)
    lengths, present = np.asarray(counts.sum(1)).ravel(), np.asarray((counts > 0).sum(0)).ravel()
    rarity = np.log1p((len(rests) - present + 0.5) / (present + 0.5))
    dampening = K1 * (1 - B + B * lengths / lengths.mean())
    weights = counts.tocoo()
    weights.data *= (K1 + 1) / (weights.data + dampening[weights.row]) * rarity[weights.col]
    scores = (words.transform(firsts) @ weights.tocsr().T).toarray()
    own = scores.diagonal()[:, None]
    # those that are level share their places
    return 1 + np.rint((scores > own).sum(1) + ((scores == own).sum(1) - 1) / 2).astype(np.int64)
