"""Names in the plot of dsq evaluate: beside their points, and never on top of each other."""

import os
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsqformat.condense.evaluate.label_places import (
    boxes,
    nearest_points,
    overlaps,
    place_labels,
)

FRAME = np.array([0.0, 0.0, 600.0, 400.0])
MARKER = 4.0
SOAK = os.environ.get("DSQ_SOAK") == "1"


def places(anchors, sizes):
    obstacles = boxes(anchors, np.full_like(anchors, 2 * MARKER))
    centres = place_labels(anchors, sizes, obstacles, FRAME)
    return centres, boxes(centres, sizes), obstacles


def shared(one, two):
    area = overlaps(one, two)
    if one is two:
        np.fill_diagonal(area, 0)
    return area.max(initial=0)


def clustered(count, seed):
    """Points in clusters, many pairs of them closer than a label is high."""
    rng = np.random.default_rng(seed)
    middles = rng.uniform((60, 60), (540, 340), (6, 2))
    anchors = middles[np.arange(count) % 6] + rng.normal(0, 12, (count, 2))
    return anchors, np.stack([rng.uniform(20, 95, count), np.full(count, 9.0)], axis=1)


@pytest.mark.parametrize("seed", range(8 if SOAK else 2))
def test_labels_cover_neither_each_other_nor_points_and_stay_inside(seed):
    anchors, sizes = clustered(30, seed)
    centres, labels, markers = places(anchors, sizes)
    assert shared(labels, labels) == 0
    assert shared(labels, markers) < 10
    assert (labels[:, :2] >= FRAME[:2]).all()
    assert (labels[:, 2:] <= FRAME[2:]).all()
    away = np.linalg.norm(nearest_points(anchors, centres, sizes) - anchors, axis=1)
    assert np.median(away) < 15
    again, _, _ = places(anchors, sizes)
    np.testing.assert_array_equal(centres, again)


def test_a_label_on_its_own_stands_beside_its_point():
    for anchor in ([300.0, 200.0], [0.0, 0.0], [600.0, 400.0], [600.0, 0.0]):
        anchors, sizes = np.array([anchor]), np.array([[50.0, 9.0]])
        centres, labels, _ = places(anchors, sizes)
        assert overlaps(labels, FRAME[np.newaxis])[0, 0] == 450
        assert np.linalg.norm(nearest_points(anchors, centres, sizes) - anchors) < 12


def test_points_at_the_same_place_keep_their_names_apart():
    anchors, sizes = np.full((8, 2), 200.0), np.full((8, 2), (60.0, 9.0))
    _, labels, _ = places(anchors, sizes)
    assert shared(labels, labels) == 0


@settings(max_examples=40 if SOAK else 8, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 600), st.floats(0, 400)), max_size=12),
    st.integers(0, 2**32 - 1),
)
def test_any_points_have_places(points, seed):
    anchors = np.array(points, "f8").reshape(-1, 2)
    sizes = np.random.default_rng(seed).uniform(5, 60, anchors.shape)
    centres, _, _ = places(anchors, sizes)
    assert centres.shape == anchors.shape
    assert np.isfinite(centres).all()


def test_shared_areas():
    one = np.array([[0, 0, 4, 2], [10, 10, 11, 11]], "f8")
    two = np.array([[3, 1, 9, 9], [4, 0, 5, 2], [0, 0, 20, 20]], "f8")
    assert overlaps(one, two).tolist() == [[1, 0, 8], [0, 0, 1]]
    assert overlaps(one, two[:0]).shape == (2, 0)


def result_rows():
    from dsqformat.condense.evaluate.baselines import UINT8
    from dsqformat.condense.evaluate.picture_files import FILE_KINDS
    from dsqformat.condense.evaluate.results import RowResult, Run
    from dsqformat.condense.evaluate.rows import DATASET

    rows = []
    for label, kind, nbytes, accuracy in (
        ("full", UINT8, 3072, 70.5), ("uint8 0.5", UINT8, 1536, 66), ("dq", DATASET, 238, 52.8),
        ("adq-bins", DATASET, 237, 53.5), ("lsq-fixed", DATASET, 1141, 70.3),
        ("lsq-adaptive-10-6", DATASET, 1070, 70.1), ("webp <95>", FILE_KINDS[0], 1100, 69.5),
        ("jpeg & 90", FILE_KINDS[1], 1130, 69),
    ):  # fmt: skip
        runs = tuple(
            Run(
                key=label, seed=seed, label=label, kind=kind, setting="", sample_count=100,
                fetched_nbytes=nbytes * 100, stored_nbytes=nbytes * 100,
                right=round(accuracy * 10) + seed, test_count=1000, last_loss=0.1, train_s=1.0,
                cpu_s=1.0, schedule={}, torch="2",
            )
            for seed in range(2)
        )  # fmt: skip
        rows.append(RowResult(label, kind, runs, 100))
    return rows


@pytest.mark.torch
def test_every_row_has_its_name_and_the_same_rows_make_the_same_file(tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("torch")
    pytest.importorskip("PIL")
    from dsqformat.condense.evaluate.plot import draw_plot

    rows = result_rows()
    files = [tmp_path / name for name in ("one.svg", "two.svg", "alone.svg", "p.png")]
    draw_plot(files[0], rows)
    draw_plot(files[1], rows)
    draw_plot(files[2], rows[:1])
    draw_plot(files[3], rows)
    text = files[0].read_text("utf-8")
    assert text == files[1].read_text("utf-8")
    names = re.findall(r">([^<>]+)</text>", text)
    for label in ("full", "dq", "adq-bins", "webp &lt;95&gt;", "jpeg &amp; 90", "DSQ datasets"):
        assert label in names
    assert "bytes fetched per sample of the 100 of the largest row" in text
    assert ">full</text>" in files[2].read_text("utf-8")
    assert files[3].read_bytes().startswith(b"\x89PNG")
