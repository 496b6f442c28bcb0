"""What a run costs: wall time, and how much of it was compilation."""

import dataclasses
import time

import jax

_COMPILE_EVENT = "/jax/core/compile/backend_compile_duration"


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a run took: an evaluation is one propagation of one parameter vector, a gradient
    evaluation one Jacobian of the simulator. Of a run that went on where an interrupted one had
    stopped, evaluations and `wall_s` are those of both."""

    evaluations: int
    gradient_evaluations: int
    wall_s: float
    compile_s: float


class Stopwatch:
    """Seconds since its creation, and the seconds of these that XLA spent compiling."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._compile = 0.0
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, duration_secs: float, **_: str | int) -> None:
        if event == _COMPILE_EVENT:
            self._compile += duration_secs

    def stop(self) -> None:
        """Stop counting compilation."""
        jax.monitoring.unregister_event_duration_listener(self._listen)

    @property
    def wall_s(self) -> float:
        return round(time.perf_counter() - self._start, 3)

    @property
    def compile_s(self) -> float:
        return round(self._compile, 3)
