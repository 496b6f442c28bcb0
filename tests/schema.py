"""Results against `docs/result.schema.json`."""

import json
from pathlib import Path
from typing import Any

import jsonschema

SCHEMA = Path(__file__).parents[1] / "docs" / "result.schema.json"


def check(content: dict[str, Any]) -> None:
    """**Raises:** `jsonschema.ValidationError` for a result that is not as the schema says."""
    schema = json.loads(SCHEMA.read_text("utf-8"))
    kinds = {c["allOf"][1]["properties"]["stage"]["const"]: c for c in schema["oneOf"]}
    chosen = kinds[content["stage"]] | {"$defs": schema["$defs"]}
    jsonschema.Draft202012Validator(chosen).validate(json.loads(json.dumps(content)))
