"""`dsq verify`: every byte counts, every rule is checked, and one problem hides no other."""

import hashlib
import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow")

import pyarrow as pa
import pyarrow.parquet as pq

from dsqformat import DatasetWriter, FieldSpec, wire
from dsqformat.bytesource import LocalSource
from dsqformat.canonical import canonical_json
from dsqformat.dataset.key_table import encode_key_table, key_hashes
from dsqformat.dataset.verify import verify_dataset, verify_file
from inputs import make_pictures, run_dsq, spawn_dsq
from reseal import damaged_shards, reseal


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A dataset with two fields, all types of column, keys, several chunks and shards."""
    path = tmp_path_factory.mktemp("sound") / "d"
    rng = np.random.default_rng(0)
    pictures = make_pictures(60, 16)
    fields = {"image": FieldSpec(), "vector": FieldSpec("lsq", 6, (3,))}
    with DatasetWriter(path, fields=fields, chunk_nbytes=6000, shard_nbytes=20000) as writer:
        for n, picture in enumerate(pictures):
            sample = {
                "image": picture,
                "vector": rng.normal(size=5).astype("f4"),
                "label": n % 3,
                "weight": float("nan") if n == 7 else n / 7,
                "text": f"é{n}",
                "blob": bytes([n]),
            }
            width = 0 if n % 20 == 5 else 3 + n % 6
            writer.write(sample, key=f"k{n}", bit_width=width)
    return path


@pytest.fixture
def dataset(sound, tmp_path):
    shutil.copytree(sound, tmp_path / "d")
    return tmp_path / "d"


def verify(path, **options):
    return verify_dataset(LocalSource(path), **options)


def blob(path, role):
    found = next(b for b in read_snapshot(path)["blobs"] if b["role"] == role)
    return path / "blobs" / f"{found['digest']}.{found['suffix']}"


def shards(path):
    return [path / "blobs" / f"{s['digest']}.dsq" for s in read_snapshot(path)["shards"]]


def read_snapshot(path):
    refs = json.loads((path / "dataset.json").read_bytes())["refs"]
    return json.loads((path / "snapshots" / f"{refs['main']}.json").read_bytes())


def publish(path, snapshot):
    """Write a snapshot that may be wrong, with a sound name, and point main to it."""
    data = canonical_json(snapshot)
    sid = hashlib.sha256(data).hexdigest()
    (path / "snapshots" / f"{sid}.json").write_bytes(data)
    refs = {"format": "dsq-dataset", "refs": {"main": sid}, "version": 1}
    (path / "dataset.json").write_bytes(canonical_json(refs))


def put(path, data, suffix):
    digest = hashlib.sha256(data).hexdigest()
    (path / "blobs" / f"{digest}.{suffix}").write_bytes(data)
    return digest


def replace_blob(path, role, data):
    """Give a role other content, with sound digests."""
    snapshot = read_snapshot(path)
    entry = next(b for b in snapshot["blobs"] if b["role"] == role)
    entry["digest"], entry["nbytes"] = put(path, data, entry["suffix"]), len(data)
    publish(path, snapshot)


def replace_shard(path, number, data):
    """Give a shard other content, with sound digests."""
    snapshot = read_snapshot(path)
    entry = snapshot["shards"][number]
    head = data[: int.from_bytes(data[32:40], "little")]
    entry |= {
        "digest": put(path, data, "dsq"),
        "nbytes": len(data),
        "head_digest": hashlib.sha256(head).hexdigest(),
        "head_nbytes": len(head),
    }
    snapshot["nbytes"] = sum(shard["nbytes"] for shard in snapshot["shards"])
    publish(path, snapshot)


def the_problem(report, section):
    assert [p.section for p in report.problems] == [section], [str(p) for p in report.problems]
    return report.problems[0]


# Sound -----------------------------------------------------------------------------------------


def test_a_sound_dataset(sound):
    report = verify(sound)
    assert report.ok, [str(problem) for problem in report.problems]
    assert report.notes == []
    snapshot = read_snapshot(sound)
    assert len(snapshot["shards"]) > 1
    assert report.sample_count == snapshot["sample_count"] == 57
    assert report.chunk_count == snapshot["chunk_count"] > len(snapshot["shards"])
    assert report.segment_count == report.chunk_count * len(snapshot["segment_nbytes"])
    assert report.nbytes == snapshot["nbytes"] + sum(b["nbytes"] for b in snapshot["blobs"])


def test_single_shards_and_progress(sound):
    told = []
    for path in shards(sound):
        report = verify_file(
            LocalSource(path.parent), path.name, on_progress=lambda *step: told.append(step)
        )
        assert report.ok
        assert report.nbytes == path.stat().st_size
        assert told[-1] == ("verify", path.stat().st_size, path.stat().st_size)


def test_files_without_a_ref_are_noted(dataset):
    (dataset / "blobs" / f"{'0' * 64}.dsq").write_bytes(b"x")
    report = verify(dataset)
    assert report.ok
    assert report.notes == [
        f"no ref reaches 1 files, such as blobs/{'0' * 64}.dsq; `dsq gc` removes them"
    ]


def test_conformance_vectors(request):
    vectors = request.config.rootpath / "spec" / "vectors" / "v1"
    valid, invalid = (sorted((vectors / kind).glob("*.dsq")) for kind in ("valid", "invalid"))
    if not valid or not invalid:
        pytest.skip("the conformance vectors are not generated")
    for path in valid:
        report = verify_file(LocalSource(path.parent), path.name)
        assert report.ok, (path.name, [str(problem) for problem in report.problems])
    for path in invalid:
        report = verify_file(LocalSource(path.parent), path.name)
        assert not report.ok, path.name


# Damage ----------------------------------------------------------------------------------------


def test_any_changed_byte_of_any_file_is_found(sound, tmp_path):
    # All files but dataset.json, whose refs may have any name.
    files = sorted(path for path in sound.glob("*/*") if path.name[0] != ".")
    source = random.Random(1)
    for number, path in enumerate(source.choices(files, k=40)):
        copy = tmp_path / str(number)
        shutil.copytree(sound, copy)
        target = copy / path.relative_to(sound)
        data = bytearray(target.read_bytes())
        data[source.randrange(len(data))] ^= 1 << source.randrange(8)
        target.write_bytes(data)
        report = verify(copy)
        assert not report.ok, (target.name, len(data))
        assert all(p.path and p.section and "\n" not in str(p) for p in report.problems)


def test_every_changed_byte_of_a_shard_is_found(sound, tmp_path):
    path = min(shards(sound), key=lambda path: path.stat().st_size)
    whole = path.read_bytes()
    source = random.Random(2)
    places = sorted({*range(64), *source.sample(range(64, len(whole)), 150)})
    for at in places:
        data = bytearray(whole)
        data[at] ^= 1 << source.randrange(8)
        (tmp_path / "a.dsq").write_bytes(data)
        assert not verify_file(LocalSource(tmp_path), "a.dsq").ok, at


def test_every_cut_of_a_shard_is_found(sound, tmp_path):
    path = min(shards(sound), key=lambda path: path.stat().st_size)
    whole = path.read_bytes()
    for end in sorted({0, 1, 8, 63, 64, 200, len(whole) - 1, *range(0, len(whole), 997)}):
        (tmp_path / "a.dsq").write_bytes(whole[:end])
        assert not verify_file(LocalSource(tmp_path), "a.dsq").ok, end
    (tmp_path / "a.dsq").write_bytes(whole + b"\0")
    assert not verify_file(LocalSource(tmp_path), "a.dsq").ok


def test_all_problems_are_listed(dataset):
    first, second = shards(dataset)[:2]
    data = bytearray(first.read_bytes())
    data[-100] ^= 1  # keys
    data[int.from_bytes(data[32:40], "little") + 5] ^= 1  # index of chunk 0
    first.write_bytes(data)
    second.unlink()
    blob(dataset, "keys").write_bytes(b"short")
    report = verify(dataset)
    assert {p.path for p in report.problems} == {
        str(path.relative_to(dataset)) for path in (first, second, blob(dataset, "keys"))
    }
    by_section = {p.section for p in report.problems if p.path == str(first.relative_to(dataset))}
    assert by_section == {"13", "7", "5.2", "12"}
    assert report.sample_count > 0
    crc = next(p for p in report.problems if p.section == "7")
    assert crc.offset == int.from_bytes(data[32:40], "little")
    assert "chunk 0: segment 0: block 0: CRC-32C" in crc.message


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("sample_count", 58),
        ("chunk_count", 1),
        ("nbytes", 3),
        ("segment_nbytes", None),
        ("schema", None),
    ],
)
def test_snapshots_that_contradict_their_shards(dataset, member, value):
    snapshot = read_snapshot(dataset)
    if member == "segment_nbytes":
        value = [n + 1 for n in snapshot[member]]
    if member == "schema":
        value = json.loads(json.dumps(snapshot["schema"]).replace('"text"', '"test"'))
    publish(dataset, snapshot | {member: value})
    report = verify(dataset)
    assert not report.ok
    assert {p.section for p in report.problems} <= {"13.1", "13.2"}


@pytest.mark.parametrize(
    "member", ["head_digest", "head_nbytes", "sample_count", "chunk_count", "segment_nbytes"]
)
def test_shard_entries_that_contradict_the_shard(dataset, member):
    snapshot = read_snapshot(dataset)
    entry, other = snapshot["shards"][:2]
    if member == "head_digest":
        entry[member] = "0" * 64
    elif member == "head_nbytes":
        entry[member] -= 1
    elif member == "segment_nbytes":
        entry[member][1] += 1
        other[member][1] -= 1
    else:
        entry[member] += 1
        other[member] -= 1
        entry["chunk_samples"] = other["chunk_samples"] = []
    publish(dataset, snapshot)
    report = verify(dataset)
    assert any(p.section == "13.1" and member in p.message for p in report.problems)


def test_missing_snapshots_and_refs(dataset):
    refs = json.loads((dataset / "dataset.json").read_bytes())
    refs["refs"]["other"] = "0" * 64
    (dataset / "dataset.json").write_bytes(canonical_json(refs))
    problem = the_problem(verify(dataset), "13.1")
    assert problem.path == f"snapshots/{'0' * 64}.json"
    assert verify(dataset, refs=["main"]).ok


# Rules beyond checksums ------------------------------------------------------------------------


def test_a_zone_that_lies(dataset):
    with DatasetWriter(dataset / "small", table=False) as writer:
        for n in range(5):
            writer.write({"x": np.full((4, 4), n, "u1"), "label": n})
    path = shards(dataset / "small")[0]
    data = bytearray(path.read_bytes())
    head_nbytes = int.from_bytes(data[32:40], "little")
    start = bytes(data[:head_nbytes]).rindex((4).to_bytes(8, "little"))
    data[start] = 5
    replace_shard(dataset / "small", 0, reseal(bytes(data)))
    problem = the_problem(verify(dataset / "small"), "7")
    assert problem.message.endswith("zone of column 'label' is [0, 5], its values span [0, 4]")


def test_codes_above_the_largest_legal_one(tmp_path):
    with DatasetWriter(tmp_path / "d", fields=FieldSpec("lsq", 4, ()), coding="packed") as writer:
        writer.write({"x": np.array([-1, 1, 0.5, 0], "f4")})
    path = shards(tmp_path / "d")[0]
    data = path.read_bytes()
    data = data[:-1] + bytes([data[-1] | 0xF0])
    replace_shard(tmp_path / "d", 0, reseal(data))
    problem = the_problem(verify(tmp_path / "d"), "9")
    assert "with 1 layers" in problem.message


def keys_of(path):
    table = pq.read_table(blob(path, "samples")).to_pylist()
    return [row["key"] for row in table if row["position"] is not None]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda h, p: (h[:-1], p[:-1]), "56 entries for 57 samples"),
        (lambda h, p: (h, np.roll(p, 1)), "57 entries differ from the keys in the shards"),
        (lambda h, p: (h ^ np.uint64(1), p), "57 entries differ"),
        (lambda h, p: (np.append(h, h[:1]), np.append(p, p[:1])), "does not come after"),
    ],
)
def test_key_tables_that_are_wrong(dataset, change, says):
    hashes = key_hashes(keys_of(dataset))
    table = encode_key_table(*change(hashes, np.arange(len(hashes), dtype="u8")))
    replace_blob(dataset, "keys", table)
    report = verify(dataset)
    assert {p.section for p in report.problems} == {"13.3"}
    assert any(says in p.message for p in report.problems)


def test_a_key_table_in_another_order_or_with_used_spare_entries(dataset):
    data = bytearray(blob(dataset, "keys").read_bytes())
    swapped = bytearray(data)
    swapped[64:80], swapped[80:96] = data[80:96], data[64:80]
    spare = bytearray(data)
    spare[64 + 57 * 16] = 0
    for changed, says in [(swapped, "does not come after"), (spare, "are not all FF")]:
        page = changed[64 : 64 + 4092]
        changed[64 + 4092 :] = wire.crc32c(bytes(page)).to_bytes(4, "little")
        replace_blob(dataset, "keys", bytes(changed))
        report = verify(dataset)
        assert any(says in p.message for p in report.problems)


def test_a_key_table_that_is_missing_or_too_long(dataset):
    snapshot = read_snapshot(dataset)
    keys = blob(dataset, "keys").read_bytes()
    without = [b for b in snapshot["blobs"] if b["role"] != "keys"]
    publish(dataset, snapshot | {"blobs": without})
    report = verify(dataset)
    assert any("key table: None, keys in shards: True" in p.message for p in report.problems)
    publish(dataset, snapshot)
    replace_blob(dataset, "keys", keys + bytes(16))
    assert any("bytes, expected" in p.message for p in verify(dataset).problems)


def test_the_same_key_twice(tmp_path):
    for name in ("a", "b"):
        with DatasetWriter(tmp_path / name, table=False) as writer:
            writer.write({"x": np.zeros((4, 4), "u1")}, key="twin")
            writer.write({"x": np.ones((4, 4), "u1")}, key=name)
    one, two = (read_snapshot(tmp_path / name) for name in ("a", "b"))
    other = one["shards"][0] | two["shards"][0]
    shutil.copy(shards(tmp_path / "b")[0], tmp_path / "a" / "blobs")
    merged = one | {"shards": [one["shards"][0], other], "sample_count": 4, "chunk_count": 2}
    merged["nbytes"] = one["nbytes"] + two["nbytes"]
    pairs = zip(one["segment_nbytes"], two["segment_nbytes"], strict=True)
    merged["segment_nbytes"] = [a + b for a, b in pairs]
    publish(tmp_path / "a", merged)
    messages = [p.message for p in verify(tmp_path / "a").problems if p.section == "12"]
    assert len(messages) == 1
    assert messages[0].endswith("have the same key 'twin'")


def changed_table(table, name, change):
    values = table.column(name).to_pylist()
    change(values)
    at = table.schema.get_field_index(name)
    column = pa.array(values, table.schema.field(name).type)
    return table.set_column(at, table.schema.field(name), column)


def set_item(row, value):
    return lambda values: values.__setitem__(row, value)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("position", set_item(3, 4)),
        ("position", set_item(59, 57)),
        ("shard", set_item(40, 9)),
        ("chunk", set_item(40, 99)),
        ("row", set_item(5, None)),
        ("key", set_item(6, "other")),
        ("label", set_item(56, 7)),
        ("weight", set_item(8, 0.25)),
        ("text", set_item(9, "other")),
        ("blob", set_item(10, b"other")),
        ("image.bit_width", set_item(11, 1)),
        ("vector.bit_width", set_item(59, 4)),
        ("nbytes", set_item(12, 1)),
    ],
)
def test_rows_of_the_sample_table_that_are_wrong(dataset, tmp_path, name, change):
    table = pq.read_table(blob(dataset, "samples"))
    assert table.num_rows == 60
    pq.write_table(changed_table(table, name, change), tmp_path / "t.parquet")
    replace_blob(dataset, "samples", (tmp_path / "t.parquet").read_bytes())
    problem = the_problem(verify(dataset), "13.2")
    assert repr(name) in problem.message or name in problem.message


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda table: table.slice(0, 30), "the table ends after"),
        (lambda table: table.drop_columns(["text"]), "columns are"),
        (lambda table: pa.concat_tables([table, table.slice(0, 2)]), "more rows than samples"),
    ],
)
def test_sample_tables_of_another_shape(dataset, tmp_path, change, says):
    pq.write_table(change(pq.read_table(blob(dataset, "samples"))), tmp_path / "t.parquet")
    replace_blob(dataset, "samples", (tmp_path / "t.parquet").read_bytes())
    report = verify(dataset)
    assert {p.section for p in report.problems} == {"13.2"}
    assert says in report.problems[0].message


def test_a_sample_table_that_is_no_parquet(dataset):
    replace_blob(dataset, "samples", b"PAR1 something else PAR1")
    assert "not a readable Parquet file" in the_problem(verify(dataset), "13.2").message
    whole = bytearray(pq_bytes(dataset))
    whole[100:400] = bytes(300)
    replace_blob(dataset, "samples", bytes(whole))
    report = verify(dataset)
    assert not report.ok


def pq_bytes(path):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"position": list(range(9))}), sink)
    return sink.getvalue().to_pybytes()


# The command -----------------------------------------------------------------------------------


def test_the_command(sound, dataset, capsys):
    done = run_dsq(capsys, "verify", sound)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"{sound}: sound; checked 57 samples, ")
    shard = shards(dataset)[0]
    assert run_dsq(capsys, "verify", shard).code == 0
    assert run_dsq(capsys, "verify", dataset / "dataset.json").code == 0
    shard.write_bytes(shard.read_bytes()[:-1])
    done = run_dsq(capsys, "verify", dataset)
    assert done.code == 1
    assert "1 problem; checked" in done.out or "problems; checked" in done.out
    assert f"problem: blobs/{shard.name}: shard: " in done.err
    assert "(spec 5.1, byte " in done.err
    report = run_dsq(capsys, "verify", dataset, "--json")
    assert report.code == 1
    assert not report.json["ok"]
    assert report.json["problems"][0]["spec"] == "5.1"
    assert run_dsq(capsys, "verify", shard, "--json").code == 1


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("absent", "no dataset here: dataset.json is missing"),
        ("absent.dsq", "no dataset here"),
        ("ftp://x/y", "nothing installed opens ftp URLs"),
    ],
)
def test_nothing_to_verify(tmp_path, capsys, target, says):
    target = target if "://" in target else tmp_path / target
    assert says in run_dsq(capsys, "verify", target).error_line


def test_an_unknown_ref(sound, capsys):
    line = run_dsq(capsys, "verify", sound, "--ref", "other").error_line
    assert "no ref 'other'; there are ['main']" in line


def test_a_process_of_its_own_ends_with_code_1(dataset):
    blob(dataset, "keys").unlink()
    done = spawn_dsq("verify", dataset)
    assert done.code == 1
    assert "Traceback" not in done.err


def test_resealed_damage_is_reported_or_harmless_and_never_a_crash(sound, tmp_path):
    vectors = sorted(Path(__file__).parents[2].glob("spec/vectors/v1/valid/*.dsq"))
    whole = min(shards(sound), key=lambda path: path.stat().st_size).read_bytes()
    variants = damaged_shards(whole, 60, seed=3)
    for path in vectors:
        variants += damaged_shards(path.read_bytes(), 5, seed=4)
    found = 0
    for data in variants:
        (tmp_path / "a.dsq").write_bytes(data)
        found += not verify_file(LocalSource(tmp_path), "a.dsq").ok
    assert found > len(variants) // 2
