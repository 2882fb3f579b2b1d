# Types for checkers, which cannot read those of Cython.
from typing import Any

def decode_streams(*arguments: Any) -> int: ...
