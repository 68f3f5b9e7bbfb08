"""Who has what: the users and items of the training part as a sparse matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from data_prep.corpus import Corpus


def ownership(corpus: Corpus) -> Any:
    """`[U, I]` sparse: 1 where a user's training part has the item, however often."""
    training = corpus.in_training()
    pairs = (corpus.user_index()[training], corpus.flat[training])
    owned = sparse.csr_array((np.ones(len(pairs[0])), pairs), shape=(corpus.users, corpus.items + 1))
    owned.data[:] = 1
    return owned
