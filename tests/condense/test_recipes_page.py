"""docs/recipes.md: its example runs, and its lists are complete."""

import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow")

from dsqformat import open_dataset
from dsqformat.recipes import condense, load_recipe, shipped_names
from dsqformat.recipes.recipe import SECTIONS
from recipe_runs import write_source

PAGE = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text("utf-8")


def test_the_example_runs(tmp_path):
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "mine.toml").write_text(example)
    recipe = load_recipe(tmp_path / "mine.toml")
    assert (recipe.name, recipe.seed, recipe.select.keep_ratio) == ("mine", 1, "1/3")
    source = write_source(tmp_path / "s.npz")
    outcome = condense(source, tmp_path / "d", tmp_path / "mine.toml", report=False)
    assert outcome.sample_count == 40
    bits = np.asarray(outcome.stages[-1].array("setting"))
    assert (bits.mean(), set(bits.tolist())) == (6, {4, 8})
    with open_dataset(tmp_path / "d") as dataset:
        assert np.bincount(dataset.to_numpy()["label"]).sum() == 40


def test_every_recipe_and_every_option_is_named():
    for name in shipped_names():
        assert f"| `{name}` |" in PAGE
    for section, kind in SECTIONS.items():
        (row,) = re.findall(rf"^\| `{section}` \|.*$", PAGE, re.MULTILINE)
        named = set(re.findall(r"`(\w+)`", row))
        # The first cell is the stage, and one option is called like its stage.
        assert named == {option.name for option in fields(kind)} | {section}
