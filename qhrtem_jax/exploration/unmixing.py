"""What windows are mixtures of: linear unmixing, by name."""

import warnings
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

Descriptors = Float[np.ndarray, "n features"]
Shares = Float[np.ndarray, "n components"]

ITERATIONS = 500


def nmf(descriptors: Descriptors, components: int, seed: int) -> Shares:
    """Non-negative matrix factorisation (scikit-learn, coordinate descent from NNDSVD)."""
    from sklearn.decomposition import NMF
    from sklearn.exceptions import ConvergenceWarning

    model = NMF(
        components,  # type: ignore[arg-type]
        init="nndsvda",
        max_iter=ITERATIONS,
        tol=1e-3,
        random_state=seed,
    )
    with warnings.catch_warnings():  # the last digits of the shares do not matter
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = model.fit_transform(np.maximum(descriptors, 0.0))
    return np.asarray(found, dtype=float)


def pca(descriptors: Descriptors, components: int, seed: int) -> Shares:
    """Principal components (scikit-learn)."""
    from sklearn.decomposition import PCA

    model = PCA(components, svd_solver="randomized", random_state=seed)
    return np.asarray(model.fit_transform(descriptors), dtype=float)


def nfindr(descriptors: Descriptors, components: int, seed: int) -> Shares:
    """Shares of the purest windows in all others: those that span the simplex of the largest volume
    (N-FINDR; Winter, Proc. SPIE 3753, 266, 1999); by non-negative least squares, adding up to 1."""
    from scipy.optimize import nnls

    reduced = pca(descriptors, components - 1, seed)
    corners = _largest_simplex(reduced, components, seed)
    pure = descriptors[corners]
    one = 10.0 * np.abs(pure).max()  # weighs the sum against the features
    system = np.concatenate([pure, np.full((components, 1), one)], axis=1).T
    return np.array([nnls(system, np.append(row, one))[0] for row in descriptors])


def _largest_simplex(reduced: Float[np.ndarray, "n d"], corners: int, seed: int) -> list[int]:
    """Indices of points whose simplex no exchange of one of them makes larger."""
    rng = np.random.default_rng(seed)
    chosen = list(rng.choice(len(reduced), corners, replace=False))
    lifted = np.concatenate([np.ones((len(reduced), 1)), reduced], axis=1)
    for _ in range(3 * corners):
        before = list(chosen)
        for k in range(corners):
            # the volume is linear in one corner: its cofactors give it for all points at once
            rest = np.delete(lifted[chosen], k, axis=0)
            _, _, axes = np.linalg.svd(rest)
            chosen[k] = int(np.argmax(np.abs(lifted @ axes[-1])))
        if chosen == before:
            break
    return chosen


UNMIXING: dict[str, Callable[[Descriptors, int, int], Shares]] = {
    "nmf": nmf,
    "pca": pca,
    "nfindr": nfindr,
}
"""From (descriptors, number of components, seed) to the share of each component in each window."""
