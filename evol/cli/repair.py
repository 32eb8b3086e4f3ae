"""`evol repair`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evol.cli.review import RunFolderArgument
from evol.cli.talk import say

if TYPE_CHECKING:
    from evol.salvage import Salvage

PLACES_SHOWN = 20


def repair(run: RunFolderArgument) -> None:
    """Save every whole answer of a damaged journal; a whole journal is left as it is."""
    from evol.accounts import account_of
    from evol.folder import RunFolder
    from evol.salvage import salvage

    folder = RunFolder(run).existing()
    with folder.locked():
        result = salvage(folder, account_of)
    if result.kept_as is None:
        say(f"{folder.journal}: nothing is wrong with it; it holds {result.answers:,} answers")
        return
    say(f"{result.answers:,} answers saved, each with a right checksum; the damaged journal is {result.kept_as}")
    _say_lost(result)
    say("next: the `evol run` command of this run again; it asks for what is missing and makes the rows anew")


def _say_lost(result: Salvage) -> None:
    if result.damaged:
        shown = ", ".join(result.damaged[:PLACES_SHOWN])
        more = f" and {len(result.damaged) - PLACES_SHOWN:,} more" if len(result.damaged) > PLACES_SHOWN else ""
        say(f"{len(result.damaged):,} answers are damaged and will be asked for again: {shown}{more}")
    if result.unreadable:
        say(f"{result.unreadable:,} pages could not be read; what stood there is asked for again, if it was an answer")
    if result.account_lost:
        say(
            "what was spent is lost: its calls and tokens are reckoned from the saved answers, so rather too low, and "
            "--max-cost counts from here"
        )
