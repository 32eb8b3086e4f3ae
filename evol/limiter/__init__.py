"""How many calls one teacher gets at once, and how fast: found out, not configured.

`search.py` learns two numbers from how calls end, `bucket.py` holds what the user or the teacher's headers say in
numbers, and `gate.py` keeps the line of those who wait. All by the clock of the running event loop.
"""

from evol.limiter.gate import Limiter, Pace
from evol.limiter.search import Slot

__all__ = ["Limiter", "Pace", "Slot"]
