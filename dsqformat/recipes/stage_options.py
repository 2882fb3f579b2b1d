"""The options of each stage, as frozen data: what a table of a recipe may say.

    Train -> Scores, Features -> Select
          -> Mask -> Sensitivity -> Bits -> Refine -> Quantize

Their types are those that TOML has; `dsqformat.recipes.parsing` reads them from here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from dsqformat.recipes.option_values import (
    Share,
    check_at_least,
    check_between,
    check_positive,
    check_share,
    wrong_option,
)
from dsqformat.wire import MAX_QP

BUDGET_QPS: Final = (24, 40, 56, 68, 80, 92, 104, 116, 128, 144, 160, 175)


@dataclass(frozen=True)
class Train:
    """Training of the proxy network on the whole set, with its dynamics recorded.

    Attributes:
        network: "small-resnet", "resnet18" or "timm:NAME".
        weights: file of weights to begin with; "" for new ones.
        epochs: 0 takes the network as it is, which needs weights or a network of your own.
        batch_size: 2 or more.
        learning_rate: at the top of its cycle.
        weight_decay: of all parameters.
        padding: pixels that crops move at most.
        flip: mirror every other picture.
        dynamics: "train" or "eval", see `TrainingOptions`.
        threads: of one operation; the result depends on it.
    """

    network: str = "small-resnet"
    weights: str = ""
    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 0.2
    weight_decay: float = 5e-4
    padding: int = 4
    flip: bool = True
    dynamics: Literal["train", "eval"] = "train"
    threads: int = 1

    def __post_init__(self) -> None:
        check_at_least("epochs", self.epochs, 0)
        check_at_least("batch_size", self.batch_size, 2)
        check_at_least("threads", self.threads, 1)
        check_positive("learning_rate", self.learning_rate)
        if not 0 <= self.weight_decay < math.inf:
            raise wrong_option("weight_decay", self.weight_decay, "at least 0")
        check_between("padding", self.padding, 0, 255)


@dataclass(frozen=True)
class Scores:
    """One number per sample that says how hard it is.

    Attributes:
        score: which one; "file" reads it.
        file: .npz written by `write_scores`, for score "file".
        column: name of the score in the file.
        initialisations: networks that "grand" averages over.
    """

    score: Literal["aum", "el2n", "forgetting", "entropy", "tdds", "grand", "file"] = "aum"
    file: str = ""
    column: str = ""
    initialisations: int = 10

    def __post_init__(self) -> None:
        check_at_least("initialisations", self.initialisations, 1)
        if (self.score == "file") != bool(self.file and self.column):
            raise wrong_option(
                "file", self.file, 'a file and a column with score = "file", and only so'
            )


@dataclass(frozen=True)
class Features:
    """What bins are made of.

    Attributes:
        kind: "embedding", "last_layer_grad" in factors, or "file" for a .npy.
        softmax: of last_layer_grad: "single", or "double" as the published code of DQ has it.
        file: .npy of floating point (samples, values), for samples of any kind.
    """

    kind: Literal["embedding", "last_layer_grad", "file"] = "embedding"
    softmax: Literal["single", "double"] = "single"
    file: str = ""

    def __post_init__(self) -> None:
        if (self.kind == "file") != bool(self.file):
            raise wrong_option("file", self.file, 'a .npy with kind = "file", and only so')


@dataclass(frozen=True)
class Select:
    """Which samples are kept.

    Attributes:
        method: "random", "score" (one end of it), "ccs", "bins" (DQ) or "adaptive-bins" (ADQ).
        keep_ratio: above 0, at most 1.
        per_class: choose in each class; False: in all together, which needs no labels.
        balance: of random, score and ccs: "proportional" to the classes, or "equal".
        keep: of score: which end.
        hardest: of ccs: which end; "auto": lowest of aum, highest of others.
        beta: of ccs: share of the hardest to drop.
        strata: of ccs.
        bins: how many.
        metric: of bins: "cosine" (the published code), "euclidean" (the paper) or "dot".
        sizes: of bins: "balanced", "geometric" or "compat".
        choice: of samples in a bin: "random" or "rank".
        compat_rng: of bins: choose as the published code does.
        quota: of adaptive-bins: "mixture", "size_weighted" or "literal".
        alpha: of quota: share of the importance.
        norm: of importance: "min_max", "rank" or "softmax".
        diversity: of adaptive-bins: "mean-cosine", or "contrastive" (equation 5, on embeddings of
            pictures and of their mirror images).
        temperature: of contrastive diversity.
    """

    method: Literal["random", "score", "ccs", "bins", "adaptive-bins"] = "random"
    keep_ratio: Share = 1
    per_class: bool = True
    balance: Literal["proportional", "equal"] = "proportional"
    keep: Literal["highest", "lowest"] = "highest"
    hardest: Literal["auto", "highest", "lowest"] = "auto"
    beta: Share = 0
    strata: int = 50
    bins: int = 10
    metric: Literal["cosine", "euclidean", "dot"] = "cosine"
    sizes: Literal["balanced", "geometric", "compat"] = "balanced"
    choice: Literal["random", "rank"] = "random"
    compat_rng: bool = False
    quota: Literal["mixture", "size_weighted", "literal"] = "mixture"
    alpha: Share = 0.65
    norm: Literal["min_max", "rank", "softmax"] = "min_max"
    diversity: Literal["mean-cosine", "contrastive"] = "mean-cosine"
    temperature: float = 0.5

    def __post_init__(self) -> None:
        check_share("keep_ratio", self.keep_ratio, "more than 0 and at most 1", open_below=True)
        check_share("beta", self.beta, "0 to 1")
        check_share("alpha", self.alpha, "0 to 1")
        check_between("strata", self.strata, 1, 1_000_000)
        check_at_least("bins", self.bins, 1)

    @property
    def binned(self) -> bool:
        """Whether samples are put into bins."""
        return self.method in ("bins", "adaptive-bins")

    @property
    def scored(self) -> bool:
        """Whether samples are chosen by a score."""
        return self.method in ("score", "ccs")


@dataclass(frozen=True)
class Mask:
    """Which patches of a picture are left out, and what is put there when it is read.

    Attributes:
        drop_ratio: share of the patches, 0 up to but not 1.
        patch: side of a patch.
        importance: "gradcam", "sobel", "variance" or "random".
        target: of gradcam: the class of the "label", or "argmax" as in the published code.
        alpha: of gradcam: "paper" or "compat_cubed".
        layer: of gradcam: module with the feature map; "": the last.
        reconstructor: "harmonic", "mean", "none", "tiny-mae" or "checkpoint".
        epochs: of training tiny-mae.
        width: of tiny-mae's encoder; its decoder is half as wide.
        file: weights of "checkpoint".
        sha256: of that file.
    """

    drop_ratio: float = 0.25
    patch: int = 4
    importance: Literal["gradcam", "sobel", "variance", "random"] = "gradcam"
    target: Literal["label", "argmax"] = "label"
    alpha: Literal["paper", "compat_cubed"] = "paper"
    layer: str = ""
    reconstructor: Literal["harmonic", "mean", "none", "tiny-mae", "checkpoint"] = "harmonic"
    epochs: int = 50
    width: int = 192
    file: str = ""
    sha256: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.drop_ratio < 1:
            raise wrong_option("drop_ratio", self.drop_ratio, "0 up to but not 1")
        check_at_least("patch", self.patch, 1)
        check_at_least("epochs", self.epochs, 1)
        if self.width < 24 or self.width % 24:
            raise wrong_option("width", self.width, "a multiple of 24")
        if (self.reconstructor == "checkpoint") != bool(self.file and self.sha256):
            expected = 'file and sha256 with reconstructor = "checkpoint", and only so'
            raise wrong_option("file", self.file, expected)


@dataclass(frozen=True)
class Sensitivity:
    """How much quantization hurts each kept sample.

    Attributes:
        engine: "full", "layers", "last_layer" (gradients), or "distortion" (squared error; needs
            no network).
        layers: of engine layers: names in the network; none: all that have parameters.
        wrt: gradient in "parameters" (equations 8 and 9) or "input" (caption of Fig. 3).
        probe_bits: bit width of the probe; 0: the low one, or 8 where that is 0.
    """

    engine: Literal["full", "layers", "last_layer", "distortion"] = "full"
    layers: tuple[str, ...] = ()
    wrt: Literal["parameters", "input"] = "parameters"
    probe_bits: int = 0

    def __post_init__(self) -> None:
        if self.layers and (self.engine != "layers" or self.wrt != "parameters"):
            expected = 'none without engine = "layers" and wrt = "parameters"'
            raise wrong_option("layers", list(self.layers), expected)
        check_between("probe_bits", self.probe_bits, 0, 16)


@dataclass(frozen=True)
class Bits:
    """How finely each kept sample is stored.

    Attributes:
        mode: "fixed", "two-level" (high and low), "levels", or "budget".
        bits: of fixed.
        qp: of fixed with quantizer block, 0 (finest) to 175.
        high: of two-level.
        low: of two-level; 0 drops the samples.
        average: of two-level: bits on average; "": half way.
        levels: of levels: [bits, share] each; the shares make 1.
        per_class: rank in each class; False: all together, as in the paper.
        total: of budget: bytes of everything, as a number or such as "2MB".
        bytes_per_sample: of budget: the same by sample.
        measure: of budget: "squared-error", or "sensitivity" of the last layer.
        qps: of budget: levels to choose from.
    """

    mode: Literal["fixed", "two-level", "levels", "budget"] = "fixed"
    bits: int = 8
    qp: int = 100
    high: int = 8
    low: int = 0
    average: Share = ""
    levels: tuple[tuple[int, Share], ...] = ()
    per_class: bool = False
    total: int | str = ""
    bytes_per_sample: float = 0.0
    measure: Literal["squared-error", "sensitivity"] = "squared-error"
    qps: tuple[int, ...] = BUDGET_QPS

    def __post_init__(self) -> None:
        for key in ("bits", "high", "low"):
            check_between(key, getattr(self, key), 0, 16)
        check_between("qp", self.qp, 0, MAX_QP)
        if not self.qps or not all(0 <= qp <= MAX_QP for qp in self.qps):
            raise wrong_option("qps", list(self.qps), f"one or more of 0 to {MAX_QP}")
        if self.mode == "budget" and bool(self.total) == bool(self.bytes_per_sample):
            given = self.bytes_per_sample if self.total else ""
            raise wrong_option("total", given, "either total or bytes_per_sample, and not both")
        if not 0 <= self.bytes_per_sample < math.inf:
            raise wrong_option("bytes_per_sample", self.bytes_per_sample, "more than 0")
        if isinstance(self.total, int) and self.total < 0:
            raise wrong_option("total", self.total, "more than 0")
        if (self.mode == "levels") != bool(self.levels):
            raise wrong_option(
                "levels", list(self.levels), 'pairs with mode = "levels", and only so'
            )

    @property
    def ranked(self) -> bool:
        """Whether bits depend on a sensitivity."""
        return self.mode == "levels" or (self.mode == "two-level" and self.high != self.low)

    @property
    def lowest(self) -> int:
        """The fewest bits that are given."""
        if self.mode == "levels":
            return min(bits for bits, _ in self.levels)
        return self.low if self.mode == "two-level" else self.bits


@dataclass(frozen=True)
class Refine:
    """Moving pictures so that less is lost when they are quantized (Tran and Bae).

    Attributes:
        iterations: 500 in the paper for CIFAR.
        learning_rate: of Adam, in units of [0, 1] pictures.
        batch_size: pictures at a time.
    """

    iterations: int = 500
    learning_rate: float = 0.005
    batch_size: int = 64

    def __post_init__(self) -> None:
        check_at_least("iterations", self.iterations, 0)
        check_at_least("batch_size", self.batch_size, 1)
        check_positive("learning_rate", self.learning_rate)


@dataclass(frozen=True)
class Quantize:
    """How samples are written.

    Attributes:
        quantizer: of the main field: "lsq", "affine", "patch", "block" or "raw".
        patch: side of patches of quantizer patch, where no mask has one.
        groups: of quantizer patch.
        grouping: "distortion", "min_max" or "compat".
        layers: bits of each layer but the last; "default" for those of the writer.
        effort: of quantizer block.
        coding: of layers: "auto", "packed", "zstd" or "rans".
        zstd_level: 1 to 22.
        chunk_nbytes: of a chunk.
        shard_nbytes: of a shard.
        table: write the sample table for queries.
        columns: of bin_id, bin_rank, score, sensitivity those to write, where they are known.
        list_dropped: keep samples of 0 bits as rows of the sample table.
    """

    quantizer: Literal["lsq", "affine", "patch", "block", "raw"] = "lsq"
    patch: int = 5
    groups: int = 64
    grouping: Literal["distortion", "min_max", "compat"] = "distortion"
    layers: str | tuple[int, ...] = "default"
    effort: Literal["default", "high"] = "default"
    coding: Literal["auto", "packed", "zstd", "rans"] = "auto"
    zstd_level: int = 12
    chunk_nbytes: int = 256 << 10
    shard_nbytes: int = 32 << 20
    table: bool = True
    columns: tuple[str, ...] = ("bin_id", "bin_rank", "score", "sensitivity")
    list_dropped: bool = True

    def __post_init__(self) -> None:
        known = ("bin_id", "bin_rank", "score", "sensitivity")
        wrong = [name for name in self.columns if name not in known]
        if wrong:
            raise wrong_option("columns", wrong[0], " or ".join(known))
        check_at_least("patch", self.patch, 1)
        check_between("groups", self.groups, 1, 1 << 16)
        check_between("zstd_level", self.zstd_level, 1, 22)
        check_between("chunk_nbytes", self.chunk_nbytes, 1, 1 << 28)
        check_between("shard_nbytes", self.shard_nbytes, self.chunk_nbytes, 1 << 30)
        if isinstance(self.layers, str) and self.layers != "default":
            raise wrong_option("layers", self.layers, 'numbers, or "default"')
