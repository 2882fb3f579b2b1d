# Types for checkers, which cannot read those of Cython.
from typing import Any

def finish(symbols: Any, n: int, tables: Any, first: int, out: Any) -> int: ...
