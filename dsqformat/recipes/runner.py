"""Carries out a recipe: stages in their fixed order, each kept in the work directory.

    staging -> train -> scores, features -> select
            -> mask -> sensitivity -> bits -> refine -> quantize

`Run` is the graph: every result is made when it is first asked for, so that a stage is carried out
only if another needs it. What a stage depends on and what it is handed stands in `source_stages`
and `kept_stages`, its code in `stages`, what is written in the end in `planning`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dsqformat.commands.progress import OnProgress
from dsqformat.condense.picture_subsets import PictureSubset
from dsqformat.errors import RecipeError
from dsqformat.recipes import kept_stages, source_stages
from dsqformat.recipes.recipe import Recipe
from dsqformat.recipes.stage_options import Features, Scores, Train
from dsqformat.recipes.stages import masking
from dsqformat.recipes.staging import Staged
from dsqformat.recipes.work_directory import Stage, StageResult, WorkDirectory

if TYPE_CHECKING:
    from torch import nn

    from dsqformat.condense.proxy import Proxy
    from dsqformat.reconstruct import Reconstructor

OnNote = Callable[[str], None]


@dataclass
class Run:
    """One recipe on one staged source.

    Attributes:
        recipe: what to do.
        work: where results are kept.
        staged: the source.
        reading: how it was read, for the provenance.
        device: of torch.
        network: instead of that of the recipe, or None.
        progress: called with stage, done and total.
        note: called with a line to be told before something takes long.
        spare_nbytes: of what is published, more than a new dataset of the ref `main` would take.
        stages: carried out or found, in order.
    """

    recipe: Recipe
    work: WorkDirectory
    staged: Staged
    reading: Mapping[str, Any]
    device: str
    network: nn.Module | None
    progress: OnProgress
    note: OnNote
    spare_nbytes: int = 0
    stages: list[StageResult] = field(default_factory=list)

    # Stages of the whole source ----------------------------------------------------------------

    @cached_property
    def trained(self) -> StageResult:
        """The trained proxy, and the scores of its training."""
        return self._result(source_stages.train_stage(self))

    @cached_property
    def scored(self) -> StageResult | None:
        """The score that samples are chosen by, or that goes along with them."""
        options, select = self.recipe.scores, self.recipe.select
        if options is None and (select is None or not select.scored):
            return None
        return self._result(source_stages.scores_stage(self, options or Scores()))

    @cached_property
    def featured(self) -> StageResult | None:
        """Features, where samples are put into bins."""
        options, select = self.recipe.features, self.recipe.select
        if select is None or not select.binned:
            return None
        return self._result(source_stages.features_stage(self, options or Features(), select))

    @cached_property
    def selected(self) -> StageResult | None:
        """Which samples are kept; None: all."""
        options = self.recipe.select
        if options is None:
            return None
        return self._result(source_stages.select_stage(self, options))

    # Stages of the kept samples ----------------------------------------------------------------

    @cached_property
    def masked(self) -> StageResult | None:
        """Which patches of them are stored; None: all."""
        options = self.recipe.mask
        if options is None:
            return None
        return self._result(kept_stages.mask_stage(self, options))

    @cached_property
    def sensed(self) -> StageResult | None:
        """How much quantization hurts each of them; only where bits depend on it."""
        options, bits = self.recipe.sensitivity, self.recipe.bits
        if not bits.ranked:
            return None
        if options is None:
            raise RecipeError(f"bits.mode: {bits.mode} needs a table [sensitivity]")
        return self._result(kept_stages.sensitivity_stage(self, options))

    @cached_property
    def allocated(self) -> StageResult:
        """Bits or qp of each of them."""
        if self.recipe.bits.mode == "budget":
            return self._result(kept_stages.budget_stage(self))
        return self._result(kept_stages.bits_stage(self))

    @cached_property
    def refined(self) -> StageResult | None:
        """Refined pictures; None: they stay as they are."""
        options = self.recipe.refine
        if options is None or not options.iterations:
            return None
        return self._result(kept_stages.refine_stage(self, options))

    def _result(self, stage: Stage) -> StageResult:
        result = self.work.result(stage)
        self.stages.append(result)
        return result

    # What they give ----------------------------------------------------------------------------

    @property
    def train_options(self) -> Train:
        """Options of training, the defaults where the recipe has none."""
        return self.recipe.train or Train()

    @cached_property
    def proxy(self) -> Proxy:
        """The trained network."""
        from dsqformat.recipes.stages import training

        return training.trained_proxy(
            self.trained, self.staged.pictures, self.train_options, self.network, self.device
        )

    @cached_property
    def score(self) -> NDArray[np.float64] | None:
        """The score of each sample of the source, or None."""
        return None if self.scored is None else np.array(self.scored.array("score"))

    @cached_property
    def kept(self) -> NDArray[np.int64]:
        """Positions of the kept samples in the source, ascending."""
        if self.selected is None:
            return np.arange(len(self.staged))
        return np.array(self.selected.array("kept"))

    @cached_property
    def kept_pictures(self) -> PictureSubset:
        """The kept pictures, as they are."""
        return PictureSubset(self.staged.pictures, self.kept)

    @cached_property
    def kept_labels(self) -> NDArray[np.int64]:
        """Their classes."""
        return self.staged.labels("bits by class")[self.kept]

    @property
    def patch(self) -> int | None:
        """Side of the patches of masks."""
        return None if self.recipe.mask is None else self.recipe.mask.patch

    @cached_property
    def masks(self) -> NDArray[np.bool_] | None:
        """Patches that are stored, boolean, shape (k, rows, columns); None: all."""
        return None if self.masked is None else self.masked.array("masks")

    @cached_property
    def fill(self) -> Reconstructor | None:
        """What fills the others; None: nothing does."""
        if self.masked is None or self.recipe.mask is None:
            return None
        return masking.reconstructor_of(
            self.recipe.mask,
            self.masked,
            device=self.device,
            threads=self.train_options.threads,
        )

    @cached_property
    def sensitivity(self) -> NDArray[np.float64] | None:
        """The sensitivity of each kept sample, or None."""
        return None if self.sensed is None else np.array(self.sensed.array("sensitivity"))

    @property
    def block(self) -> bool:
        """Whether settings are qps of quantizer block, of which none drops a sample."""
        return self.recipe.quantize.quantizer == "block"

    @cached_property
    def setting(self) -> NDArray[np.int64]:
        """Bits or qp of each kept sample, int64, shape (k,); 0 bits drop it."""
        return np.array(self.allocated.array("setting"))

    @cached_property
    def stored(self) -> NDArray[np.bool_]:
        """Whether each kept sample has a payload, boolean, shape (k,)."""
        return np.ones(len(self.kept), "?") if self.block else self.setting > 0
