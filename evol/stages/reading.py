"""Reading a JSON object out of a reply, whether the server promised one or not.

What a judge is given to read may hold an object that looks like a verdict, and a judge may quote it. A copy of what
stands in the material is not the judge's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

Form = TypeVar("Form", bound=BaseModel)
MAX_OBJECTS = 100  # a reply that holds more is not a verdict
MAX_BROKEN = 1000  # beginnings of objects that are none: each costs as much as all the text before it
OPENING = re.compile(r'\{(?=[ \t\r\n]*["}])')  # other braces are no JSON
MOST_READ = 10  # times its length, what is read of a text in search of objects: a nest of broken ones has no end


class Found(NamedTuple, Generic[Form]):
    """An object that was read, and the characters it was read from."""

    value: Form
    text: str


class _Ambiguous:
    """In place of an object in which a name stands twice: nobody can say which is meant."""


class _Endless(Exception):
    """There is more in a text than a verdict."""


def read_object(text: str, form: type[Form], material: Sequence[str] = ()) -> Form | None:
    """The last object in the text that is of this form; None where there is none. Never a default.

    A copy of what stands in the material is passed over, however it is spaced.
    """
    found = find_object(text, form, material)
    return found.value if found else None


def find_object(text: str, form: type[Form], material: Sequence[str] = ()) -> Found[Form] | None:
    """As `read_object`, with the characters it was read from."""
    try:
        said = list(_of_form(text, form))
    except _Endless:
        return None
    quotable = [found.value for judged in material for found in _first_of_form(judged, form)] if said else []
    for found in reversed(said):
        if found.value not in quotable and not any(found.text in judged for judged in material):
            return found
    return None


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


def _first_of_form(text: str, form: type[Form]) -> Iterator[Found[Form]]:
    """What of this form is in the text, as far as it is read."""
    with suppress(_Endless):
        yield from _of_form(text, form)


def _of_form(text: str, form: type[Form]) -> Iterator[Found[Form]]:
    """What of this form is in the text. Raises `_Endless`."""
    for value, raw in _objects(text):
        with suppress(ValidationError):
            yield Found(form.model_validate(value), raw)


def _objects(text: str) -> Iterator[tuple[object, str]]:
    """Each object in the text with its characters. Raises `_Endless` where there are too many."""
    found, broken, read, end = 0, 0, 0, 0
    while opening := OPENING.search(text, end):
        position = opening.start()
        try:
            value, end = DECODER.raw_decode(text, position)
        except json.JSONDecodeError as error:
            broken, end, read = broken + 1, position + 1, read + error.pos - position
        except (ValueError, RecursionError):  # ValueError: a number of more digits than Python reads
            broken, end, read = broken + 1, position + 1, read + len(text) - position
        else:
            found += 1
            yield value, text[position:end]
            if isinstance(value, dict):  # an object in a wrapping, as {"verdict": {...}}
                yield from ((inner, text[position:end]) for inner in value.values() if isinstance(inner, dict))
        if found > MAX_OBJECTS or broken > MAX_BROKEN or read > MOST_READ * len(text):
            raise _Endless


def _named_once(pairs: list[tuple[str, object]]) -> object:
    fields = dict(pairs)
    return fields if len(fields) == len(pairs) else _Ambiguous()


# Not strict: a line break inside of a string is no reason to ask again.
DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_named_once)
