"""What a model costs, where its provider's prices are known: from the `genai-prices` package, which carries them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from evol.records import Price
from evol.teachers.servers import is_here

TOKENS = 1_000_000  # what prices are given for
# Prompts of evol are shorter than the 128,000 tokens from which on some models cost more.
LONGEST_PROMPT = 100_000


def known_price(model: str, url: str) -> Price | None:
    """The price of this model at this provider, the dearest of the day; None where it is not known."""
    if is_here(url):
        return None
    from genai_prices import Usage, calc_price

    now = datetime.now(UTC)
    prompt, reply = Usage(input_tokens=LONGEST_PROMPT), Usage(input_tokens=0, output_tokens=LONGEST_PROMPT)

    def dearest(usage: Usage) -> Decimal:
        hours = (now + timedelta(hours=hour) for hour in range(24))
        return max(
            calc_price(usage, model, provider_api_url=url, genai_request_timestamp=hour).total_price for hour in hours
        )

    try:
        return Price(dearest(prompt) * TOKENS / LONGEST_PROMPT, dearest(reply) * TOKENS / LONGEST_PROMPT)
    except (LookupError, ValueError):
        return None
