"""Two directions as one score: what noising misses denoising sees, and the other way round."""

import numpy as np


def larger(noising: np.ndarray, denoising: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Of each edge (or node) the values of the direction whose mean over prompts is larger in size, [edge, prompt].

    The notes keep both means [edge] and ``conflict`` [edge]: whether they have opposite signs and both are at least a tenth
    of the larger (an exclusive or, a head that does opposite things in the two runs).
    """
    means = np.stack([noising.mean(1), denoising.mean(1)])
    size = np.abs(means)
    values = np.where((size[0] >= size[1])[:, None], noising, denoising)
    conflict = (means[0] * means[1] < 0) & (size.min(0) >= 0.1 * size.max(0))
    return values, {"noising": means[0], "denoising": means[1], "conflict": conflict}
