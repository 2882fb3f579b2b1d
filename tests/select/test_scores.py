"""Scores of training dynamics, against their definitions over the whole history."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsqformat.errors import SelectionError, SourceError
from dsqformat.select import (
    Aum,
    El2n,
    Entropy,
    Forgetting,
    Grand,
    ScoreTable,
    Tdds,
    TrainingDynamics,
    gradient_norms,
    read_scores,
    write_scores,
)


def fed(history, labels, accumulators, seed=0, batch=4, kind="probabilities"):
    """Feed a history of shape (epochs, n, classes) in shuffled batches."""
    epochs, count, classes = history.shape
    dynamics = TrainingDynamics(count, classes, accumulators)
    rng = np.random.default_rng(seed)
    for epoch in range(epochs):
        order = rng.permutation(count)
        for first in range(0, count, batch):
            part = order[first : first + batch]
            dynamics.update(part, labels[part], epoch, **{kind: history[epoch, part]})
    return dynamics.scores()


@st.composite
def histories(draw, fewest=1):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = draw(st.integers(fewest, 14)), draw(st.integers(1, 11)), draw(st.integers(2, 4))
    logits = rng.standard_normal(shape) * draw(st.sampled_from([0, 1, 30]))
    powers = np.exp(logits - logits.max(axis=2, keepdims=True))
    labels = rng.integers(0, shape[2], shape[1])
    return logits, powers / powers.sum(axis=2, keepdims=True), labels


# Each score ------------------------------------------------------------------------------------


@given(histories(), st.integers(1, 12), st.integers(0, 9))
def test_scores_are_their_definitions(drawn, batch, seed):
    logits, p, labels = drawn
    epochs, count, _ = p.shape
    rows = np.arange(count)
    found = fed(
        logits,
        labels,
        {
            "el2n": El2n(count),
            "el2n5": El2n(count, epochs=5, reduction="mean"),
            "aum": Aum(count),
            "margin": Aum(count, on="logits", reduction="mean"),
            "entropy": Entropy(count),
            "forgetting": Forgetting(count),
            "easy": Forgetting(count, never_learned="zero"),
        },
        seed=seed,
        batch=batch,
        kind="logits",
    )
    onehot = np.eye(p.shape[2])[labels]
    norms = np.linalg.norm(p - onehot, axis=2)
    np.testing.assert_allclose(found["el2n"], norms[:10].sum(axis=0), atol=1e-12)
    np.testing.assert_allclose(found["el2n5"], norms[:5].mean(axis=0), atol=1e-12)
    for name, values in (("aum", p), ("margin", logits)):
        others = np.where(onehot == 1, -np.inf, values).max(axis=2)
        margins = values[:, rows, labels] - others
        expected = margins.sum(axis=0) if name == "aum" else margins.mean(axis=0)
        np.testing.assert_allclose(found[name], expected, atol=1e-10)
    expected = -(p[-1] * np.log(p[-1] + 1e-10)).sum(axis=1)
    np.testing.assert_allclose(found["entropy"], expected, atol=1e-12)
    for i in range(count):
        right = (p[:, i].argmax(axis=1) == labels[i]).tolist()
        falls = sum(a and not b for a, b in itertools.pairwise(right))
        assert found["forgetting"][i] == (falls if any(right) else epochs)
        assert found["easy"][i] == falls


def literal_tdds(p, window, decay=0.9):
    """All windows of the whole history."""
    total = 0.0
    for k in range(len(p) - window + 1):
        inside = p[k : k + window]
        changes = np.array(
            [
                np.abs(b * (np.log(b + 1e-8) - np.log(a + 1e-8))).sum(axis=1)
                for a, b in itertools.pairwise(inside)
            ]
        )
        norm = np.linalg.norm(changes - changes.mean(axis=0), axis=0)
        total = total + norm * decay * (1 - decay) ** (len(p) - window - k)
    return total


@given(histories(fewest=3), st.integers(3, 10), st.integers(1, 12))
def test_tdds_is_its_windows(drawn, window, batch):
    _, p, labels = drawn
    epochs, count, classes = p.shape
    tdds = {"tdds": Tdds(count, classes, window=window)}
    if epochs < window:
        with pytest.raises(SelectionError, match=f"{epochs} epochs were fed, its window is"):
            fed(p, labels, tdds, batch=batch)
        return
    p = p.astype("f4").astype("f8")  # what is kept of the epoch before
    found = fed(p, labels, tdds, batch=batch)["tdds"]
    np.testing.assert_allclose(found, literal_tdds(p, window), rtol=1e-9, atol=1e-12)
    half = fed(p, labels, {"tdds": Tdds(count, classes, window=window, stored="f2")})["tdds"]
    assert half.shape == found.shape
    assert np.isfinite(half).all()


def test_the_last_window_carries_nine_tenths():
    p = np.tile([[0.5, 0.5]], (12, 1, 1))
    p[5] = [0.9, 0.1]
    labels = np.zeros(1, "i8")
    early = fed(p, labels, {"tdds": Tdds(1, 2, window=4)})["tdds"][0]
    p[5], p[11] = [0.5, 0.5], [0.9, 0.1]
    late = fed(p, labels, {"tdds": Tdds(1, 2, window=4)})["tdds"][0]
    assert late > 100 * early > 0


def test_grand_is_the_norm_of_the_gradient():
    rng = np.random.default_rng(0)
    r, h = rng.standard_normal((2, 6, 3))
    written = [np.linalg.norm(np.outer(a, np.append(b, 1))) for a, b in zip(r, h, strict=True)]
    norms = np.linalg.norm(r, axis=1), np.linalg.norm(h, axis=1)
    np.testing.assert_allclose(gradient_norms(*norms), written)
    grand = Grand(6)
    for times in (1, 3):
        for part in (np.array([5, 0]), np.array([1, 2, 3, 4])):
            grand.update(part, times * norms[0][part], norms[1][part])
    np.testing.assert_allclose(grand.scores(), 2 * np.array(written))
    with pytest.raises(SelectionError, match="no two the same"):
        grand.update(np.array([1, 1]), np.ones(2), np.ones(2))
    with pytest.raises(SelectionError, match="indices 6 to 6, expected 0 to 5"):
        grand.update(np.array([6]), np.ones(1), np.ones(1))
    with pytest.raises(SelectionError, match="negative, NaN or infinite"):
        grand.update(np.array([1]), np.array([np.nan]), np.ones(1))
    lone = Grand(2)
    lone.update(np.array([0]), np.ones(1), np.ones(1))
    with pytest.raises(SelectionError, match="sample 1 was fed in 0 epochs, others in 1"):
        lone.scores()


def test_half_precision_probabilities_will_do():
    p = np.full((2, 3, 7), 1 / 7, "f2")
    found = fed(p, np.zeros(3, "i8"), {"entropy": Entropy(3)})["entropy"]
    np.testing.assert_allclose(found, np.log(7), rtol=1e-3)


# Errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logits": np.ones((2, 4))}, r"got shape \(2, 4\), expected \(batch, 3\)"),
        ({"logits": np.full((2, 3), np.nan)}, "sample 4 has NaN or infinite ones in epoch 1"),
        ({"indices": [4, 5]}, "indices: got 4 to 5, expected 0 to 4"),
        ({"labels": [0, 3]}, "labels: got 0 to 3, expected 0 to 2"),
        ({"labels": [0.0, 1]}, "expected integers"),
        ({"indices": [4, 4]}, "a sample was fed before"),
        ({"indices": [0, 1]}, "a sample was fed before"),
        ({"indices": [1]}, r"got \(1,\) indices and \(2,\) labels for 2 outputs"),
        ({"logits": None, "probabilities": np.ones((2, 3))}, "sample 4 are not of sum 1"),
    ],
)
def test_batches_that_cannot_be(change, message):
    dynamics = TrainingDynamics(5, 3, {"el2n": El2n(5)})
    dynamics.update(np.array([0]), np.array([0]), 1, logits=np.zeros((1, 3)))
    batch = {"indices": [4, 1], "labels": [0, 1], "epoch": 1, "logits": np.zeros((2, 3))} | change
    with pytest.raises(SelectionError, match=message) as caught:
        dynamics.update(**batch)
    assert "\n" not in str(caught.value)


def test_samples_that_were_left_out():
    p = np.full((3, 4, 2), 0.5)
    labels = np.zeros(4, "i8")

    def feed(accumulators, left_out, never=False):
        dynamics = TrainingDynamics(4, 2, accumulators)
        for epoch in range(3):
            part = [i for i in range(4) if i != left_out or (epoch != 1 and not never)]
            dynamics.update(part, labels[part], epoch, probabilities=p[epoch, part])
        return dynamics.scores()

    with pytest.raises(SelectionError, match="1 samples were never fed, the first is 2"):
        feed({"el2n": El2n(4)}, 2, never=True)
    with pytest.raises(SelectionError, match="sample 2 was fed in 2 epochs, others in 3"):
        feed({"el2n": El2n(4)}, 2)
    assert (feed({"el2n": El2n(4, reduction="mean")}, 2)["el2n"] == np.sqrt(0.5)).all()
    with pytest.raises(SelectionError, match="sample 2 was fed in epoch 2 and not in the one"):
        feed({"tdds": Tdds(4, 2, window=3)}, 2)
    with pytest.raises(SelectionError, match="probabilities were fed"):
        feed({"aum": Aum(4, on="logits")}, None)


def test_settings_that_cannot_be():
    for make in (
        lambda: El2n(3, reduction="max"),
        lambda: Aum(3, on="losses"),
        lambda: Forgetting(3, never_learned="easy"),
        lambda: Tdds(3, 2, window=2),
        lambda: TrainingDynamics(3, 1, {}),
        lambda: TrainingDynamics(0, 2, {}),
    ):
        with pytest.raises(SelectionError, match="got"):
            make()
    with pytest.raises(TypeError, match="either logits or probabilities"):
        TrainingDynamics(3, 2, {}).update([0], [0], 0)


# The file --------------------------------------------------------------------------------------


def some_table():
    rng = np.random.default_rng(0)
    columns = {"el2n": rng.random(9), "aum": rng.standard_normal(9)}
    return ScoreTable(9, columns, {"model": "small", "epochs": 10})


def test_a_file_of_scores_comes_back_and_is_the_same_bytes(tmp_path):
    table, path = some_table(), tmp_path / "scores.npz"
    write_scores(path, table)
    back = read_scores(path)
    assert back.sample_count == 9
    assert back.provenance == table.provenance
    assert sorted(back.columns) == ["aum", "el2n"]
    for name, values in table.columns.items():
        np.testing.assert_array_equal(back.column(name), values)
    again = tmp_path / "again.npz"
    turned = ScoreTable(9, dict(reversed(table.columns.items())), table.provenance)
    write_scores(again, turned)
    assert again.read_bytes() == path.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.npz", "scores.npz"]
    with np.load(path, allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["columns/el2n"], table.columns["el2n"])
    with pytest.raises(SelectionError, match="none named 'tdds'; there are aum, el2n"):
        back.column("tdds")


def test_every_flipped_byte_is_found_or_harmless(tmp_path):
    path, table = tmp_path / "scores.npz", some_table()
    write_scores(path, table)
    sound = path.read_bytes()
    found = 0
    for place in range(0, len(sound), 3):
        damaged = bytearray(sound)
        damaged[place] ^= 0x41
        path.write_bytes(damaged)
        try:
            back = read_scores(path)
        except SourceError as error:
            found += 1
            assert "\n" not in str(error)  # noqa: PT017
            assert "scores.npz" in str(error)  # noqa: PT017
        else:
            for name, values in back.columns.items():
                np.testing.assert_array_equal(values, table.columns[name])
    assert found > len(sound) // 9
    for end in range(0, len(sound), 7):
        path.write_bytes(sound[:end])
        with pytest.raises(SourceError, match="not a readable file of scores"):
            read_scores(path)


def test_what_is_no_file_of_scores(tmp_path):
    path = tmp_path / "x.npz"
    with pytest.raises(SourceError, match="not a readable file"):
        read_scores(path)
    np.savez(path, x=np.ones(3))
    with pytest.raises(SourceError, match=r"holds 'x.npy', which no file of scores does"):
        read_scores(path)
    np.savez(path, **{"columns/a": np.array([{}], "O")}, allow_pickle=True)
    with pytest.raises(SourceError, match=r"not a readable|expected <f8"):
        read_scores(path)
    np.savez_compressed(path, **{"columns/a": np.ones(3)})
    with pytest.raises(SourceError, match="is compressed"):
        read_scores(path)
    good = {"sample_count": np.array(3), "provenance": np.frombuffer(b"{}", "u1")}
    np.savez(path, **good, **{"columns/a": np.ones(4)})
    with pytest.raises(SourceError, match=r"got float64 of shape \(4,\)"):
        read_scores(path)
    np.savez(path, **good | {"provenance": np.frombuffer(b"[]", "u1")})
    with pytest.raises(SourceError, match="provenance is no JSON object"):
        read_scores(path)
    np.savez(path, **good, **{"columns/a": np.array([1, np.nan, 2])})
    with pytest.raises(SourceError, match="that of sample 1 is NaN"):
        read_scores(path)


def test_tables_that_cannot_be(tmp_path):
    with pytest.raises(SelectionError, match="got the name 'A b'"):
        ScoreTable(1, {"A b": np.ones(1)})
    with pytest.raises(SelectionError, match=r"expected float64 of \(2,\)"):
        ScoreTable(2, {"a": np.ones(1)})
    with pytest.raises(SelectionError, match="got float32"):
        ScoreTable(1, {"a": np.ones(1, "f4")})
    with pytest.raises(SelectionError, match=r"provenance: .*expected what JSON can hold"):
        write_scores(tmp_path / "x", ScoreTable(1, {}, {"a": object()}))
    assert list(tmp_path.iterdir()) == []
