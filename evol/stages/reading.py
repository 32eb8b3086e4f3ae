"""Reading a JSON object out of a reply, whether the server promised one or not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

Form = TypeVar("Form", bound=BaseModel)
DECODER = json.JSONDecoder(strict=False)  # a line break inside of a string is no reason to ask again
MAX_OBJECTS = 100  # a reply that holds more is not a verdict


def read_object(text: str, form: type[Form]) -> Form | None:
    """The last object in the text that is of this form; None where there is none. Never a default."""
    last: Form | None = None
    for candidate in _objects(text):
        try:
            last = form.model_validate(candidate)
        except ValidationError:
            continue
    return last


def strict_schema(form: type[BaseModel]) -> dict[str, Any]:
    """The form's JSON schema as servers want it: every field required, nothing beside them, no ornaments."""
    schema = form.model_json_schema()
    properties = {
        name: {key: value for key, value in field.items() if key not in ("title", "default")}
        for name, field in schema["properties"].items()
    }
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _objects(text: str) -> Iterator[object]:
    position, found = text.find("{"), 0
    while position >= 0 and found < MAX_OBJECTS:
        try:
            value, end = DECODER.raw_decode(text, position)
        except ValueError:
            end = position + 1
        except RecursionError:
            end, found = position + 1, found + 1
        else:
            found += 1
            yield value
            if isinstance(value, dict):  # an object in a wrapping, as {"verdict": {...}}
                yield from (inner for inner in value.values() if isinstance(inner, dict))
        position = text.find("{", end)
