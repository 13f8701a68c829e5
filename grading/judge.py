"""From an answer to points: one case played, and what its reply is worth. Runs in the trusted process, on plain data only."""

from collections.abc import Callable
from typing import Any

import numpy as np

from grading.cases import Case, Raised

Ask = Callable[[dict], Any]  # sends a request to whoever runs the answers, returns the reply as plain data


def play(case: Case, ask: Ask, rng: np.random.Generator) -> str | None:
    """One case: draw, ask, compare. None if it is right, else the category of what is wrong."""
    args = case.make(rng)
    request, outcomes = case.request(args), []
    # One call a message: whoever is asked knows the calls so far, never those to come.
    for call in request["calls"]:
        found = outcomes_of(ask(request | {"calls": [call]}), 1)
        if isinstance(found, str):
            return found
        outcomes += found
    return case.judge(outcomes, args)


def outcomes_of(reply: Any, n_calls: int) -> list | str:
    """The outcomes of a reply, values and `Raised`; a category when it is no reply to such a request."""
    rows = reply.get("outcomes") if isinstance(reply, dict) else None
    if not isinstance(rows, list) or len(rows) != n_calls or not all(isinstance(row, dict) and len(row) == 1 for row in rows):
        return "protocol"
    outcomes = []
    for row in rows:
        ((key, content),) = row.items()
        if key == "value":
            outcomes.append(content)
        elif key == "raised" and isinstance(content, list) and all(isinstance(kind, str) for kind in content):
            outcomes.append(Raised(tuple(content)))
        elif key == "unsendable":
            return "kind"
        else:
            return "protocol"
    return outcomes
