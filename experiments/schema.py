"""The JSON schema of results: python -m experiments.schema > docs/result.schema.json."""

import json

from qhrtem_jax.pipeline import PipelineResult
from qhrtem_jax.reporting.schema import schema_of
from qhrtem_jax.stages import PIPELINE, STAGES, RunSettings


def text() -> str:
    """`docs/result.schema.json`."""
    results = {name: stage.result for name, stage in STAGES.items()}
    schema = schema_of(results | {PIPELINE: PipelineResult}, RunSettings)
    return json.dumps(schema, indent=1) + "\n"


if __name__ == "__main__":
    print(text(), end="")
