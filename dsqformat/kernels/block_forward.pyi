# Types for checkers, which cannot read those of Cython.
from typing import Any

def transform_plane(
    plane: Any, size: int, rows: Any, columns: Any, scale: float, out: Any
) -> None: ...
