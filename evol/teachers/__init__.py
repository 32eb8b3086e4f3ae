"""Teachers: whoever answers a `Request`. Nothing outside of this room knows a provider."""

from __future__ import annotations

from evol.teachers.base import Teacher, check_cut, completion_body, read_completion, read_usage, send_in_any_form
from evol.teachers.named import TEACHER_KINDS, Endpoint, LocalModel, list_price, parse_spec, teacher_named
from evol.teachers.options import LocalOptions
from evol.teachers.scripted import ScriptedTeacher

__all__ = [
    "TEACHER_KINDS",
    "Endpoint",
    "LocalModel",
    "LocalOptions",
    "ScriptedTeacher",
    "Teacher",
    "check_cut",
    "completion_body",
    "list_price",
    "parse_spec",
    "read_completion",
    "read_usage",
    "send_in_any_form",
    "teacher_named",
]
