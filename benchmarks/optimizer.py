"""Our trust-region Bayesian optimization beside BoTorch's and other methods, in one process.

    python -m benchmarks.optimizer --out benchmarks/results/optimizer.json [--seeds 10] [--bto DIR]

Test functions in 20 and 100 dimensions with the optimum at random places, and, where its folder is
given, the averaged image of BaTiO3 with nothing profiled (22 parameters, the paper's evaluation):
best value after 200, 400 and 704 evaluations in batches of 8, and seconds of a warm step. Each
finished run is written at once and not repeated, so the benchmark can be stopped and continued.
BoTorch (extra `bench`; 20 dimensions only) runs its TuRBO with Thompson sampling and learned noise
(its tutorial, the stronger on test functions) and with the paper's qUCB (beta 0.25, noise 0.05).
Run it on one core (`taskset -c 0`) so that all use as many threads.
"""

import argparse
import itertools
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.problems import TEST_FUNCTIONS, Objective, bto_evaluator, moved
from benchmarks.versions import versions
from qhrtem_jax.bayesopt.turbo import Turbo, TurboOptions

MARKS = (200, 400, 704)
BATCH = 8
D = 20
MANY = 100
"""Dimensions in which only methods are compared whose steps stay short."""


def ours(
    objective: Objective, d: int, seed: int, options: TurboOptions, residuals=None, outputs: int = 0
) -> dict:
    """One run of ours; the steps are timed without the objective."""
    turbo = Turbo(d, BATCH, MARKS[-1], outputs, options)
    key = jax.random.key(seed)
    state = turbo.init(jax.random.fold_in(key, 2**20))
    seconds, best = [], []
    for k in range(turbo.capacity // BATCH):
        drawn = bool(state.design_left > 0)  # from a design, without a model
        start = time.perf_counter()
        points, state = turbo.ask(state, jax.random.fold_in(key, k))
        points.block_until_ready()
        spent = time.perf_counter() - start
        found = objective(np.asarray(points)) if residuals is None else residuals(points)
        values, extra = (found, None) if residuals is None else (found[0], found[1])
        start = time.perf_counter()
        state, info = turbo.tell(state, points, jnp.asarray(values), extra if outputs else None)
        best.append(float(info.best_value))
        seconds.append(np.nan if drawn else spent + time.perf_counter() - start)
    counts = BATCH * np.arange(len(seconds))
    return summary(np.repeat(best, BATCH), seconds, counts)


def botorch(objective: Objective, d: int, seed: int, acquisition: str) -> dict:
    """One run of BoTorch's TuRBO; `failed` where BoTorch gives up fitting its model."""
    import torch
    from botorch.exceptions.errors import ModelFittingError

    from benchmarks.peers.botorch_turbo import Options, minimise

    torch.set_num_threads(1)
    try:
        found = minimise(objective, d, MARKS[-1], BATCH, seed, Options(acquisition=acquisition))
    except ModelFittingError as error:
        return {"failed": str(error)}
    return summary(np.asarray(found["best_so_far"]), found["seconds"], found["trained_on"])


def other(best: np.ndarray) -> dict:
    """One run of a method whose steps cost next to nothing."""
    return {"best": {str(mark): float(best[mark - 1]) for mark in MARKS}}


def summary(best: np.ndarray, seconds: list[float], counts: np.ndarray) -> dict:
    """Best values at the marks, and the median time of the seven steps nearest to 300 and 700."""

    def near(n: int) -> float:
        modelled = np.isfinite(seconds)
        order = np.argsort(np.where(modelled, np.abs(np.asarray(counts) - n), np.inf))[:7]
        return float(np.median(np.asarray(seconds)[order]))

    return {
        "best": {str(mark): float(best[mark - 1]) for mark in MARKS},
        "step_s_n300": near(300),
        "step_s_n700": near(700),
    }


OURS = {
    "ours, qUCB": TurboOptions(),
    "ours, log qUCB": TurboOptions(output="log"),
    "ours, log Thompson": TurboOptions(acquisition="thompson", output="log"),
    "ours, qUCB, local": TurboOptions(local_lengthscales=True),
    "ours, log qUCB, local": TurboOptions(output="log", local_lengthscales=True),
}
"""The library's defaults; two that model the logarithm, as the stages do with an MSE; two whose
length scales follow the trust region (AdaScale-TuRBO)."""


def runs(seed: int, bto: Path | None, peers: tuple[str, ...], bto_peers: tuple[str, ...]):
    """(problem, optimizer, function that runs it) of one seed."""
    from benchmarks.peers import gradients_and_evolution as peer_methods

    for name, d in itertools.product(TEST_FUNCTIONS, (D, MANY)):
        problem, objective = name if d == D else f"{name}, d = {d}", moved(name, d, seed)
        for label, options in OURS.items():
            yield problem, label, lambda f=objective, d=d, o=options: ours(f, d, seed, o)
        for label, method in (
            ("CMA-ES", peer_methods.evolution),
            ("L-BFGS-B, starts", peer_methods.descents),
        ):
            yield (
                problem,
                label,
                lambda f=objective, d=d, m=method: other(m(f, d, MARKS[-1], seed)),
            )
        for peer in peers if d == D else ():
            yield problem, f"BoTorch, {peer}", lambda f=objective, p=peer: botorch(f, D, seed, p)
    if bto is None:
        return
    d, evaluate = bto_evaluator(bto, ())

    def mse(points: np.ndarray) -> np.ndarray:
        # a relaxed thickness is rounded by the simulator
        return np.asarray(evaluate(jnp.asarray(points))[0], dtype=float)

    outputs = evaluate(jnp.full((BATCH, d), 0.5))[1].shape[1]
    composite = TurboOptions(acquisition="thompson", surrogate="composite")
    problem = "BaTiO3, nothing profiled"
    for label in ("ours, qUCB", "ours, log qUCB", "ours, qUCB, local", "ours, log qUCB, local"):
        yield problem, label, lambda o=OURS[label]: ours(mse, d, seed, o)
    yield (
        problem,
        "ours, composite",
        lambda: ours(mse, d, seed, composite, lambda p: evaluate(p)[:2], outputs),
    )
    residuals, jacobian = smooth(evaluate)
    yield (
        problem,
        "least squares, starts",
        lambda: other(peer_methods.least_squares(residuals, jacobian, d, MARKS[-1], seed)),
    )
    yield problem, "CMA-ES", lambda: other(peer_methods.evolution(mse, d, MARKS[-1], seed))
    for peer in bto_peers:
        yield problem, f"BoTorch, {peer}", lambda p=peer: botorch(mse, d, seed, p)


def smooth(evaluate):
    """(residuals of one point, their Jacobian) of an evaluator, for SciPy."""

    @jax.jit
    def residuals(u: jax.Array) -> jax.Array:
        return evaluate(u[None])[1][0]

    jacobian = jax.jit(jax.jacfwd(residuals))
    return (
        lambda u: np.asarray(residuals(jnp.asarray(u)), dtype=float),
        lambda u: np.asarray(jacobian(jnp.asarray(u)), dtype=float),
    )


def table(content: dict) -> str:
    """Medians over the seeds, problem by problem, with the ratio of the steps."""
    lines = []
    for problem, optimizers in content["runs"].items():
        lines += ["", problem, f"{'':22} seeds  " + "".join(f"{m:>12}" for m in MARKS)]
        lines[-1] += "   step n=300   step n=700"
        for label, by_seed in optimizers.items():
            rows = [row for row in by_seed.values() if "best" in row]
            failed = len(by_seed) - len(rows)
            if not rows:
                lines.append(f"{label:22} no run finished")
                continue
            medians = [np.median([r["best"][str(m)] for r in rows]) for m in MARKS]
            numbers = "".join(f"{m:12.5g}" for m in medians)
            timed = [k for k in ("step_s_n300", "step_s_n700") if k in rows[0]]
            times = "".join(f"{np.median([r[k] for r in rows]):11.3f} s" for k in timed)
            gave_up = f"   {failed} failed, not in the medians" if failed else ""
            lines.append(f"{label:22} {len(rows):5d}  {numbers}{times}{gave_up}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--bto", type=Path, help="folder of the BaTiO3 images")
    parser.add_argument("--peers", nargs="*", default=["ts"], help="on the test functions")
    parser.add_argument("--bto-peers", nargs="*", default=["qucb"], help="on the image")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    content = {"versions": versions(), "date": time.strftime("%Y-%m-%d"), "runs": {}}
    machine = {k: content["versions"][k] for k in ("processor", "cores")}
    if options.out.is_file():
        content["runs"] = json.loads(options.out.read_text())["runs"]
    for seed in range(options.seeds):
        for problem, label, run in runs(
            seed, options.bto, tuple(options.peers), tuple(options.bto_peers)
        ):
            done = content["runs"].setdefault(problem, {}).setdefault(label, {})
            if str(seed) in done:
                continue
            done[str(seed)] = run() | {"date": content["date"], "machine": machine}
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            print(f"seed {seed}, {problem}, {label}: {done[str(seed)]}", flush=True)
    print(table(content))


if __name__ == "__main__":
    main()
