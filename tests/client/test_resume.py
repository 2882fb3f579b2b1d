"""Going on in mid-epoch: every cut, every loader, every change of workers and ranks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from client_data import FAST, SAMPLE_COUNT, Written, write_dataset
from dsqclient import StreamingDataset, StreamingLoader
from dsqclient.epochs import EpochClock, Start
from dsqclient.shared_json import SharedJson

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning"),  # of torchdata
]
WORKERS = [0, 1, 3]
TIMEOUT_S = 60


def make_dataset(path: Path | str, **options: Any) -> StreamingDataset:
    defaults = {"batch_size": 16, "shuffle": True, "fields": [], "columns": ["index"]}
    return StreamingDataset(path, **{**defaults, **options})


def indices(batches) -> list[list[int]]:
    return [batch["index"].tolist() for batch in batches]


def take(loader, count: int) -> list[list[int]]:
    iterator = iter(loader)
    return [next(iterator)["index"].tolist() for _ in range(count)]


def through_json(state: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(state)
    assert len(text) < 2000
    return json.loads(text)


# StreamingLoader -------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_any_cut_then_another_leave_the_same_batches(written, workers, persistent, shuffle):
    persistent = persistent and workers > 0

    def make() -> StreamingLoader:
        dataset = make_dataset(written.path, shuffle=shuffle, seed=5)
        return StreamingLoader(dataset, num_workers=workers, persistent_workers=persistent)

    reference = make()
    expected = [indices(reference), indices(reference)]
    loader, received = make(), []
    total = len(expected[0])
    # Cut in the first epoch, after nothing, in the middle of it again, at its end; then go on.
    for count in (0, 1, 9, total - 13, 0):
        received += take(loader, count)
        state = through_json(loader.state_dict())
        loader = make()
        loader.load_state_dict(state)
        assert loader.state_dict() == state
    received += indices(loader)
    assert received == expected[0]
    assert indices(loader) == expected[1]


@pytest.mark.parametrize("workers", WORKERS)
def test_the_state_counts_what_was_received_not_what_was_read_ahead(written, workers):
    dataset = make_dataset(written.path)
    options = {"prefetch_factor": 4} if workers else {}
    loader = StreamingLoader(dataset, num_workers=workers, **options)
    for number, _ in enumerate(loader, start=1):
        state = loader.state_dict()
        assert sum(state["stages"][-1]["received"]) == number
    assert loader.state_dict() == state
    again = StreamingLoader(make_dataset(written.path), num_workers=workers)
    again.load_state_dict(state)
    assert indices(again) == []  # nothing of that epoch is left
    assert again.state_dict()["epoch"] == 0
    assert len(indices(again)) == len(again)


def test_a_loader_may_be_wound_back_while_its_workers_live(written):
    loader = StreamingLoader(make_dataset(written.path), num_workers=2, persistent_workers=True)
    iterator = iter(loader)
    first = [next(iterator)["index"].tolist() for _ in range(5)]
    state = loader.state_dict()
    rest = indices(iterator)
    loader.load_state_dict(state)
    assert indices(loader) == rest
    second = indices(loader)
    loader.set_epoch(0)
    assert indices(loader) == first + rest
    assert indices(loader) == second


@pytest.mark.parametrize("before", [0, 1, 3])
@pytest.mark.parametrize("after", [0, 2, 3])
@pytest.mark.parametrize("batch_size", [16, 10, None])
def test_another_number_of_workers_loses_and_repeats_nothing(written, before, after, batch_size):
    loader = StreamingLoader(make_dataset(written.path), num_workers=before)
    received = take(loader, 11)
    resumed = StreamingLoader(make_dataset(written.path, batch_size=batch_size), num_workers=after)
    resumed.load_state_dict(through_json(loader.state_dict()))
    iterator = iter(resumed)
    for _ in range(3):
        index = next(iterator)["index"]
        received.append(index.tolist() if batch_size else [index])
    third = StreamingLoader(make_dataset(written.path), num_workers=before)
    third.load_state_dict(through_json(resumed.state_dict()))
    received += indices(third)
    assert Counter(i for batch in received for i in batch) == Counter(range(SAMPLE_COUNT))
    assert sorted(i for batch in indices(third) for i in batch) == list(range(SAMPLE_COUNT))


@pytest.mark.parametrize("even", ["drop", "pad", None])
def test_another_number_of_ranks_goes_on_from_the_state_of_one(written, even):
    """Rank 0 saves; all ranks of another world load it."""
    worlds, state, found = [3, 2, 1], None, Counter()
    for world_size in worlds:
        loaders = []
        for rank in range(world_size):
            dataset = make_dataset(written.path, rank=rank, world_size=world_size, even=even)
            loaders.append(StreamingLoader(dataset, num_workers=0))
            if state is not None:
                loaders[-1].load_state_dict(state)
        if world_size > 1:
            batches = [batch for loader in loaders for batch in take(loader, 4)]
        else:
            batches = indices(loaders[0])
        found.update(i for batch in batches for i in batch)
        state = through_json(loaders[0].state_dict())
    assert found == Counter(range(SAMPLE_COUNT))
    assert len(state["stages"]) == 3


def test_states_of_something_else_are_refused(written, tmp_path):
    loader = StreamingLoader(make_dataset(written.path))
    take(loader, 2)
    state = through_json(loader.state_dict())
    other = write_dataset(tmp_path / "other", 100, seed=9)
    with pytest.raises(ValueError, match=r"the state is of snapshot \w+, the dataset has"):
        StreamingLoader(make_dataset(other.path)).load_state_dict(state)
    for name, value in (("seed", 1), ("shuffle", False), ("shuffle_window", 3)):
        wrong = make_dataset(written.path, **{name: value})
        with pytest.raises(ValueError, match=f"the state has {name}="):
            wrong.load_state_dict(state)
    dataset = make_dataset(written.path)
    for wrong_state in ({}, {"epoch": 0}, {**state, "stages": []}, {**state, "epoch": "x"}):
        with pytest.raises(ValueError, match="state"):
            dataset.load_state_dict(wrong_state)
    with pytest.raises(ValueError, match="stage"):
        dataset.load_state_dict({**state, "stages": [{}]})
    with pytest.raises(ValueError, match="worker 1 of"):
        dataset.load_state_dict({**state, "worker": 1})


def test_a_moved_dataset_and_another_fidelity_go_on(written, dsq_url):
    loader = StreamingLoader(make_dataset(written.path))
    received = take(loader, 7)
    resumed = StreamingLoader(make_dataset(dsq_url, layers=1, fields=None, options=FAST))
    resumed.load_state_dict(through_json(loader.state_dict()))
    received += indices(resumed)
    assert sorted(i for batch in received for i in batch) == list(range(SAMPLE_COUNT))


def test_wrong_loader_options_are_refused(written):
    dataset = make_dataset(written.path)
    for wrong in ({"batch_size": 4}, {"shuffle": True}, {"drop_last": True}):
        with pytest.raises(ValueError, match="is an argument of StreamingDataset"):
            StreamingLoader(dataset, **wrong)
    with pytest.raises(ValueError, match="in_order"):
        StreamingLoader(dataset, in_order=False)
    with pytest.raises(ValueError, match="transform"):
        StreamingLoader(dataset, collate_fn=torch.stack)


# Without StreamingLoader -----------------------------------------------------------------------


def test_the_dataset_itself_resumes_in_one_process(written):
    dataset = make_dataset(written.path)
    expected = indices(dataset)
    dataset.set_epoch(0)
    iterator = iter(DataLoader(dataset, batch_size=None))
    received = [next(iterator)["index"].tolist() for _ in range(5)]
    again = make_dataset(written.path)
    again.load_state_dict(through_json(dataset.state_dict()))
    received += take(again, 4)
    third = make_dataset(written.path)
    third.load_state_dict(through_json(again.state_dict()))
    assert received + indices(third) == expected


def test_a_plain_loader_with_workers_names_those_that_can_resume(written):
    dataset = make_dataset(written.path)
    iterator = iter(DataLoader(dataset, batch_size=None, num_workers=2))
    next(iterator)
    with pytest.raises(RuntimeError, match=r"StreamingLoader.*StatefulDataLoader"):
        dataset.state_dict()
    del iterator
    list(dataset)  # in this process again
    assert dataset.state_dict()["stages"]


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("batch_size", [16, None])
def test_torchdatas_loader_resumes_twice(written, workers, persistent, batch_size):
    persistent = persistent and workers > 0

    def make() -> StatefulDataLoader:
        dataset = make_dataset(written.path, batch_size=batch_size)
        return StatefulDataLoader(
            dataset, batch_size=None, num_workers=workers, persistent_workers=persistent
        )

    def plain(items) -> list[Any]:
        return [item["index"].tolist() if batch_size else item["index"] for item in items]

    reference = make()
    expected = [plain(reference), plain(reference)]
    loader, received = make(), []
    for count in (7, 9):
        iterator = iter(loader)
        received += plain(next(iterator) for _ in range(count))
        state = loader.state_dict()
        loader = make()
        loader.load_state_dict(state)
    received += plain(loader)
    assert received == expected[0]
    assert plain(loader) == expected[1]


# Killed ----------------------------------------------------------------------------------------

TRAINER = """
import json, os, sys
from dsqclient import StreamingDataset, StreamingLoader

