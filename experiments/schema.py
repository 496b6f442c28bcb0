"""The JSON schema of results: python -m experiments.schema > docs/result.schema.json."""

import json

from qhrtem_jax.reporting.schema import schema_of
from qhrtem_jax.stages import STAGES


def text() -> str:
    """`docs/result.schema.json`."""
    schema = schema_of({name: stage.result for name, stage in STAGES.items()})
    return json.dumps(schema, indent=1) + "\n"


if __name__ == "__main__":
    print(text(), end="")
