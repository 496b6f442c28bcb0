"""Are the trends of a field what they say? Wedges whose titanium moves by so much a row.

    python -m benchmarks.references.make_wedges --out runs/wedges.npz --seed 21 --count 10
    python -m benchmarks.trends --wedges runs/wedges.npz --out RUNS [--result JSON]

Another program simulated the wedges, two in ten of which the model does not know quite. Each is
refined from its true numbers of atoms and imaging parameters and its noisy image, from columns at
their ideal places. Of the lines over the distance from the edge: how often the 95 % interval of the
slope holds the true one (of titanium against oxygen: what the wedge was made with; of layers and
rumpling, that follows), and how the errors of single values compare with what was missed.
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from scipy.stats import t as student

from benchmarks.problems import write_specimen
from benchmarks.versions import versions
from qhrtem_jax.field.joint import again
from qhrtem_jax.field.model import FieldModel, JointState, field_model
from qhrtem_jax.field.simulate import cut, first_state, image, snapped
from qhrtem_jax.field.sweep import fixed
from qhrtem_jax.field.trends import quantities, trends
from qhrtem_jax.inputs.reader import Reader
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.regions.model import RegionState, regions_model
from qhrtem_jax.stages import STAGES, run_settings
from tests.truth import chain_order, column_order

SWEEPS = 3
REGIONS = 9


def known_field(content: Any, index: int, out: Path) -> tuple[FieldModel, JointState, Journal]:
    """The field of one wedge with true numbers, heights and imaging parameters."""
    truth = json.loads(str(content["truth"][index]))
    cell, camera = write_specimen(out, content)
    np.save(out / f"wedge{index}.npy", content["noisy"][index])
    handed = {"parameters": {n: {"value": v} for n, v in truth["parameters"].items()}}
    (out / f"imaging{index}.json").write_text(json.dumps(handed), encoding="utf-8")
    settings = run_settings(
        {
            "stage": "stitch",
            "data": {
                "image": str(out / f"wedge{index}.npy"),
                "sampling_nm": float(content["sampling_nm"]),
                "mtf": str(camera),
                "roi_shape": [45, 64],
                "rois": [roi["origin_px"] for roi in truth["rois"]],
                "noise_variance": truth["noise_variance"],
                "noise_correlation": content["noise_correlation"].tolist(),
            },
            "specimen": {"structure": str(cell), "scattering": "lobato", "max_cells": 8},
            "microscope": {"aberration_convention": "drprobe"},
            "imaging": {"result": str(out / f"imaging{index}.json")},
        }
    )
    problem = STAGES["stitch"].prepare(settings, Reader())
    journal = Journal(RunFolder(out / f"run{index}"), lambda progress: None)
    fit = regions_model(problem.regions, problem.regions.imaging, journal.engine)
    order = chain_order(fit.columns, truth["column_order"])
    points = np.tile(
        fit.layout.point(
            fit.vector,
            np.zeros((fit.layout.columns, 2)),
            np.zeros(fit.layout.chains),
            np.ones(fit.layout.chains),
        ),
        (len(truth["rois"]), 1),
    )
    for point, roi in zip(points, truth["rois"], strict=True):
        surplus = fit.sites.stack - roi["exit_slice"] + roi["entrance_slice"]
        point[INDEX["C1"]] = roi["C1_roi"] - surplus * truth["slice_nm"]
        point[fit.layout.counts][order] = roi["counts"]
    model = field_model(fit)
    state = first_state(model, RegionState(points, points, fit.first_weights))
    state = dataclasses.replace(state, settled=True, points=snapped(model, state))
    return model, state, journal


def measured(content: Any, index: int, out: Path) -> dict[str, Any]:
    """Of one wedge: its trends over the distance from the edge, and what they truly are."""
    truth = json.loads(str(content["truth"][index]))
    model, state, journal = known_field(content, index, out)
    state = again(model, state, journal, "trends", fixed(state, whole=True), SWEEPS)
    thickness = np.array([roi["exit_slice"] - roi["entrance_slice"] for roi in truth["rois"]])
    simulations = cut(model, image(model, state, journal))
    found = trends(model, state, thickness * truth["slice_nm"], simulations)
    shifts = np.zeros((len(truth["rois"]), len(model.columns.xy), 2))
    order = column_order(model.columns, truth["position_order"])
    shifts[:, order] = [roi["shift_pm"] for roi in truth["rois"]]
    titanium = sorted({c.column for c in model.columns.chains if c.symbol == "Ti"})
    made = -truth["displaced_pm"] / model.columns.size_nm[1]
    lines = []
    for trend in found:
        (quantity,) = (q for q in quantities(model.columns) if q.name == trend.quantity)
        line = trend.over_edge
        assert line is not None
        true = shifts[:, :, quantity.axis] @ quantity.weights
        off = np.array(trend.values_pm) - true
        lines.append(
            {
                "quantity": trend.quantity,
                "slope_pm_per_nm": line.slope_pm_per_nm,
                "std": line.std_slope_pm_per_nm,
                "p_value": line.p_value,
                "true": made * quantity.weights[titanium].sum() if quantity.axis == 1 else 0.0,
                "values_missed_sigmas": (off / np.array(trend.std_pm, dtype=float)).tolist(),
                "values_missed_pm": float(np.sqrt(np.mean(off**2))),
            }
        )
    return {"kind": truth["kind"], "lines": lines}


def summary(wedges: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Of each quantity, over some wedges: share of the intervals that hold the true slope, rms of
    the slopes' and of the values' errors in units of what they say, rms of the values' errors."""
    within = student.ppf(0.975, REGIONS - 2)
    table = {}
    for name in [line["quantity"] for line in wedges[0]["lines"]]:
        lines = [li for wedge in wedges for li in wedge["lines"] if li["quantity"] == name]
        off = np.array([(li["slope_pm_per_nm"] - li["true"]) / li["std"] for li in lines])
        sigmas = np.concatenate([li["values_missed_sigmas"] for li in lines])
        table[name] = {
            "held": float(np.mean(np.abs(off) < within)),
            "slope_sigmas": float(np.sqrt(np.mean(off**2))),
            "value_sigmas": float(np.sqrt(np.mean(sigmas**2))),
            "value_pm": float(np.sqrt(np.mean([li["values_missed_pm"] ** 2 for li in lines]))),
        }
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wedges", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--only", type=int, nargs="*", help="some of the wedges")
    parser.add_argument("--result", type=Path, help="JSON to write")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    options.out.mkdir(parents=True, exist_ok=True)
    content, wedges = np.load(options.wedges), []
    for index in options.only or range(len(content["truth"])):
        wedges.append(measured(content, index, options.out.resolve()))
        print(index, json.dumps(wedges[-1]["kind"]), flush=True)
        for line in wedges[-1]["lines"]:
            print("   ", {k: v for k, v in line.items() if k != "values_missed_sigmas"})
    modelled = [wedge for wedge in wedges if wedge["kind"] == "as modelled"]
    found = {"all": summary(wedges)} | ({"as modelled": summary(modelled)} if modelled else {})
    print(json.dumps(found, indent=1))
    if options.result is not None:
        text = json.dumps({"versions": versions(), "wedges": wedges, **found}, indent=1)
        options.result.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
