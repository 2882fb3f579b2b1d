"""Recipes as data: what TOML may say, and one line for everything else."""

import json
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from dsqformat import DatasetWriter, FieldSpec
from dsqformat.canonical import canonical_json
from dsqformat.errors import DatasetError, RecipeError
from dsqformat.recipes import Recipe, load_recipe, parse_recipe, shipped_names
from dsqformat.recipes.parsing import recorded_recipe
from dsqformat.recipes.stage_options import Bits, Mask, Select

EXPECTED = [
    "adq-bins",
    "budget",
    "ccs-aum-lsq-adaptive",
    "dq",
    "lsq-adaptive-10-6",
    "lsq-adaptive-16-16",
    "lsq-adaptive-4-0",
    "lsq-adaptive-8-0",
    "lsq-fixed",
    "ptq-patch",
]


def test_shipped_recipes_are_those_of_the_papers():
    assert shipped_names() == EXPECTED
    for name in EXPECTED:
        recipe = load_recipe(name)
        assert recipe.name == name
        assert 10 < len(recipe.summary) <= 90
        assert recipe.paper


@pytest.mark.parametrize(
    ("name", "high", "low"),
    [("16-16", 16, 16), ("10-6", 10, 6), ("8-0", 8, 0), ("4-0", 4, 0)],
)
def test_pairs_of_bits_are_those_of_table_1(name, high, low):
    bits = load_recipe(f"lsq-adaptive-{name}").bits
    assert (bits.mode, bits.high, bits.low) == ("two-level", high, low)
    assert bits.ranked == (high != low)


def test_settings_of_the_papers():
    dq = load_recipe("dq")
    assert (dq.select.method, dq.select.bins, dq.select.metric) == ("bins", 10, "cosine")
    assert (dq.mask.drop_ratio, dq.mask.importance) == (0.25, "gradcam")
    assert load_recipe("adq-bins").select.alpha == 0.65
    ccs = load_recipe("ccs-aum-lsq-adaptive")
    assert (ccs.select.keep_ratio, ccs.select.beta, ccs.select.strata) == (0.1, 0.3, 50)
    patch = load_recipe("ptq-patch")
    assert (patch.quantize.patch, patch.bits.bits, patch.refine.iterations) == (5, 2, 500)


def test_recipes_are_frozen_and_have_one_canonical_form():
    recipe = load_recipe("dq")
    with pytest.raises(FrozenInstanceError):
        recipe.seed = 1
    assert recipe.canonical() == canonical_json(recipe.to_json())
    assert recipe.canonical() == load_recipe("dq").canonical()
    assert recipe.canonical() != replace(recipe, seed=1).canonical()
    assert b'"keep_ratio":"0.125"' in recipe.canonical()
    # An option that is written out is the same as its default.
    assert parse_recipe("[select]\nbins = 10", name="a") == parse_recipe("[select]", name="a")


def test_settings_go_over_a_recipe():
    recipe = load_recipe("dq", ["select.keep_ratio=1/3", "mask=off", "bits.bits=6", "seed=7"])
    assert (recipe.select.keep_ratio, recipe.mask, recipe.bits.bits) == ("1/3", None, 6)
    assert recipe.seed == 7
    assert load_recipe("lsq-fixed", ["select.keep_ratio=0.5"]).select == Select(keep_ratio=0.5)
    with pytest.raises(RecipeError, match="settings"):
        load_recipe(recipe, ["seed=1"])


@pytest.mark.parametrize("name", EXPECTED)
def test_recipes_come_back_from_what_a_snapshot_says(name):
    settings = ["select.keep_ratio=0.1", "bits.average='1/3'", "train.learning_rate=1e-05"]
    for recipe in (load_recipe(name), load_recipe(name, settings)):
        said = json.loads(recipe.canonical())
        assert recorded_recipe(said).canonical() == recipe.canonical()
    # Decimals that Recipe has as numbers are numbers again.
    assert recorded_recipe(said).train.learning_rate == 1e-05
    assert recorded_recipe(said, ["train.learning_rate=0.5"]).train.learning_rate == 0.5
    said["train"]["learning_rate"] = "fast"
    with pytest.raises(RecipeError, match=r"s: train.learning_rate: got 'fast', expected a number"):
        recorded_recipe(said, where="s")


