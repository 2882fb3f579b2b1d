# Types for checkers, which cannot read those of Cython.
from typing import Any

def search(*arguments: Any) -> None: ...
