"""What to do about a failure that a server tells of: one table, by status, code, type and structure.

No word of a message decides anything: messages are for people, are translated and reworded, and may repeat what was
asked. Providers put what is wrong into several fields, so all of them are read as labels (`read_fault`), and the first
row of `TABLE` that fits says what follows. The rows without labels divide all error statuses among them, so that every
failure has a row. Sources: the error pages of OpenAI, Azure, Anthropic, OpenRouter, Google, Groq, DeepSeek, Moonshot,
Alibaba, LiteLLM, llama.cpp and vLLM, autumn of 2026.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

MODERATION_KEYS = frozenset({"flagged_input", "reasons"})  # of the metadata of an error: one input was declined


class Then(Enum):
    """What follows from a failure."""

    STOP = "the run stops: no further call makes sense"
    GIVE_UP = "the row is given up: this request will never be answered"
    DOES_NOT_FIT = "the row is given up: the context is too small for it"
    WAIT = "the call waits as long as it is told"
    TRY_AGAIN = "the call is tried again"


@dataclass(frozen=True, slots=True)
class Fault:
    """What a server says is wrong.

    `status` is 0 where an error in place of a reply has none. `labels` are its codes and types, in lower case.
    `parameter` is the one of the request that it names. `said` is for the reader only, on one line. `worked` says that
    the model was at work.
    """

    status: int
    labels: frozenset[str] = frozenset()
    parameter: str = ""
    said: str = ""
    worked: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. It fits a fault that has one of the statuses and one of the labels; empty fits all."""

    then: Then
    statuses: frozenset[int] = frozenset()
    labels: frozenset[str] = frozenset()

    def fits(self, fault: Fault) -> bool:
        """Whether the row is for this fault."""
        return (not self.statuses or fault.status in self.statuses) and (
            not self.labels or not self.labels.isdisjoint(fault.labels)
        )


# Nothing left to spend: some say so with 429, where waiting helps nobody.
SPENT = frozenset(
    """
    insufficient_quota billing_hard_limit_reached billing_not_active credit_balance_exhausted
    organization_spend_limit_exceeded project_spend_limit_exceeded organization_usage_limit_exceeded
    enforced_spend_limit_reached billing_error budget_exceeded payment_required exceeded_current_quota_error arrearage
    allocationquota.freetieronly openrouter_credits openrouter_key_limit openrouter_guardrail_budget
    openrouter_workspace_budget
    """.split()
)
# A bound on what is under way, not on what may be spent: it comes as 402, with the seconds to wait.
BUSY_BUDGET = frozenset({"in_flight_budget_exhausted", "openrouter_in_flight_budget"})
NO_ACCESS = frozenset(
    """
    invalid_api_key api_key_invalid invalid_authentication_error authentication_error account_deactivated
    access_terminated_error permission_error model_not_found model_not_active model_decommissioned not_found_error
    """.split()
)
TOO_LONG = frozenset(
    """
    context_length_exceeded exceed_context_size_error contextwindowexceedederror context_window_exceeded
    model_max_prompt_tokens_exceeded tokens_limit_reached input_tokens
    """.split()
)
DECLINED = frozenset(
    """
    content_filter content_policy_violation contentpolicyviolationerror responsibleaipolicyviolation flagged_input
    data_inspection_failed datainspectionfailed invalid_prompt moderation_blocked
    """.split()
)
REFUSES_ALL = frozenset({401, 402, 403, 404, 405, 407, 410, 426})
FOR_NOW = frozenset({408, 409, 423, 424, 425, 498, 499, *range(500, 600)})  # 498: a tier of Groq's is full
RATE = frozenset({429})
TABLE = (
    Row(Then.WAIT, labels=BUSY_BUDGET),
    Row(Then.STOP, labels=SPENT),
    Row(Then.DOES_NOT_FIT, labels=TOO_LONG),
    Row(Then.GIVE_UP, labels=DECLINED),
    Row(Then.STOP, labels=NO_ACCESS),
    Row(Then.STOP, REFUSES_ALL),
    Row(Then.WAIT, RATE),
    Row(Then.TRY_AGAIN, FOR_NOW),
    Row(Then.GIVE_UP, frozenset(range(400, 500)) - REFUSES_ALL - RATE - FOR_NOW),
)


def then_for(fault: Fault) -> Then:
    """What follows, by the first row that fits; an error without a status and without a known label is tried again."""
    return next((row.then for row in TABLE if row.fits(fault)), Then.TRY_AGAIN)


def read_fault(status: int, content: bytes) -> Fault:
    """What the body of an error says, be it the JSON of any provider, or text."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return Fault(status, said=_line(content.decode("utf-8", "replace")))
    return _read(status, body[0] if isinstance(body, list) and body else body)  # Google wraps its errors in a list


def fault_in(content: bytes) -> Fault | None:
    """The error inside of a reply with status 200; None where there is none.

    OpenRouter has sent its status before the model begins, and a proxy may pass an error on as if it were a reply.
    """
    if b'"error"' not in content:
        return None
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return None  # the door will say what is wrong with the reply
    if not isinstance(body, dict):
        return None
    choices = body.get("choices")
    worked = isinstance(choices, list) and bool(choices)
    holder = choices[0] if isinstance(choices, list) and choices else body
    if not isinstance(holder, dict) or not (holder.get("error") or holder.get("object") == "error"):
        return None
    fault = _read(0, holder)
    return replace(fault, status=_status(_error_of(holder).get("code")), worked=worked)


def _read(status: int, body: object) -> Fault:
    if not isinstance(body, dict):
        return Fault(status, said=_line(body))
    error = _error_of(body)
    parameter = error.get("param")
    said = error.get("message") or body.get("message") or body.get("detail") or body.get("error") or body
    labels = frozenset(text.lower() for text in _labels(error) if isinstance(text, str))
    return Fault(status, labels, parameter if isinstance(parameter, str) else "", _line(said))


def _error_of(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The object that describes the error: in a field of its own, or the body itself."""
    error = body.get("error")
    return error if isinstance(error, dict) else body


def _labels(error: Mapping[str, Any]) -> Iterator[object]:
    """Everything in an error that names its kind."""
    yield from (error.get(name) for name in ("code", "type", "status", "param"))
    for name in ("metadata", "details", "innererror"):
        found = error.get(name)
        for part in found if isinstance(found, list) else [found]:
            if isinstance(part, dict):
                yield from (part.get(key) for key in ("code", "error_code", "error_type", "limit_source", "reason"))
                yield from MODERATION_KEYS & part.keys()


def _status(code: object) -> int:
    """The status that a code stands for; 0 where it is none."""
    if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) == 3:
        code = int(code)
    return code if type(code) is int and 400 <= code < 600 else 0


def _line(said: object) -> str:
    return " ".join((said if isinstance(said, str) else json.dumps(said)).split())
