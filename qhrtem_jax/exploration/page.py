"""The page of an explore run."""

from qhrtem_jax.exploration.drawings import draw_maps, draw_progress, draw_steps, draw_target
from qhrtem_jax.exploration.result import ExplorationResult
from qhrtem_jax.reporting.page import Drawing, Page, Table


def page(result: ExplorationResult) -> Page:
    """The target, and how it was explored."""
    known = result.explore
    last = known.steps[-1]
    where = f"strongest at x {known.strongest.x_px}, y {known.strongest.y_px} pixels"
    share = "" if last.found is None else f", {100 * last.found:.0f} % of the truth found"
    like = "" if last.ssim is None else f", SSIM {last.ssim:.2f}"
    said = f"{last.points} points{share}{like}, a way of {last.way_px:.0f} pixels"
    head = ["points", "SSIM", "standard deviation", "share found", "way (pixels)"]

    def text(value: float | None) -> str:
        return "" if value is None else f"{value:.3f}"

    return Page(
        "Exploration",
        f"{known.workflow}, {known.acquisition}, {known.kernel}: map {known.component}, "
        f"{known.why}; {where}. {said[0].upper()}{said[1:]}.",
        (
            Drawing(
                "target",
                "What is unusual, and where the beam went",
                lambda p: draw_target(p, result),
            ),
            Drawing("steps", "What was known on the way", lambda p: draw_steps(p, result)),
            Drawing("progress", "Each step", lambda p: draw_progress(p, result)),
            Drawing(
                "maps", "The maps that the target was chosen from", lambda p: draw_maps(p, result)
            ),
        ),
        (
            Table(
                "Steps",
                head,
                [
                    [
                        str(step.points),
                        text(step.ssim),
                        text(step.uncertainty),
                        text(step.found),
                        f"{step.way_px:.0f}",
                    ]
                    for step in known.steps
                ],
            ),
        ),
        said=(where, said),
    )
