# Types for checkers, which cannot read those of Cython.
from typing import Any

def relax(
    framed: Any,
    places: Any,
    weight: Any,
    neighbours: Any,
    tolerance: Any,
    sweeps: int,
    checks: int,
) -> None: ...
