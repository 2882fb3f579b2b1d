"""How the network of every row is trained: the same for all, so that only the data differs."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Final

SMALL: Final = "small"
# To be raised with every change of networks or trainer, so that older results are not reused.
RECIPE: Final = 1


@dataclass(frozen=True)
class Defaults:
    """What a schedule is made of where the command line leaves it open.

    Attributes:
        epochs: of the largest row.
        batch_size: pictures of a step.
        learning_rate: at the top of the cycle.
        padding: pixels that crops move at most; short runs learn more from smaller moves.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    padding: int


# What a minute of one core allows for 10,000 pictures of 32x32.
SMALL_DEFAULTS: Final = Defaults(epochs=16, batch_size=128, learning_rate=0.3, padding=2)
# The usual ones of ResNet-18 on CIFAR-10.
LARGE_DEFAULTS: Final = Defaults(epochs=40, batch_size=256, learning_rate=0.2, padding=4)


def defaults_of(arch: str) -> Defaults:
    """Return the defaults of a network."""
    return SMALL_DEFAULTS if arch == SMALL else LARGE_DEFAULTS


@dataclass(frozen=True)
class Schedule:
    """SGD with momentum and one cycle of the rate; crops and flips; smoothed labels.

    Every row gets the same number of steps of the same batch size, so that a small coreset is
    updated as often as the full set: it is seen in more epochs instead.

    Attributes:
        arch: "small", or a network of `dsqformat.condense.networks`.
        steps: updates of the weights.
        batch_size: pictures of a step.
        learning_rate: at the top of the cycle.
        momentum: of Nesterov's kind.
        weight_decay: of all parameters.
        label_smoothing: share of the target that goes to all classes alike.
        padding: pixels that crops move at most.
        flip: mirror every other picture.
        device: a torch device.
        threads: of one operation on the CPU; results depend on it in their last bits.
    """

    arch: str = SMALL
    steps: int = 1
    batch_size: int = SMALL_DEFAULTS.batch_size
    learning_rate: float = SMALL_DEFAULTS.learning_rate
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    padding: int = SMALL_DEFAULTS.padding
    flip: bool = True
    device: str = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 2 or self.threads < 1:
            raise ValueError(
                f"steps={self.steps}, batch={self.batch_size}, threads={self.threads}: "
                "expected at least 1, 2 and 1"
            )
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"lr={self.learning_rate}: expected a number above 0")

    @property
    def mixed_precision(self) -> bool:
        """Whether products are computed in bfloat16."""
        return self.device.startswith("cuda")

    def to_json(self) -> dict[str, Any]:
        """Return everything that the outcome depends on."""
        precision = "bfloat16" if self.mixed_precision else "float32"
        return asdict(self) | {"precision": precision, "recipe": RECIPE}


def steps_of(epochs: int, sample_count: int, batch_size: int) -> int:
    """Return the steps in which the largest row is seen `epochs` times."""
    return max(1, round(epochs * sample_count / batch_size))
