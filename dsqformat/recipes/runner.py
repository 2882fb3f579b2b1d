"""Carries out a recipe: stages in their fixed order, each kept in the work directory.

    staging -> train -> scores, features -> select
            -> mask -> sensitivity -> bits -> refine -> quantize

A stage is carried out only if another needs it. Sensitivity is that of the kept samples alone, as
their trainer will see them: masked, quantized, filled in.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dsqformat.commands.progress import OnProgress
from dsqformat.condense.picture_subsets import PictureSubset, SeenPictures
from dsqformat.condense.round_trips import probe_bits
from dsqformat.errors import RecipeError
from dsqformat.recipes.recipe import Recipe
from dsqformat.recipes.stage_options import Features, Scores, Train
from dsqformat.recipes.stages import bit_allocation, masking, selection, sensitivity, writing
from dsqformat.recipes.stages import features as featuring
from dsqformat.recipes.stages.writing import Plan
from dsqformat.recipes.staging import Staged
from dsqformat.recipes.work_directory import StageResult, WorkDirectory, file_digest

if TYPE_CHECKING:
    from torch import nn

    from dsqformat.condense.proxy import Proxy

OnNote = Callable[[str], None]


@dataclass
class Run:
    """One recipe on one staged source; every result is made when it is first asked for.

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

    # What stages share -------------------------------------------------------------------------

    @cached_property
    def train_options(self) -> Train:
        """Options of training, the defaults where the recipe has none."""
        return self.recipe.train or Train()

    @cached_property
    def trained(self) -> StageResult:
        """The trained proxy, and the scores of its training."""
        from dsqformat.recipes.stages import training

        self.staged.labels("training a proxy network")
        options, inputs = self.train_options, {"staged": self.staged.digest}
        tdds = self.recipe.scores is not None and self.recipe.scores.score == "tdds"
        if self.network is not None:
            from dsqformat.condense.proxy_weights import network_digest

            inputs["network"] = network_digest(self.network)
        if options.weights:
            inputs["weights"] = file_digest(Path(options.weights))
        return self._stage(
            "train",
            training.VERSION,
            asdict(options) | {"device": self.device, "seed": self.recipe.seed, "tdds": tdds},
            inputs,
            lambda folder: training.train(
                folder,
                self.staged.pictures,
                options,
                self.network,
                tdds=tdds,
                seed=self.recipe.seed,
                device=self.device,
                progress=self.progress,
            ),
        )

    @cached_property
    def proxy(self) -> Proxy:
        """The trained network."""
        from dsqformat.recipes.stages import training

        return training.trained_proxy(
            self.trained, self.staged.pictures, self.train_options, self.network, self.device
        )

    @cached_property
    def kept_pictures(self) -> PictureSubset:
        """The kept pictures, as they are."""
        return PictureSubset(self.staged.pictures, self.kept)

    @cached_property
    def kept_labels(self) -> NDArray[np.int64]:
        """Their classes."""
        return self.staged.labels("bits by class")[self.kept]

    # Stages ------------------------------------------------------------------------------------

    @cached_property
    def scored(self) -> StageResult | None:
        """The score that samples are chosen by, or that goes along with them."""
        options = self.recipe.scores
        if options is None:
            if self.recipe.select is None or not self.recipe.select.scored:
                return None
            options = Scores()
        from dsqformat.recipes.stages import training

        inputs, trained, pictures = {"staged": self.staged.digest}, None, None
        if options.score == "file":
            inputs["file"] = file_digest(Path(options.file))
        elif options.score == "grand":
            pictures = self.staged.pictures
            self.staged.labels("score grand")
        else:
            trained = self.trained
            inputs["train"] = trained.digest
        return self._stage(
            "scores",
            training.VERSION,
            asdict(options) | {"network": self.train_options.network, "seed": self.recipe.seed},
            inputs,
            lambda _folder: training.score(
                options,
                trained,
                pictures,
                len(self.staged),
                self.train_options.network,
                seed=self.recipe.seed,
                device=self.device,
                threads=self.train_options.threads,
                progress=self.progress,
            ),
        )

    @cached_property
    def score(self) -> NDArray[np.float64] | None:
        """The score of each sample of the source, or None."""
        return None if self.scored is None else np.array(self.scored.array("score"))

    @cached_property
    def featured(self) -> StageResult | None:
        """Features, where samples are put into bins."""
        select = self.recipe.select
        if select is None or not select.binned:
            return None
        options = self.recipe.features or Features()
        mirrored = select.method == "adaptive-bins" and select.diversity == "contrastive"
        if options.kind == "file":
            if mirrored:
                raise RecipeError(
                    "select.diversity: got 'contrastive', expected 'mean-cosine' with features of "
                    "a file: mirror images need a network"
                )
            return self._stage(
                "features",
                featuring.VERSION,
                {"kind": "file"},
                {"file": file_digest(Path(options.file)), "staged": self.staged.digest},
                lambda folder: featuring.copy_features(folder, options, len(self.staged)),
            )
        return self._stage(
            "features",
            featuring.VERSION,
            asdict(options) | {"mirrored": mirrored},
            {"staged": self.staged.digest, "train": self.trained.digest},
            lambda folder: featuring.write_features(
                folder,
                self.proxy,
                self.staged.pictures,
                options,
                mirrored=mirrored,
                threads=self.train_options.threads,
                progress=self.progress,
            ),
        )

    @cached_property
    def selected(self) -> StageResult | None:
        """Which samples are kept."""
        options = self.recipe.select
        if options is None:
            return None
        inputs = {"staged": self.staged.digest}
        if self.scored is not None and options.scored:
            inputs["scores"] = self.scored.digest
        if self.featured is not None:
            inputs["features"] = self.featured.digest
        wanted = options.per_class and (options.method != "random" or self.staged.has_labels)
        labels = self.staged.labels(f"select.method {options.method}") if wanted else None
        adaptive = options.method == "adaptive-bins"
        score_name = (self.recipe.scores or Scores()).score

        def make(_folder: Path) -> Any:
            if self.featured is not None:
                self.note(str(_estimate(self.featured, labels, per_class=options.per_class)))
            return selection.select(
                len(self.staged),
                options,
                labels=labels,
                scores=self.score if options.scored else None,
                score_name=score_name,
                features=self.featured,
                pictures=self.staged.pictures if adaptive else None,
                seed=self.recipe.seed,
                progress=self.progress,
            )

        return self._stage(
            "select",
            selection.VERSION,
            asdict(options)
            | {"score": score_name if options.scored else None, "seed": self.recipe.seed},
            inputs,
            make,
        )

    @cached_property
    def kept(self) -> NDArray[np.int64]:
        """Positions of the kept samples, ascending."""
        if self.selected is None:
            return np.arange(len(self.staged))
        return np.array(self.selected.array("kept"))

    @cached_property
    def masked(self) -> StageResult | None:
        """Which patches of them are stored."""
        options = self.recipe.mask
        if options is None:
            return None
        inputs = {"staged": self.staged.digest} | self._kept_digest
        network = options.importance == "gradcam"
        if network:
            inputs["train"] = self.trained.digest
        return self._stage(
            "mask",
            masking.VERSION,
            asdict(options) | {"device": self.device, "seed": self.recipe.seed},
            inputs,
            lambda folder: masking.mask(
                folder,
                self.kept_pictures,
                options,
                self.proxy if network else None,
                seed=self.recipe.seed,
                device=self.device,
                threads=self.train_options.threads,
                progress=self.progress,
            ),
        )

    @cached_property
    def masks(self) -> NDArray[np.bool_] | None:
        """Patches that are kept, boolean, shape (k, rows, columns)."""
        return None if self.masked is None else self.masked.array("masks")

    @cached_property
    def fill(self) -> Any:
        """What fills the others, or None."""
        if self.masked is None or self.recipe.mask is None:
            return None
        return masking.reconstructor_of(
            self.recipe.mask,
            self.masked,
            device=self.device,
            threads=self.train_options.threads,
        )

    @property
    def block(self) -> bool:
        """Whether settings are qps of quantizer block, of which none drops a sample."""
        return self.recipe.quantize.quantizer == "block"

    @cached_property
    def patch(self) -> int | None:
        """Side of the patches of masks."""
        return None if self.recipe.mask is None else self.recipe.mask.patch

    @cached_property
    def sensed(self) -> StageResult | None:
        """How much quantization hurts each kept sample; only where bits depend on it."""
        recipe = self.recipe
        if not recipe.bits.ranked:
            return None
        options = recipe.sensitivity
        if options is None:
            raise RecipeError(f"bits.mode: {recipe.bits.mode} needs a table [sensitivity]")
        network = options.engine != "distortion"
        probe = options.probe_bits or probe_bits(recipe.bits.lowest)
        inputs = {"staged": self.staged.digest} | self._kept_digest
        if network:
            inputs["train"] = self.trained.digest
        if self.masked is not None:
            inputs["mask"] = self.masked.digest
        patch = self.patch or recipe.quantize.patch

        def make(_folder: Path) -> Any:
            return sensitivity.measure_sensitivity(
                self.kept_pictures,
                SeenPictures(
                    self.kept_pictures,
                    sensitivity.round_trip_of(recipe.quantize, probe, patch),
                    self.masks,
                    patch,
                    self.fill,
                ),
                options,
                self.proxy if network else None,
                threads=self.train_options.threads,
                progress=self.progress,
            )

        chosen = {
            "device": self.device,
            "patch": patch,
            "probe_bits": probe,
            "quantizer": recipe.quantize.quantizer,
        }
        version = sensitivity.VERSION
        return self._stage("sensitivity", version, asdict(options) | chosen, inputs, make)

    @cached_property
    def sensitivity(self) -> NDArray[np.float64] | None:
        """The sensitivity of each kept sample, or None."""
        return None if self.sensed is None else np.array(self.sensed.array("sensitivity"))

    @cached_property
    def allocated(self) -> StageResult:
        """Bits or qp of each kept sample."""
        recipe = self.recipe
        if recipe.bits.mode == "budget":
            return self._budget()
        inputs = {"kept": str(len(self.kept))}
        if self.sensed is not None:
            inputs["sensitivity"] = self.sensed.digest
        labels = None
        if recipe.bits.per_class and recipe.bits.ranked:
            labels = self.kept_labels
            inputs |= {"staged": self.staged.digest} | self._kept_digest
        return self._stage(
            "bits",
            bit_allocation.VERSION,
            asdict(recipe.bits) | {"quantizer": recipe.quantize.quantizer},
            inputs,
            lambda _folder: bit_allocation.allocate_bits(
                len(self.kept), recipe.bits, recipe.quantize, self.sensitivity, labels
            ),
        )

    @cached_property
    def setting(self) -> NDArray[np.int64]:
        """The same as an array."""
        return np.array(self.allocated.array("setting"))

    @cached_property
    def refined(self) -> StageResult | None:
        """Refined pictures."""
        options, recipe = self.recipe.refine, self.recipe
        if options is None or not options.iterations:
            return None
        from dsqformat.recipes.stages import refining

        return self._stage(
            "refine",
            refining.VERSION,
            asdict(options)
            | {
                "device": self.device,
                "patch": recipe.quantize.patch,
                "quantizer": recipe.quantize.quantizer,
            },
            {
                "bits": self.allocated.digest,
                "staged": self.staged.digest,
                "train": self.trained.digest,
            }
            | self._kept_digest,
            lambda folder: refining.refine(
                folder,
                self.kept_pictures,
                self.setting,
                options,
                recipe.quantize,
                self.proxy,
                device=self.device,
                threads=self.train_options.threads,
                progress=self.progress,
            ),
        )

    def plan(self) -> Plan:
        """Carry out all stages before quantize, and return what is to be written."""
        self._note_stages_left_out()
        # In this order, whatever asks for them first: the provenance lists them so.
        refined = (self.selected, self.masked, self.sensed, self.allocated, self.refined)[-1]
        return Plan(
            kept=self.kept,
            setting=self.setting,
            pictures=None if refined is None else refined.array("pictures"),
            masks=self.masks,
            patch=self.patch,
            columns=self._columns(),
            provenance=self._provenance(),
            weights=self._weights(),
            seed=self.recipe.seed,
        )

    def identity(self) -> dict[str, Any]:
        """Return what the provenance says before any stage has run: the recipe and the source."""
        return {
            "recipe": self.recipe.to_json(),
            "source": dict(self.reading) | {"snapshot": self.staged.digest},
        }

    def _note_stages_left_out(self) -> None:
        """Tell which tables of the recipe have no effect."""
        recipe = self.recipe
        if recipe.sensitivity is not None and not recipe.bits.ranked:
            self.note("[sensitivity] is left out: no bits depend on it")
        if recipe.features is not None and (recipe.select is None or not recipe.select.binned):
            self.note("[features] is left out: there are no bins")

    # Inside ------------------------------------------------------------------------------------

    def _stage(
        self,
        name: str,
        version: int,
        options: Mapping[str, Any],
        inputs: Mapping[str, str],
        make: Callable[[Path], Any],
    ) -> StageResult:
        result = self.work.stage(name, version, options, inputs, make)
        self.stages.append(result)
        return result

    @property
    def _kept_digest(self) -> dict[str, str]:
        return {} if self.selected is None else {"select": self.selected.digest}

    def _budget(self) -> StageResult:
        from dsqformat.recipes.stages import budgets

        recipe = self.recipe
        inputs = {"staged": self.staged.digest} | self._kept_digest
        sensed = recipe.bits.measure == "sensitivity"
        if sensed:
            inputs["train"] = self.trained.digest
        if self.staged.field.dtype != "uint8" or len(self.staged.field.shape) not in (2, 3):
            raise RecipeError(
                f"quantize.quantizer: block stores pictures of uint8, the source has "
                f"{self.staged.field.dtype}{list(self.staged.field.shape)}; use another recipe"
            )

        def make(folder: Path) -> Any:
            # The digests of stages that come later are as long as any other.
            stand_in: dict[str, Any] = {"digest": "0" * 64, "stage": "bits"}
            stand_in["version"] = budgets.VERSION
            provenance = self._provenance(stand_in)

            def trial(setting: NDArray[np.int64]) -> int:
                with self.work.scratch() as scratch:
                    plan = Plan(
                        self.kept,
                        setting,
                        columns=self._columns(),
                        provenance=provenance,
                        seed=recipe.seed,
                    )
                    report = writing.write(
                        scratch / "trial", self.staged, plan, recipe.quantize, progress=_ignore
                    )
                return report.total_nbytes + self.spare_nbytes

            return budgets.allocate_budget(
                self._kept_batches,
                len(self.kept),
                recipe.bits,
                recipe.quantize,
                self.proxy if sensed else None,
                self.kept_labels if sensed else None,
                trial,
                self.progress,
            )

        options: dict[str, Any] = {
            "bits": asdict(recipe.bits),
            "quantize": asdict(recipe.quantize),
        }
        # The snapshot says how it was made: other words take other room.
        options |= {"provenance": self._provenance(), "seed": recipe.seed}
        options["spare_nbytes"] = self.spare_nbytes
        return self._stage("bits", budgets.VERSION, options, inputs, make)

    def _kept_batches(self) -> Any:
        """Yield kept samples of the main field, chunk by chunk."""
        begin, name = 0, self.staged.field.name
        for chunk, _ in self.staged.chunks():
            low, high = np.searchsorted(self.kept, [begin, begin + chunk.sample_count])
            rows = self.kept[low:high] - begin
            begin += chunk.sample_count
            if len(rows):
                yield [chunk.fields[name][row] for row in rows]

    def _columns(self) -> dict[str, NDArray[Any]]:
        wanted = self.recipe.quantize.columns
        known: dict[str, NDArray[Any]] = {}
        if self.selected is not None:
            for name in ("bin_id", "bin_rank"):
                if self.selected.has(name):
                    known[name] = np.asarray(self.selected.array(name))[self.kept].astype("i8")
        if self.score is not None:
            known["score"] = self.score[self.kept].astype("f4")
        if self.recipe.bits.ranked and self.sensitivity is not None:
            known["sensitivity"] = self.sensitivity.astype("f4")
        return {name: known[name] for name in wanted if name in known}

    def _weights(self) -> Path | None:
        if self.masked is None or not self.masked.facts["weights_nbytes"]:
            return None
        return self.masked.folder / masking.WEIGHTS

    def _provenance(self, *more: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the snapshot says: recipe, how the source was read, digests of stages."""
        stages = [
            {"digest": stage.digest, "stage": stage.name, "version": stage.version}
            for stage in self.stages
        ]
        more_said: dict[str, Any] = {}
        said: dict[str, Any] = {**self.identity(), "stages": [*stages, *more]}
        if self.masked is not None:
            facts = self.masked.facts
            said["reconstructor"] = {
                "id": facts["reconstructor"],
                "sha256": facts["sha256"],
                "weights_nbytes": facts["weights_nbytes"],
            }
            more_said["fill"] = {self.staged.field.name: facts["reconstructor"]}  # spec 11
        if any(stage.name == "train" for stage in self.stages):
            said["torch"] = importlib.metadata.version("torch")
            said["device"] = self.device
        return {"condense": said, **more_said}


def _estimate(
    featured: StageResult, labels: NDArray[np.int64] | None, *, per_class: bool
) -> object:
    from dsqformat.select import estimate_bins

    return estimate_bins(featuring.features_of(featured), labels, per_class=per_class)


def _ignore(_stage: str, _done: int, _total: int | None) -> None:
    pass
