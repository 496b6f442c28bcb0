"""The page of a series."""

from qhrtem_jax.reporting import figures
from qhrtem_jax.reporting.page import Drawing, Page
from qhrtem_jax.reporting.result import merit
from qhrtem_jax.reporting.viewer import Viewer, differences
from qhrtem_jax.series.drawings import events_table, frames_table, some_frames, trajectories
from qhrtem_jax.series.result import SeriesResult


def page(result: SeriesResult) -> Page:
    """Trajectories, frames, what changed."""
    frames, events, arrays = result.frames, result.events, result.arrays
    changed = events_table(events)
    lines = [
        f"{len(frames)} frames, {merit(result.fit)}; the first took {result.pace.first_s:.0f} s, "
        f"then {result.pace.frames_per_s:.3f} frames per second",
        *(
            f"frame {event.frame}: {event.roi}, {event.species} at {event.x:.3f}, {event.y:.3f}: "
            f"{event.change:+d} ({100 * event.probability:.1f} %)"
            for event in sorted(events, key=lambda e: e.frame)
        ),
    ]
    sampling = result.settings.data.sampling
    return Page(
        "A field over time",
        " ".join(f"{line[0].upper()}{line[1:]}." for line in lines),
        (
            Drawing(
                "trajectories",
                "Drift, defocus, thickness and displacements over time; dashed: numbers change",
                lambda path: trajectories(path, frames, events),
            ),
            Drawing(
                "frames",
                "Experiment, simulation, difference of some frames",
                lambda path: some_frames(path, arrays),
            ),
            Drawing(
                "convergence",
                "Convergence",
                lambda path: figures.convergence(path, result.history, result.noise.variance),
            ),
        ),
        (*([] if changed is None else [changed]), frames_table(frames)),
        said=tuple(lines),
        viewer=Viewer(
            differences(arrays["experiment"][-1], arrays["simulation"][-1], result.noise), sampling
        ),
    )
