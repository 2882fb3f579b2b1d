"""Where networks run."""

from __future__ import annotations

import torch

from dsqformat.errors import ModelError


def chosen_device(name: str) -> str:
    """Return the device that a name means: "auto" is CUDA where there is some.

    Raises:
        ModelError: torch knows no such device, or it is not there.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        first = (str(error).splitlines() or [""])[0][:120]
        raise ModelError(f"device {name!r}: {first} (use auto, cpu or cuda)") from error
    return name