url, workers, state_path, log_path = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
dataset = StreamingDataset(url, batch_size=16, shuffle=True, columns=["index"])
loader = StreamingLoader(dataset, num_workers=workers)
if os.path.exists(state_path):
    loader.load_state_dict(json.load(open(state_path)))
for batch in loader:
    # One atomic step: the batch was used, and the state says so.
    step = {"state": loader.state_dict(), "index": batch["index"].tolist()}
    with open(log_path, "a") as log:
        log.write(json.dumps(step) + "\\n")
    with open(state_path + ".new", "w") as file:
        json.dump(step["state"], file)
    os.replace(state_path + ".new", state_path)
    print("step", flush=True)
print("done", flush=True)
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_kill_minus_9_in_mid_epoch_then_resume_twice(dsq_url, tmp_path, workers):
    script = tmp_path / "trainer.py"
    script.write_text(TRAINER)
    state, log = tmp_path / "state.json", tmp_path / "log"
    command = [sys.executable, str(script), dsq_url, str(workers), str(state), str(log)]
    for steps in (4, 9, None):
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        watchdog = threading.Timer(TIMEOUT_S, process.kill)
        watchdog.start()
        try:
            if steps is None:
                out, _ = process.communicate(timeout=TIMEOUT_S)
                assert out.endswith("done\n")
                assert process.returncode == 0
            else:
                for _ in range(steps):
                    assert process.stdout.readline() == "step\n"
        finally:
            os.killpg(process.pid, signal.SIGKILL) if steps is not None else process.kill()
            process.wait(TIMEOUT_S)
            process.stdout.close()
            watchdog.cancel()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    # A kill between log and state repeats a step, which its state shows.
    used = {json.dumps(line["state"]["stages"]): line["index"] for line in lines}
    assert Counter(i for batch in used.values() for i in batch) == Counter(range(SAMPLE_COUNT))
    assert len(lines) - len(used) <= 2


# Clocks ----------------------------------------------------------------------------------------


def test_workers_of_one_iteration_get_one_epoch_and_the_next_ones_the_next():
    clock = EpochClock()
    assert [clock.begin("a", workers=3).epoch for _ in range(1)] == [0]
    twin = EpochClock.__new__(EpochClock)  # as another worker, forked before
    twin.__dict__.update(clock.__dict__, _last=None)
    assert twin.begin("a", workers=3).epoch == 0
    assert twin.begin("a", workers=3).epoch == 1  # it lives on
    assert clock.begin("a", workers=3).epoch == 1
    assert clock.begin("b", workers=3).epoch == 2  # new workers
    clock.set_next(Start(7))
    assert clock.begin("b", workers=3).epoch == 7
    twin._last = None
    assert twin.begin("b", workers=3).epoch == 7
    assert clock.begin(None, workers=0).epoch == 8
    assert clock.begin(None, workers=0).epoch == 9


def test_shared_json_is_replaced_whole():
    shared = SharedJson({"a": "long" * 100})
    with shared.locked():
        shared.write({"b": 1})
        assert shared.read() == {"b": 1}


def test_written_is_what_these_tests_think(written: Written):
    assert len(written.images) == SAMPLE_COUNT
