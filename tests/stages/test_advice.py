"""What a reader is told to do about warnings."""

import ast
from pathlib import Path

import qhrtem_jax
from qhrtem_jax.inputs import advice
from qhrtem_jax.inputs.advice import ADVICE, advice_for, by_consequence

SOURCES = Path(qhrtem_jax.__file__).parent.rglob("*.py")


def test_what_is_advised_about_is_still_said():
    said = [
        node.value
        for path in SOURCES
        if path != Path(advice.__file__)
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    for fragment, todo in ADVICE:
        assert any(fragment in text for text in said), fragment
        assert todo[0].islower()
        assert not todo.endswith(".")


def test_the_decisive_warning_comes_first():
    warnings = (
        "specimen.slices=auto: 4 slices of 0.138 nm",
        "C5 is not determined by this image",
        "stitch: ROI2: its exit rests on one doubtful atom (Ti at 0.1, 0.7)",
        "no data.mtf given: the camera is taken as perfect but for its pixels",
        "the misfit is far above the noise, so the basin may be wrong: 1 of 8 starts",
    )
    assert by_consequence(warnings) == tuple(warnings[k] for k in (4, 3, 2, 1, 0))
    assert advice_for(warnings[0]) is None
    assert "stage mtf" in (advice_for(warnings[3]) or "")