def test_a_dataset_that_no_recipe_made(tmp_path):
    with DatasetWriter(tmp_path / "d", fields=FieldSpec("affine")) as writer:
        writer.write({"image": np.zeros((2, 2), "u1")})
    with pytest.raises(RecipeError, match="was not made by a recipe; name one"):
        load_recipe(tmp_path / "d")
    with pytest.raises(DatasetError):
        load_recipe(tmp_path)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("selct = 1", "r: selct: no such key; expected one of name, summary"),
        ("[select]\nkeep = 'up'", "r: select.keep: got 'up', expected one of highest, lowest"),
        ("[select]\nkept = 1", "r: select.kept: no such option; expected one of method"),
        ("[select]\nkeep_ratio = 0", "r: select.keep_ratio: got 0, expected more than 0 and at m"),
        ("[select]\nkeep_ratio = 1.5", "r: select.keep_ratio: got 1.5, expected more than 0"),
        ("[select]\nkeep_ratio = 'x'", "r: select.keep_ratio: got 'x', expected more than 0"),
        ("[select]\nbins = 1.5", "r: select.bins: got 1.5, expected a whole number"),
        ("[select]\nbins = true", "r: select.bins: got True, expected a whole number"),
        ("[select]\nbins = 0", "r: select.bins: got 0, expected at least 1"),
        ("select = 3", r"r: select: got 3, expected a table \[select\]"),
        ("[mask]\ndrop_ratio = 1.0", "r: mask.drop_ratio: got 1.0, expected 0 up to but not 1"),
        ("[mask]\nreconstructor = 'checkpoint'", "r: mask.file: got '', expected file and sha256"),
        ("[bits]\nmode = 'budget'", "r: bits.total: got '', expected either total or bytes_per"),
        ("[bits]\nlevels = [[8, '1/2', 3]]", r"r: bits.levels: got \[8, '1/2', 3\], expected 2"),
        ("[bits]\nqps = [200]", r"r: bits.qps: got \[200\], expected one or more of 0 to 175"),
        ("[scores]\nscore = 'file'", "r: scores.file: got '', expected a file and a column"),
        ("[train]\nbatch_size = 1", "r: train.batch_size: got 1, expected at least 2"),
        ("[train]\nlearning_rate = 0", "r: train.learning_rate: got 0.0, expected more than 0"),
        ("[train]\nweight_decay = -1", "r: train.weight_decay: got -1.0, expected at least 0"),
        ("[train]\npadding = -1", "r: train.padding: got -1, expected 0 to 255"),
        ("[select]\nstrata = 0", "r: select.strata: got 0, expected 1 to 1000000"),
        ("[mask]\nwidth = 12", "r: mask.width: got 12, expected a multiple of 24"),
        ("[sensitivity]\nprobe_bits = -3", "r: sensitivity.probe_bits: got -3, expected 0 to 16"),
        ("[sensitivity]\nlayers = ['a']", r"r: sensitivity.layers: got \['a'\], expected none"),
        ("[bits]\nhigh = 17", "r: bits.high: got 17, expected 0 to 16"),
        ("[bits]\nlow = -2", "r: bits.low: got -2, expected 0 to 16"),
        ("[bits]\nqp = 176", "r: bits.qp: got 176, expected 0 to 175"),
        ("[bits]\nbytes_per_sample = nan", "r: bits.bytes_per_sample: got nan, expected more"),
        ("[bits]\nbytes_per_sample = inf", "r: bits.bytes_per_sample: got inf, expected more"),
        ("[bits]\nmode = 'budget'\ntotal = -5", "r: bits.total: got -5, expected more than 0"),
        ("[refine]\nlearning_rate = nan", "r: refine.learning_rate: got nan, expected more than 0"),
        ("[quantize]\npatch = 0", "r: quantize.patch: got 0, expected at least 1"),
        ("[quantize]\ngroups = 0", "r: quantize.groups: got 0, expected 1 to 65536"),
        ("[quantize]\nzstd_level = 99", "r: quantize.zstd_level: got 99, expected 1 to 22"),
        ("[quantize]\nchunk_nbytes = 0", "r: quantize.chunk_nbytes: got 0, expected 1 to 2684"),
        ("[quantize]\nshard_nbytes = -1", "r: quantize.shard_nbytes: got -1, expected 262144 to"),
        ("[quantize]\ncolumns = ['x']", "r: quantize.columns: got 'x', expected bin_id or"),
        ("name = 3", "r: name: got 3, expected text"),
        ("seed = -1", "recipe: seed: got -1, expected 0 to"),
        ("[[", "r: not TOML: "),
        (
            "[bits]\nmode = 'budget'\ntotal = 9",
            "recipe 'r': quantize.quantizer: got 'lsq', expected block for a budget",
        ),
        (
            "[mask]\n[quantize]\nquantizer = 'block'",
            "recipe 'r': quantize.quantizer: got 'block', expected lsq, affine or patch",
        ),
        (
            "[bits]\nmode = 'two-level'\n[quantize]\nquantizer = 'patch'",
            "recipe 'r': bits.mode: got 'two-level', expected fixed: samples of quantizer patch",
        ),
        ("[mask]\n[refine]", "recipe 'r': refine: got 'a table', expected none with"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(text, line):
    with pytest.raises(RecipeError, match=line) as caught:
        parse_recipe(text, where="r")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("setting", ["select", "select=on", "a.b.c=1", "=1", "bits=off"])
def test_settings_that_are_none(setting):
    with pytest.raises(RecipeError, match=r"expected stage.option=value"):
        load_recipe("dq", [setting])


def test_unknown_names_and_files(tmp_path):
    with pytest.raises(RecipeError, match=r"recipe 'nope': neither a \.toml nor a dataset"):
        load_recipe("nope")
    with pytest.raises(FileNotFoundError):
        load_recipe(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(RecipeError, match="no UTF-8"):
        load_recipe(tmp_path / "bytes.toml")
    (tmp_path / "mine.toml").write_text("[bits]\nbits = 4\n")
    assert load_recipe(tmp_path / "mine.toml") == Recipe(name="mine", bits=Bits(bits=4))
    assert load_recipe(str(tmp_path / "mine.toml"), ["mask.patch=2"]).mask == Mask(patch=2)
