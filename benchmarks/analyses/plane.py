"""Vectors on a plane: one t-SNE of several sets of them, so that they can be seen side by side."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from sklearn.manifold import TSNE
from torch import Tensor


def plane(*parts: Float[Tensor, "_ D"]) -> list[Float[np.ndarray, "_ 2"]]:
    """Places of the vectors of each part, by cosine."""
    arrays = [part.float().cpu().numpy() for part in parts]
    every = np.concatenate(arrays)
    map_ = TSNE(metric="cosine", init="pca", perplexity=min(30.0, (len(every) - 1) / 3), random_state=0)
    return np.split(map_.fit_transform(every), np.cumsum([len(array) for array in arrays[:-1]]))
