"""Hostile bytes in every decoder: typed errors and nothing else, in every build of the kernels.

Each payload is a sound chunk, model, shard, snapshot or key table with a few edits, made from a
seed and a number: a failure says how to repeat it. Everyday runs repeat the same payloads; soaking
takes new ones (DSQ_FUZZ_SEED repeats a run).
"""

import importlib.util
import os
import random
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz_corpus import write_corpus
from fuzz_mutations import mutate
from fuzz_targets import load_seeds, outcome
from fuzz_worker import WEIGHTS
from fuzzing import (
    ROOT,
    SUPPORT,
    Run,
    fuzz,
    payload_counts,
    sanitizer_environment,
    stale_build,
)
from kernel_builds import built_kernels

SOAK = os.environ.get("DSQ_SOAK") == "1"
SEED = int(os.environ.get("DSQ_FUZZ_SEED", time.time_ns() % (1 << 32) if SOAK else 0))
CHECKED, SANITIZED = (ROOT / "build" / mode for mode in ("checked", "sanitized"))
PROCESSES = max(2, os.cpu_count() or 1) if SOAK else 2


def count(everyday, soak):
    """Payloads of a run."""
    return soak if SOAK else everyday


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus") / "seeds")


@pytest.fixture
def tell(capsys, request):
    """Say what a long run has done, captured or not."""

    def write(text):
        if SOAK:
            with capsys.disabled():
                sys.stdout.write(f"\n{request.node.name}: {text}\n")

    return write


def check(findings, payloads, tell):
    tell(f"seed {SEED}: {findings.summary}")
    assert not findings.failures, "\n\n".join(findings.failures[:10])
    assert findings.payloads == payloads
    # Every target had its share.
    assert set(payload_counts(findings.outcomes)) == set(WEIGHTS)


def test_most_seeds_decode_as_they_are(corpus):
    seeds = [s for s in load_seeds(corpus) if not s.target.endswith("model")]
    refused = [s.name for s in seeds if outcome(s, s.parts) != "accepted"]
    assert len(refused) < len(seeds) // 20, refused
    assert {seed.target for seed in load_seeds(corpus)} == set(WEIGHTS)


def test_typed_errors_only(corpus, tmp_path, tell):
    payloads = count(20_000, 1_000_000)
    run = Run(payloads, SEED, processes=PROCESSES, timeout_s=count(300, 3600))
    findings = fuzz(corpus, tmp_path, run)
    check(findings, payloads, tell)
    assert findings.compiled or not built_kernels(ROOT)
    # Payloads that are refused at the door would prove little.
    for target in ("block", "pixels", "patch", "shard", "dataset"):
        assert findings.outcomes[f"{target}: accepted"] > payloads // 1000
        assert findings.outcomes[f"{target}: too large"] < payloads // 100


def test_typed_errors_only_without_kernels(corpus, tmp_path, tell):
    payloads = count(200, 20_000)
    run = Run(
        payloads, SEED + 1, env={"DSQ_KERNELS": "plain"}, slowness=4, processes=PROCESSES,
        timeout_s=count(300, 3600),
    )  # fmt: skip
    findings = fuzz(corpus, tmp_path, run)
    check(findings, payloads, tell)
    assert not findings.compiled


def test_no_index_leaves_its_array(corpus, tmp_path, tell):
    """Kernels with bounds checks, whose findings would otherwise only be printed."""
    if reason := stale_build("checked"):
        pytest.skip(reason)
    payloads = count(4_000, 200_000)
    run = Run(
        payloads, SEED + 2, kernels=CHECKED, slowness=4, processes=PROCESSES,
        timeout_s=count(300, 3600),
    )  # fmt: skip
    findings = fuzz(corpus, tmp_path, run)
    check(findings, payloads, tell)
    assert findings.compiled


def test_sanitizers_find_nothing(corpus, tmp_path, tell):
    """Bounds checks, and sanitizers of addresses and of undefined behaviour."""
    if reason := stale_build("sanitized"):
        pytest.skip(reason)
    env = sanitizer_environment()
    if not env:
        pytest.skip("gcc has no libasan and libubsan here")
    payloads = count(1_000, 100_000)
    # The sanitizer of addresses maps terabytes and sees to the size of allocations itself.
    run = Run(
        payloads, SEED + 3, kernels=SANITIZED, memory_mib=0, slowness=10,
        processes=PROCESSES, env=env, timeout_s=count(300, 3600),
    )  # fmt: skip
    findings = fuzz(corpus, tmp_path, run)
    check(findings, payloads, tell)
    assert findings.compiled


def test_the_sanitized_build_has_sanitizers():
    if reason := stale_build("sanitized"):
        pytest.skip(reason)
    for path in built_kernels(SANITIZED):
        assert b"__asan_report_load" in path.read_bytes()
        assert b"__ubsan_handle" in path.read_bytes()


@pytest.mark.skipif(not SOAK, reason="takes minutes; DSQ_SOAK=1 runs it")
@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="atheris is not installed (it has wheels for CPython 3.11 to 3.13 on Linux x86-64)",
)
def test_no_path_that_coverage_finds_fails(corpus, tmp_path, tell):
    """atheris: payloads that reach new lines of the Python layers become seeds themselves."""
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    checked = "" if stale_build("checked") else str(CHECKED)
    command = [
        sys.executable, str(SUPPORT / "fuzz_atheris.py"), str(corpus), str(inputs), checked,
        "-runs=100000", "-max_total_time=600", "-timeout=60", "-rss_limit_mb=2048",
        "-max_len=40000", f"-seed={SEED % (1 << 31) or 1}", f"-artifact_prefix={tmp_path}/",
    ]  # fmt: skip
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-8000:]
    last = done.stderr.splitlines()[-1]
    tell(f"seed {SEED}: {last}")
    assert last.startswith("Done")


@pytest.fixture(scope="module")
def seeds(corpus):
    return load_seeds(corpus)


@given(data=st.data())
def test_what_hypothesis_thinks_of_gives_typed_errors(seeds, data):
    """As the others, but a failure is made smaller until nothing can be left out."""
    seed = data.draw(st.sampled_from(seeds))
    parts = list(seed.parts)
    for _ in range(data.draw(st.integers(1, 3))):
        number = data.draw(st.integers(0, len(parts) - 1))
        octets = bytearray(parts[number])
        at = data.draw(st.integers(0, len(octets)))
        stop = at + data.draw(st.sampled_from([0, 1, 1, 1, 4, len(octets)]))
        octets[at:stop] = data.draw(st.binary(max_size=9))
        parts[number] = bytes(octets)
    outcome(seed, parts)
    for chance in range(8):
        outcome(seed, mutate(random.Random(chance), seed.kinds, tuple(parts)))
