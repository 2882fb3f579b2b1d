"""StreamingDataset: every sample once, exact lengths, right values, whoever reads."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from client_data import CLASS_COUNT, FAST, SAMPLE_COUNT, Written, forge, write_dataset
from dsqclient import StreamingDataset, StreamingLoader
from dsqformat import DatasetWriter, FieldSpec, open_dataset
from dsqformat.errors import CorruptShardError, DatasetError, FetchError
from fault_proxy import FaultProxy

pytestmark = [
    pytest.mark.torch,
    # Three workers on two cores are meant.
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]
WORKERS = [0, 1, 3]


def indices(batches) -> list[int]:
    return [i for batch in batches for i in batch["index"].tolist()]


# Every sample once -----------------------------------------------------------------------------


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("shuffle", [False, True])
def test_every_sample_comes_once_and_len_is_true(written, workers, shuffle):
    dataset = StreamingDataset(written.path, batch_size=64, shuffle=shuffle)
    loader = DataLoader(dataset, batch_size=None, num_workers=workers)
    batches = list(loader)
    assert sorted(indices(batches)) == list(range(SAMPLE_COUNT))
    assert len(batches) == len(loader) == len(dataset) == -(-SAMPLE_COUNT // 64)
    assert sorted(len(batch["index"]) for batch in batches)[1:] == [64] * (len(batches) - 1)


@pytest.mark.parametrize("workers", WORKERS)
def test_single_samples_come_once_and_len_is_true(written, workers):
    dataset = StreamingDataset(written.path, shuffle=True, columns=["index"])
    loader = DataLoader(dataset, batch_size=None, num_workers=workers)
    found = [sample["index"] for sample in loader]
    assert sorted(found) == list(range(SAMPLE_COUNT))
    assert len(loader) == SAMPLE_COUNT
    collated = DataLoader(dataset, batch_size=50, num_workers=workers)
    assert sorted(indices(collated)) == list(range(SAMPLE_COUNT))


@pytest.mark.parametrize("server", ["dsq_url", "nginx_url", "plain_url"])
@pytest.mark.parametrize("workers", WORKERS)
def test_two_ranks_see_every_sample_once_over_http(server, workers, request):
    url = request.getfixturevalue(server)
    found: Counter[int] = Counter()
    lengths = []
    for rank in range(2):
        dataset = StreamingDataset(
            url, batch_size=37, shuffle=True, rank=rank, world_size=2, options=FAST
        )
        loader = StreamingLoader(dataset, num_workers=workers)
        batches = list(loader)
        lengths.append((len(batches), len(loader)))
        found.update(indices(batches))
    assert found == Counter(range(SAMPLE_COUNT))
    assert set(lengths) == {(-(-SAMPLE_COUNT // 2 // 37) + 0, -(-SAMPLE_COUNT // 2 // 37))}


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
@pytest.mark.parametrize("even", ["auto", "drop", "pad", None])
@pytest.mark.parametrize("drop_last", [False, True])
def test_odd_counts_are_shared_by_the_stated_rule(odd, world_size, even, drop_last):
    found: Counter[int] = Counter()
    lengths = []
    for rank in range(world_size):
        dataset = StreamingDataset(
            odd.path,
            batch_size=8,
            shuffle=True,
            rank=rank,
            world_size=world_size,
            even=even,
            drop_last=drop_last,
            columns=["index"],
            fields=[],
        )
        batches = list(dataset)
        assert len(batches) == len(dataset)
        lengths.append(len(batches))
        found.update(indices(batches))
    count = len(odd.images)
    if even is None or (even == "auto" and world_size == 1):
        assert max(found.values()) == 1
        assert drop_last or sum(found.values()) == count
    else:
        assert len(set(lengths)) == 1
    if not drop_last and even == "drop":
        assert sum(found.values()) == count // world_size * world_size
        assert max(found.values()) == 1
    if not drop_last and (even == "pad" or (even == "auto" and world_size > 1)):
        assert sum(found.values()) == -(-count // world_size) * world_size
        assert set(found) == set(range(count))


@pytest.fixture(scope="module")
def odd(tmp_path_factory) -> Written:
    return write_dataset(tmp_path_factory.mktemp("odd") / "odd", 101, seed=3)


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("workers", [0, 3])
def test_tiny_datasets(tmp_path, count, workers):
    written = write_dataset(tmp_path / "tiny", count) if count else write_empty(tmp_path / "tiny")
    for world_size in (1, 2, 5):
        found = []
        for rank in range(world_size):
            dataset = StreamingDataset(
                written.path, batch_size=4, shuffle=True, rank=rank, world_size=world_size
            )
            batches = list(DataLoader(dataset, batch_size=None, num_workers=workers))
            assert len(batches) == len(dataset) == min(count, 1)
            found += indices(batches)
        assert set(found) == set(range(count))


def write_empty(path: Path) -> Written:
    spec = {"image": FieldSpec(dtype="uint8", shape=(16, 16, 3))}
    with DatasetWriter(path, fields=spec, columns={"index": "int64"}):
        pass
    return Written(path, np.zeros((0, 16, 16, 3), "u1"), np.zeros(0, "i8"))


# Order -----------------------------------------------------------------------------------------


def test_without_shuffling_the_order_is_that_of_the_dataset(written):
    expected = open_dataset(written.path).to_numpy(fields=[])["index"].tolist()
    dataset = StreamingDataset(written.path, batch_size=100)
    assert indices(dataset) == expected
    assert indices(dataset) == expected


def test_shuffled_orders_depend_on_seed_and_epoch_alone(written, dsq_url):
    def orders(source: Any, seed: int, **options: Any) -> list[list[int]]:
        dataset = StreamingDataset(source, batch_size=64, shuffle=True, seed=seed, **options)
        return [indices(dataset) for _ in range(2)]

    first = orders(written.path, 0)
    assert first == orders(dsq_url, 0, prefetch=0)
    assert first == orders(written.path, 0, prefetch=9, layers=1)
    assert first[0] != first[1]
    assert first[0] != orders(written.path, 1)[0]


@pytest.mark.parametrize("persistent", [False, True])
def test_each_epoch_of_a_loader_has_its_own_order(written, persistent):
    def epochs(loader_class: Any, **options: Any) -> list[list[int]]:
        dataset = StreamingDataset(written.path, batch_size=64, shuffle=True, fields=[])
        loader = loader_class(dataset, num_workers=2, persistent_workers=persistent, **options)
        found = [indices(loader) for _ in range(2)]
        dataset.set_epoch(0)
        return [*found, indices(loader), indices(loader)]

    for found in (epochs(DataLoader, batch_size=None), epochs(StreamingLoader)):
        assert [sorted(order) for order in found] == [list(range(SAMPLE_COUNT))] * 4
        assert found[0] == found[2]
        assert found[1] == found[3]
        assert found[0] != found[1]


def test_an_epoch_left_early_does_not_confuse_the_next(written):
    dataset = StreamingDataset(written.path, batch_size=16, shuffle=True, fields=[])
    for workers in WORKERS:
        loader = StreamingLoader(dataset, num_workers=workers)
        for batch in loader:
            assert len(batch["index"]) == 16
            break
        assert sorted(indices(loader)) == list(range(SAMPLE_COUNT))


# Values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_hold_what_was_written(written, shuffle):
    for batch in StreamingDataset(written.path, batch_size=50, shuffle=shuffle):
        index = batch["index"].numpy()
        assert batch["image"].shape == (len(index), 3, 16, 16)
        assert batch["image"].dtype == torch.float32
        bytes_again = (batch["image"].movedim(1, -1) * 255).round().numpy()
        assert (bytes_again == written.images[index]).all()
        assert (batch["label"].numpy() == written.labels[index]).all()
        assert batch["name"] == [f"picture {i}" for i in index]


def test_samples_fields_columns_and_output_are_as_asked_for(written):
    dataset = StreamingDataset(
        written.path, output="source", channels_first=False, columns=["label", "index"]
    )
    for sample in itertools.islice(dataset, 30):
        assert set(sample) == {"image", "label", "index"}
        assert sample["image"].dtype == torch.uint8
        assert (sample["image"].numpy() == written.images[sample["index"]]).all()
        assert isinstance(sample["label"], int)
    batch = next(iter(StreamingDataset(written.path, batch_size=5, fields=[], columns=["index"])))
    assert set(batch) == {"index"}


def test_fewer_layers_are_the_same_samples_at_lower_fidelity(written):
    whole = open_dataset(written.path)
    for layers in (1, 2, 3):
        coarse = whole.to_numpy(layers=layers, output="float32")
        for batch in StreamingDataset(written.path, batch_size=90, layers=layers):
            rows = [int(np.flatnonzero(coarse["index"] == i)[0]) for i in batch["index"]]
            assert (batch["image"].movedim(1, -1).numpy() == coarse["image"][rows]).all()


def test_a_batch_belongs_to_its_receiver(written):
    """Writing into one batch must not show in another, though batches may be views of chunks."""
    dataset = StreamingDataset(written.path, batch_size=7, output="source", columns=["index"])
    for batch in dataset:
        index = batch["index"].numpy().copy()
        assert (batch["image"].movedim(1, -1).numpy() == written.images[index]).all()
        batch["image"].fill_(7)
        batch["index"].fill_(-1)


def test_fields_of_several_shapes_and_kinds(tmp_path):
    rng = np.random.default_rng(0)
    samples = [
        {
            "picture": rng.integers(0, 256, (4 + i % 3, 5, 3)).astype("u1"),
            "vector": rng.normal(size=9).astype("f4"),
            "raw": rng.integers(-(2**31), 2**31, (2, 2)).astype("i4"),  # does not
            "flat": np.full(50, i // 9, "i8"),  # compresses well
            "index": i,
            "note": f"n{i}",
            "weight": i / 4,
        }
        for i in range(90)
    ]
    raw = {name: FieldSpec(quantizer="raw") for name in ("raw", "flat")}
    options = {"fields": raw, "chunk_nbytes": 2048, "shard_nbytes": 8192}
    with DatasetWriter(tmp_path / "mixed", **options) as writer:
        for sample in samples:
            writer.write(sample)
    for workers, shuffle in ((0, False), (0, True), (2, True)):
        dataset = StreamingDataset(
            tmp_path / "mixed", batch_size=8, shuffle=shuffle, output="source"
        )
        for batch in StreamingLoader(dataset, num_workers=workers):
            assert batch["raw"].is_contiguous()
            assert batch["raw"].data_ptr() % 4 == 0
            for row, i in enumerate(batch["index"].tolist()):
                picture = batch["picture"][row].movedim(-3, -1).numpy()
                assert (picture == samples[i]["picture"]).all()
                assert (batch["raw"][row].numpy() == samples[i]["raw"]).all()
                assert (batch["flat"][row].numpy() == samples[i]["flat"]).all()
                assert np.abs(batch["vector"][row].numpy() - samples[i]["vector"]).max() < 0.05
                assert batch["note"][row] == samples[i]["note"]
                assert batch["weight"][row] == samples[i]["weight"]


def _add_one(batch: dict[str, Any]) -> dict[str, Any]:
    return {**batch, "index": batch["index"] + 1}


def test_transform_sees_whole_batches(written):
    dataset = StreamingDataset(written.path, batch_size=64, transform=_add_one, fields=[])
    assert sorted(indices(dataset)) == list(range(1, SAMPLE_COUNT + 1))


# Shuffle quality -------------------------------------------------------------------------------


def label_entropy(labels: list[int]) -> float:
    """Mean entropy in bits of the labels of windows of 256 samples."""
    values = []
    for start in range(0, len(labels) - 255, 256):
        share = np.bincount(labels[start : start + 256]) / 256
        share = share[share > 0]
        values.append(float(-(share * np.log2(share)).sum()))
    return float(np.mean(values))


@pytest.fixture(scope="module")
def sorted_source(tmp_path_factory) -> tuple[Path, Path]:
    """Twenty sorted classes, written by default and with their order kept."""
    folder = tmp_path_factory.mktemp("sorted")
    for name, shuffle in (("default", True), ("kept", False)):
        with DatasetWriter(
            folder / name, shuffle=shuffle, chunk_nbytes=2048, shard_nbytes=64 << 10
        ) as writer:
            rng = np.random.default_rng(0)
            for number in range(6000):
                image = rng.integers(0, 256, (4, 4, 3)).astype("u1")
                writer.write({"image": image, "label": number // 300})
    return folder / "default", folder / "kept"


def test_shuffling_a_class_sorted_source_is_as_good_as_a_true_shuffle(sorted_source):
    true = np.random.default_rng(1).permutation(np.arange(6000) // 300).tolist()
    expected = label_entropy(true)
    found = {}
    for path in sorted_source:
        dataset = StreamingDataset(path, batch_size=64, shuffle=True, fields=[])
        found[path.name] = label_entropy([x for b in dataset for x in b["label"].tolist()])
    # Kept in the order of its classes on disk, only a window of chunks mixes: measurably worse.
    assert abs(found["default"] / expected - 1) < 0.02, (found, expected)
    assert found["kept"] > 0.5 * expected, (found, expected)


# Errors ----------------------------------------------------------------------------------------


@pytest.fixture
def damaged(written, tmp_path) -> Path:
    """A copy with one byte changed in the last chunk of a shard."""
    import shutil

    shutil.copytree(written.path, tmp_path / "damaged")
    dataset = open_dataset(tmp_path / "damaged")
    shard = dataset.shard(1)
    at = shard.chunk_range(len(shard.chunks) - 1)[1] - 5
    path = tmp_path / "damaged" / shard.path
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)
    return tmp_path / "damaged"


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("prefetch", [0, 4])
def test_damage_reaches_the_training_loop_with_its_type_and_place(damaged, workers, prefetch):
    dataset = StreamingDataset(damaged, batch_size=32, prefetch=prefetch)
    batches = iter(StreamingLoader(dataset, num_workers=workers))
    assert len(next(batches)["index"]) == 32
    place = r"shard blobs/.*chunk \d+: segment .*offset \d+"
    with pytest.raises(CorruptShardError, match=place) as caught:
        list(batches)
    if not workers:
        assert (caught.value.chunk, caught.value.block) != (None, None)
        assert caught.value.shard
        assert caught.value.offset


def test_other_data_under_right_checksums_is_told(written, tmp_path):
    forged = forge(written, tmp_path / "forged")
    with pytest.raises(CorruptShardError, match=r"SHA-256 differs.*cannot be trusted"):
        list(StreamingDataset(forged, batch_size=32))


def test_damage_in_a_layer_that_is_not_asked_for_does_not_matter(damaged):
    dataset = StreamingDataset(damaged, batch_size=32, layers=1)
    assert sorted(indices(dataset)) == list(range(SAMPLE_COUNT))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_missing_shard_and_a_dying_server_are_told(written, dsq_url, tmp_path, workers):
    with FaultProxy(dsq_url) as proxy:
        dataset = StreamingDataset(proxy.url, batch_size=32, options=FAST)
        proxy.faults.cut_every = 1
        with pytest.raises(FetchError, match=r"http://127.*gave up after"):
            list(StreamingLoader(dataset, num_workers=workers))
    (tmp_path / "gone" / "snapshots").mkdir(parents=True)
    for name in ("dataset.json", f"snapshots/{dataset.snapshot.id}.json"):
        (tmp_path / "gone" / name).write_bytes((written.path / name).read_bytes())
    with pytest.raises(DatasetError, match=r"blobs/\w+\.dsq is missing"):
        list(StreamingLoader(StreamingDataset(tmp_path / "gone"), num_workers=workers))


def _fail(batch: dict[str, Any]) -> dict[str, Any]:
    raise ZeroDivisionError("in the transform")


@pytest.mark.parametrize("persistent", [False, True])
def test_an_error_of_the_transform_is_not_swallowed(written, persistent):
    dataset = StreamingDataset(written.path, batch_size=32, transform=_fail)
    loader = StreamingLoader(dataset, num_workers=2, persistent_workers=persistent)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError, match="in the transform"):
            list(loader)


def test_wrong_arguments_are_refused_at_once(written, monkeypatch):
    for wrong in (
        {"batch_size": 0},
        {"layers": 0},
        {"fields": ["nothing"]},
        {"columns": ["nothing"]},
        {"fields": [], "columns": []},
        {"even": "both"},
        {"output": "float16"},
        {"rank": 1},
        {"rank": 2, "world_size": 2},
        {"shuffle_window": 0},
        {"prefetch": -1},
        {"rate_limit": 0, "path_or_url": "http://127.0.0.1:9"},
    ):
        with pytest.raises(ValueError, match=r".{10,}"):
            StreamingDataset(**{"path_or_url": written.path, **wrong})
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert (StreamingDataset(written.path).rank, StreamingDataset(written.path).world_size) == (
        1,
        3,
    )
    monkeypatch.setenv("RANK", "3")
    with pytest.raises(ValueError, match="not a rank"):
        StreamingDataset(written.path)


# Fetching --------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_a_flipped_bit_on_the_link_costs_one_block(dsq_url, written, workers):
    with FaultProxy(dsq_url) as proxy:
        dataset = StreamingDataset(proxy.url, batch_size=64, options=FAST, prefetch=1)
        at = proxy.down_nbytes
        whole = sum(path.stat().st_size for path in written.shards)
        proxy.faults.flips = {at + whole // 3, at + whole // 2}
        batches = list(StreamingLoader(dataset, num_workers=workers))
        assert sorted(indices(batches)) == list(range(SAMPLE_COUNT))
        for batch in batches:
            bytes_again = (batch["image"].movedim(1, -1) * 255).round().numpy()
            assert (bytes_again == written.images[batch["index"]]).all()
        if not workers:
            requests = len(proxy.requests)
            # Two for the metadata, a head for each shard, a prefix for each chunk, two blocks.
            chunks = dataset.snapshot.chunk_count
            assert requests == 2 + len(written.shards) + chunks + 2
            extra = proxy.down_nbytes - at - whole
            assert extra < 2 * 4096 + requests * 700


def test_a_prefix_of_layers_is_all_that_crosses_the_link(dsq_url, written):
    received = {}
    for layers in (1, 2, None):
        with FaultProxy(dsq_url) as proxy:
            dataset = StreamingDataset(proxy.url, batch_size=64, layers=layers, options=FAST)
            before = proxy.down_nbytes
            assert len(indices(dataset)) == SAMPLE_COUNT
            received[layers] = proxy.down_nbytes - before
    sizes = open_dataset(written.path).snapshot.segment_nbytes
    heads = 700 * (dataset.snapshot.chunk_count + 2 * len(written.shards))
    for layers, stop in ((1, 2), (2, 3), (None, 4)):
        assert sum(sizes[:stop]) <= received[layers] < sum(sizes[:stop]) + heads + 8000


def test_the_first_batch_is_there_long_before_the_first_shard(dsq_url, written):
    with FaultProxy(dsq_url) as proxy:
        dataset = StreamingDataset(proxy.url, batch_size=16, options=FAST)
        before = proxy.down_nbytes
        proxy.faults.stall_at = before + 60_000
        batches = iter(dataset)
        first = next(batches)
        assert len(first["index"]) == 16
        assert proxy.down_nbytes - before < 80_000 < written.shards[0].stat().st_size
        batches.close()


def test_a_lone_reader_fetches_no_head_before_its_time(dsq_url, written):
    with FaultProxy(dsq_url) as proxy:
        dataset = StreamingDataset(proxy.url, batch_size=8, options=FAST, prefetch=0, shuffle=True)
        before = len(proxy.requests)
        next(iter(dataset))
        assert len(proxy.requests) - before <= 4


def test_the_rate_limit_is_shared_by_workers(dsq_url):
    import time

    dataset = StreamingDataset(dsq_url, batch_size=64, rate_limit=600_000, options=FAST)
    started_s = time.monotonic()
    list(StreamingLoader(dataset, num_workers=3))
    nbytes = dataset.snapshot.nbytes
    # Each worker may burst once at its start.
    assert time.monotonic() - started_s > (nbytes - 3 * 70_000) / 600_000


# Copies ----------------------------------------------------------------------------------------


def test_a_dataset_may_be_pickled_and_copied(written):
    dataset = StreamingDataset(written.path, batch_size=64, shuffle=True, fields=[])
    first = indices(dataset)
    for twin in (pickle.loads(pickle.dumps(dataset)), copy.deepcopy(dataset)):
        assert twin.epoch == 1
        twin.set_epoch(0)
        assert indices(twin) == first
    assert dataset.epoch == 1


def test_workers_may_be_spawned(written):
    dataset = StreamingDataset(written.path, batch_size=64, shuffle=True, fields=[])
    loader = StreamingLoader(dataset, num_workers=1, multiprocessing_context="spawn")
    assert sorted(indices(loader)) == list(range(SAMPLE_COUNT))
    assert len({len(batch["label"]) for batch in loader}) <= 2
    assert CLASS_COUNT == 6
