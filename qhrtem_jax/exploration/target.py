"""Turns an image into a map of what is looked for, by each of the workflows."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.cluster.vq import kmeans2
from scipy.spatial import KDTree

from qhrtem_jax.exploration.problem import (
    CONTENT,
    ExplorationProblem,
    few_columns,
    unlike_training,
)
from qhrtem_jax.exploration.selection import Chosen, by_number, by_reference, most_anomalous
from qhrtem_jax.exploration.settings import ATOMS_RVAE, FFT_NMF
from qhrtem_jax.exploration.unmixing import UNMIXING
from qhrtem_jax.exploration.windows import magnitudes, patches, standardised
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.io.seal import Arrays
from qhrtem_jax.physics.columns import columns_of

SHIFT = 0.02
"""Standard deviation of the shift of windows around columns, in units of their side."""

MOST_SIDE = 48
"""Pixels along a side of the windows that a network sees; larger ones are binned."""

MOST_EXAMPLES = 4096
"""Windows that a network is trained on."""

FEWEST = 8
"""Columns that an image has to show."""

COMPONENTS = 8
"""Principal components of patches by which kinds of columns are told apart."""

RARE = 0.3
"""Kinds of columns are at least so often there as if all were as frequent."""

NEAREST = 4
"""Columns that say what is at a place from which none is within half a window."""


@dataclasses.dataclass(frozen=True)
class Columns:
    """Columns that were found: (row, col) in pixels, and how sure each is."""

    places: Float[np.ndarray, "n 2"]
    sure: Float[np.ndarray, " n"]


@dataclasses.dataclass(frozen=True)
class Target:
    """The map that is looked at, on the grid of the windows, all maps that it was chosen from, the
    columns that were found for it (None: none were looked for), and what is doubtful."""

    chosen: Chosen
    maps: Float[np.ndarray, "n grid_rows grid_cols"]
    columns: Columns | None
    remarks: tuple[str, ...]


def make_target(problem: ExplorationProblem, journal: Journal) -> Target:
    """The map of a workflow.

    **Raises:** `InputError` where the image does not show what the workflow looks at.
    """
    options = problem.settings.explore
    columns, remarks = None, ()
    if options.workflow == ATOMS_RVAE:
        columns, remarks = _columns(problem, journal)
        maps = _by_columns(problem, columns, journal)
    else:
        windows = problem.windows
        seen = magnitudes(patches(problem.image, windows.centres, windows.side))
        if options.workflow == FFT_NMF:
            flat = seen.reshape(len(seen), -1)
            unmix = UNMIXING[options.unmixing]
            maps = unmix(flat, options.components, problem.settings.seed).T
        else:
            maps = _latents(problem, np.log1p(seen), 0.0, journal)
        maps = maps.reshape(-1, *windows.shape)
    inside = problem.reference
    if inside is not None:
        chosen = by_reference(maps, inside)
    elif options.component is not None:
        chosen = by_number(maps, options.component)
    else:
        chosen = most_anomalous(maps)
    return Target(chosen, maps, columns, remarks)


def _latents(
    problem: ExplorationProblem,
    windows: Float[np.ndarray, "n side side"],
    shift: float,
    journal: Journal,
) -> Float[np.ndarray, "k n"]:
    """Latent numbers of windows; `shift` as `SHIFT`."""
    from flax import nnx

    from qhrtem_jax.exploration.autoencoder import RotationalAutoencoder, evidence, latent_maps
    from qhrtem_jax.exploration.training import Schedule, train

    settings = problem.settings
    binned = standardised(_binned(windows)).astype(np.float32)
    shift_px = shift * binned.shape[1]
    network = RotationalAutoencoder(binned.mean(axis=0), CONTENT, shift_px, nnx.Rngs(settings.seed))
    kept = "autoencoder"
    some = np.random.default_rng(settings.seed).permutation(len(binned))[:MOST_EXAMPLES]
    trained = train(
        network,
        evidence,
        (binned[some],),
        Schedule(settings.explore.epochs, seed=settings.seed),
        journal.tick("training of the autoencoder", "epochs"),
        _saved(problem, journal, kept),
        lambda arrays: _keep(journal, kept, arrays),
    )
    return latent_maps(trained, binned)  # type: ignore[arg-type]


def _binned(windows: Float[np.ndarray, "n side side"]) -> Float[np.ndarray, "n less less"]:
    """Windows of at most `MOST_SIDE` pixels a side, their middle within a pixel of the middle."""
    side = windows.shape[1]
    factor = -(-side // MOST_SIDE)
    less = side // factor
    cut = (side - less * factor) // 2
    part = windows[:, cut : cut + less * factor, cut : cut + less * factor]
    return part.reshape(-1, less, factor, less, factor).mean(axis=(2, 4))


def _columns(problem: ExplorationProblem, journal: Journal) -> tuple[Columns, tuple[str, ...]]:
    """(the columns that a network trained for the crystal finds, what is doubtful about them)."""
    from flax import nnx

    from qhrtem_jax.exploration.atom_finder import (
        UNet,
        cross_entropy,
        find_columns,
        sureness,
        unlike,
    )
    from qhrtem_jax.exploration.simulated import training_images
    from qhrtem_jax.exploration.training import UNSEEN, Schedule, train

    settings, known = problem.settings, problem.simulated
    assert known is not None
    journal.note("simulating training images")
    examples = training_images(
        settings,
        known.space,
        known.crystal,
        known.microscope,
        known.sampling_nm,
        settings.explore.training_images,
    )
    journal.count(evaluations=len(examples.images))
    kept = "atom_finder"
    seen = round((1.0 - UNSEEN) * len(examples.images))
    trained = train(
        UNet(nnx.Rngs(settings.seed)),
        cross_entropy,
        (examples.images[:seen], examples.maps[:seen]),
        Schedule(settings.explore.epochs, batch=16, seed=settings.seed),
        journal.tick("training of the atom finder", "epochs"),
        _saved(problem, journal, kept),
        lambda arrays: _keep(journal, kept, arrays),
    )
    assert isinstance(trained, UNet)
    found = find_columns(trained, problem.image, examples.radius_px)
    others = [
        sureness(find_columns(trained, image, examples.radius_px))
        for image in np.asarray(examples.images[seen:], float)
    ]
    known_inside = _inside(problem, found.places)
    if known_inside.sum() < FEWEST:
        raise few_columns(int(known_inside.sum()), FEWEST)
    why = unlike(found, np.array(others), examples.spacings)
    return Columns(found.places, found.sure), () if why is None else (unlike_training(why),)


def _by_columns(
    problem: ExplorationProblem, columns: Columns, journal: Journal
) -> Float[np.ndarray, "k grid_rows grid_cols"]:
    """Latent numbers of the patches around columns, averaged within each window."""
    windows, image = problem.windows, problem.image
    half = windows.side // 2
    at = np.rint(columns.places[_inside(problem, columns.places)]).astype(int)
    squares = patches(image, at, windows.side)
    assert problem.simulated is not None
    cell = columns_of(problem.simulated.crystal)
    made_of = {
        frozenset(c.symbol for c in cell.chains if c.column == k) for k in range(len(cell.xy))
    }
    kinds = _kinds(squares, len(made_of), problem.settings.seed)
    latents = _latents(problem, squares, SHIFT, journal)
    for kind in np.unique(kinds):  # what differs between kinds of columns is no anomaly
        mine = kinds == kind
        latents[:, mine] -= np.median(latents[:, mine], axis=1, keepdims=True)
    tree = KDTree(at)
    _, nearest = tree.query(windows.centres, k=NEAREST, p=np.inf)
    near = tree.query_ball_point(windows.centres, half, p=np.inf)
    means = [
        latents[:, mine or list(others)].mean(axis=1)
        for mine, others in zip(near, np.asarray(nearest), strict=True)
    ]
    return np.array(means).T.reshape(-1, *windows.shape)


def _inside(
    problem: ExplorationProblem, places: Float[np.ndarray, "n 2"]
) -> Bool[np.ndarray, " n"]:
    """Whether the patch around a place lies in the image."""
    half, at = problem.windows.side // 2 + 1, np.rint(places)
    return np.all((at >= half) & (at < np.array(problem.image.shape) - half), axis=1)


def _kinds(
    squares: Float[np.ndarray, "n side side"], kinds: int, seed: int
) -> Int[np.ndarray, " n"]:
    """Which kind of column each patch is of, by k-means of their principal components; what is too
    rare to be a kind of the crystal belongs to the nearest that is."""
    flat = _binned(squares).reshape(len(squares), -1)
    flat = flat - flat.mean(axis=0)
    _, axes = np.linalg.eigh(flat.T @ flat)
    axes = axes.T[::-1]
    reduced = flat @ axes[:COMPONENTS].T
    centres, labels = kmeans2(reduced, kinds, minit="++", rng=np.random.default_rng(seed))
    often = np.bincount(labels, minlength=kinds) >= RARE / kinds * len(labels)
    away = np.linalg.norm(reduced[:, None] - centres[often], axis=2)
    return np.argmin(away, axis=1)


def _saved(problem: ExplorationProblem, journal: Journal, name: str) -> Arrays | None:
    """Where an interrupted training of a network stood."""
    saved = journal.folder.read_checkpoint() if problem.settings.resume else None
    if saved is None or f"{name}_standing" not in saved:
        return None
    head = f"{name}_"
    return {k.removeprefix(head): v for k, v in saved.items() if k.startswith(head)}


def _keep(journal: Journal, name: str, arrays: Arrays) -> None:
    """Keep where the training of a network stands beside what is kept of others."""
    others = journal.folder.read_checkpoint() or {}
    others = {k: v for k, v in others.items() if not k.startswith(f"{name}_")}
    journal.folder.write_checkpoint(others | {f"{name}_{k}": v for k, v in arrays.items()})
