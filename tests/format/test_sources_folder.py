"""Folders of pictures: order, labels, orientation, modes, sizes, and what is refused."""

import io
import os
import struct
import zlib

import numpy as np
import pytest

pytest.importorskip("PIL")

from PIL import Image, ImageOps

from dsqformat.errors import SampleError, SourceError
from dsqformat.sources import (
    PictureOptions,
    SourceOptions,
    detect,
    open_source,
    raise_bad,
)
from dsqformat.sources.pictures import decode_picture, read_header
from inputs import encoded, make_folder, make_pictures

IN_ORDER = SourceOptions(seed=None)


def read_all(source, on_bad=raise_bad):
    return list(source.samples(on_bad))


def test_classes_keys_and_order_are_those_of_imagefolder(tmp_path):
    pictures = make_pictures(7)
    root = make_folder(tmp_path / "d", pictures)
    (root / "cat" / "deep" / "er").mkdir(parents=True)
    (root / "cat" / "deep" / "er" / "a.PNG").write_bytes(encoded(pictures[0]))
    (root / "cat" / "notes.txt").write_text("not a picture")
    (root / ".hidden").mkdir()
    source = open_source(str(root), None, IN_ORDER)
    assert source.facts.kind == "folder"
    assert source.facts.label_names == ("cat", "dog", "owl")
    assert source.facts.fields["image"].shape == (12, 12, 3)
    assert (source.facts.ignored_count, source.facts.ignored) == (1, ("cat/notes.txt",))
    samples = read_all(source)
    assert [sample.key for sample in samples] == [
        "cat/000.png",
        "cat/003.png",
        "cat/006.png",
        "cat/deep/er/a.PNG",
        "dog/001.png",
        "dog/004.png",
        "owl/002.png",
        "owl/005.png",
    ]
    assert [sample.values["label"] for sample in samples] == [0, 0, 0, 0, 1, 1, 2, 2]
    order = [0, 3, 6, 0, 1, 4, 2, 5]
    for sample, number in zip(samples, order, strict=True):
        assert np.array_equal(sample.values["image"], pictures[number])
    files = [path for path in root.rglob("*") if path.suffix.lower() == ".png"]
    assert source.facts.source_nbytes == sum(path.stat().st_size for path in files)


def test_a_seed_permutes_and_limit_chooses_at_random(tmp_path):
    root = make_folder(tmp_path / "d", make_pictures(30))
    keys = [s.key for s in read_all(open_source(str(root), None, IN_ORDER))]
    shuffled = [s.key for s in read_all(open_source(str(root), None, SourceOptions(seed=3)))]
    assert sorted(shuffled) == sorted(keys)
    assert shuffled != keys
    again = open_source(str(root), None, SourceOptions(seed=3, limit=9))
    assert again.facts.shuffled
    assert again.facts.sample_count == 9
    chosen = read_all(again)
    assert [s.key for s in chosen] == shuffled[:9]
    assert len({s.values["label"] for s in chosen}) == 3
    first = open_source(str(root), None, SourceOptions(seed=None, limit=4))
    assert [s.key for s in read_all(first)] == keys[:4]


def test_a_flat_folder_has_no_labels(tmp_path):
    for number, picture in enumerate(make_pictures(3)):
        (tmp_path / f"{number}.png").write_bytes(encoded(picture))
    source = open_source(str(tmp_path), None, SourceOptions(seed=None, keyed=False))
    assert source.facts.columns == ()
    assert not source.facts.keyed
    assert [list(s.values) for s in read_all(source)] == [["image"]] * 3


def test_sizes_that_differ_are_known_beforehand(tmp_path):
    for number, shape in enumerate([(8, 6, 3), (8, 9, 3), (8, 6, 3)]):
        (tmp_path / f"{number}.png").write_bytes(encoded(np.zeros(shape, "u1")))
    source = open_source(str(tmp_path), None, IN_ORDER)
    assert source.facts.fields["image"].shape == (8, None, 3)
    assert [s.values["image"].shape for s in read_all(source)] == [(8, 6, 3), (8, 9, 3), (8, 6, 3)]


def test_a_link_that_leads_back_up_is_not_followed_round_and_round(tmp_path):
    root = make_folder(tmp_path / "d", make_pictures(3))
    (root / "cat" / "loop").symlink_to(root / "cat")
    linked = tmp_path / "elsewhere"
    linked.mkdir()
    (linked / "x.png").write_bytes(encoded(make_pictures(1)[0]))
    (root / "dog" / "linked").symlink_to(linked)
    keys = [s.key for s in read_all(open_source(str(root), None, IN_ORDER))]
    assert keys == ["cat/000.png", "dog/001.png", "dog/linked/x.png", "owl/002.png"]


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        (lambda root: None, "no samples: expected pictures, or folders of pictures"),
        (lambda root: (root / "a.txt").write_text("x"), "no samples"),
        (lambda root: (root / "cat").mkdir(), "class 'cat' would be empty"),
        (
            lambda root: (
                make_folder(root, make_pictures(3)),
                (root / "a.png").write_bytes(encoded(make_pictures(1)[0])),
            ),
            r"holds pictures \('a.png'\) and folders \('cat'\)",
        ),
        (
            lambda root: open(os.fsencode(root) + b"/\xff.png", "wb").close(),
            "not UTF-8; rename it",
        ),
    ],
)
def test_folders_that_are_no_source(tmp_path, prepare, says):
    root = tmp_path / "d"
    root.mkdir()
    prepare(root)
    with pytest.raises(SourceError, match=says):
        open_source(str(root), "folder", IN_ORDER)


def test_what_is_no_source_at_all(tmp_path):
    with pytest.raises(FileNotFoundError):
        detect(str(tmp_path / "absent"))
    (tmp_path / "x.zip").write_bytes(b"")
    with pytest.raises(SourceError, match=r"expected a folder, a \.tar, a"):
        detect(str(tmp_path / "x.zip"))
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "dataset.json").write_text("{}")
    with pytest.raises(SourceError, match="is a DSQ dataset already"):
        detect(str(tmp_path / "d"))
    (tmp_path / "both").mkdir()
    (tmp_path / "both" / "a.tar").write_bytes(b"")
    (tmp_path / "both" / "a.parquet").write_bytes(b"")
    with pytest.raises(SourceError, match="--source"):
        detect(str(tmp_path / "both"))


# Bad pictures ----------------------------------------------------------------------------------


def huge_png():
    """A PNG that says 60000x60000 pixels in 100 bytes."""

    def part(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    parts = part(b"IHDR", header) + part(b"IDAT", zlib.compress(b"")) + part(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def deep_png():
    file = io.BytesIO()
    Image.fromarray(np.arange(64, dtype="u2").reshape(8, 8) * 900).save(file, "PNG")
    return file.getvalue()


BAD = {
    "text": (b"hello", "not a readable picture; expected one of BMP, JPEG"),
    "empty": (b"", "not a readable picture"),
    "huge": (huge_png(), "picture is too large: expected at most"),
    "deep": (deep_png(), "expected 8 bits per value"),
    "gif": (encoded(np.zeros((4, 4), "u1"), "GIF"), "not a readable picture; expected one of"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a readable picture"),
    "cut png": (encoded(make_pictures(1, 64)[0])[:-700], "truncated"),
    "cut jpeg": (encoded(make_pictures(1, 64)[0], "JPEG")[:-300], "runcated"),
    "no directory": (encoded(np.zeros((4, 4), "u1"), "TIFF")[:30], "not a readable picture"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_pictures_are_named_or_skipped_and_counted(tmp_path, name):
    data, says = BAD[name]
    root = make_folder(tmp_path / "d", make_pictures(6))
    (root / "dog" / "bad.png").write_bytes(data)
    with pytest.raises(SampleError, match=says) as caught:
        read_all(open_source(str(root), None, IN_ORDER))
    assert str(root / "dog" / "bad.png") in str(caught.value)
    assert "\n" not in str(caught.value)
    bad = []
    source = open_source(str(root), None, IN_ORDER, bad.append)
    assert len(read_all(source, bad.append)) == 6
    assert len(bad) == 1


def test_unreadable_files_are_bad_samples(tmp_path):
    root = make_folder(tmp_path / "d", make_pictures(3))
    (root / "dog" / "bad.png").symlink_to(tmp_path / "absent")
    with pytest.raises(SampleError, match=r"bad.png: No such file"):
        open_source(str(root), None, IN_ORDER)
    gone = open_source(str(root), None, IN_ORDER, lambda error: None)
    (root / "cat" / "000.png").unlink()
    with pytest.raises(SampleError, match=r"000.png: No such file"):
        read_all(gone)


def test_only_bad_pictures_are_no_samples(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(SourceError, match="pictures that can be read"):
        open_source(str(tmp_path), None, IN_ORDER, lambda error: None)


# Pixels ----------------------------------------------------------------------------------------


def header_shape(data, options):
    header = read_header(io.BytesIO(data), "x", options)
    return header.height, header.width


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind, orientation):
    picture = np.zeros((6, 10, 3), "u1")
    picture[:2, :3] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind, exif=exif)
    file.seek(0)
    with Image.open(file) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    decoded = decode_picture(file.getvalue(), "x", PictureOptions())
    assert np.array_equal(decoded, expected)
    assert header_shape(file.getvalue(), PictureOptions()) == decoded.shape[:2]
    assert decoded.shape[0] == (10 if orientation >= 5 else 6)


def picture_of_mode(mode):
    values = make_pictures(1, 8)[0]
    if mode == "P with transparency":
        image = Image.fromarray(values).quantize(8)
        image.info["transparency"] = bytes([0, 255, 128, 255, 255, 255, 255, 255])
        return image
    return Image.fromarray(values).convert(mode)


@pytest.mark.parametrize(
    ("mode", "auto"),
    [
        ("1", "L"),
        ("L", "L"),
        ("LA", "RGBA"),
        ("P", "RGB"),
        ("P with transparency", "RGBA"),
        ("RGB", "RGB"),
        ("RGBA", "RGBA"),
        ("CMYK", "RGB"),
        ("YCbCr", "RGB"),
    ],
)
def test_modes(tmp_path, mode, auto):
    file = io.BytesIO()
    kind = "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"
    picture_of_mode(mode).save(file, kind)
    file.seek(0)
    for wanted, channels in [("L", None), ("RGB", 3), ("RGBA", 4)]:
        with Image.open(file) as opened:
            through = opened.convert("RGBA") if "transparency" in opened.info else opened
            expected = np.asarray(through.convert(wanted))
        decoded = decode_picture(file.getvalue(), "x", PictureOptions(mode=wanted))
        assert np.array_equal(decoded, expected)
        assert decoded.shape == ((8, 8) if channels is None else (8, 8, channels))
    (tmp_path / f"a.{kind.lower()}").write_bytes(file.getvalue())
    options = SourceOptions(pictures=PictureOptions(mode="auto"))
    facts = open_source(str(tmp_path), None, options).facts.fields["image"]
    assert facts.shape == {"L": (8, 8), "RGB": (8, 8, 3), "RGBA": (8, 8, 4)}[auto]


def test_auto_mode_holds_every_picture(tmp_path):
    options = SourceOptions(pictures=PictureOptions(mode="auto"), seed=None)
    for number, mode in enumerate(["L", "RGB"]):
        picture_of_mode(mode).save(tmp_path / f"{number}.png")
    assert read_all(open_source(str(tmp_path), None, options))[0].values["image"].shape[-1] == 3
    picture_of_mode("LA").save(tmp_path / "2.png")
    assert read_all(open_source(str(tmp_path), None, options))[0].values["image"].shape[-1] == 4


@pytest.mark.parametrize("size", [(30, 20), (20, 30), (24, 24), (97, 31)])
def test_resize_and_crop(size):
    image = Image.fromarray(np.resize(make_pictures(1, 40)[0], (*size, 3)))
    data = encoded(np.asarray(image))
    options = PictureOptions(resize=16, crop=12)
    decoded = decode_picture(data, "x", options)
    height, width = size
    scaled = (int(16 * width / height), 16) if height <= width else (16, int(16 * height / width))
    expected = image.resize(scaled, Image.Resampling.BILINEAR)
    left, top = round((scaled[0] - 12) / 2), round((scaled[1] - 12) / 2)
    assert np.array_equal(decoded, np.asarray(expected)[top : top + 12, left : left + 12])
    assert header_shape(data, options) == (12, 12)
    only_scaled = decode_picture(data, "x", PictureOptions(resize=16))
    assert only_scaled.shape[:2] == header_shape(data, PictureOptions(resize=16))
    assert only_scaled.shape[1::-1] == scaled


def test_pictures_smaller_than_the_crop_are_refused_beforehand(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(np.zeros((9, 30, 3), "u1")))
    options = SourceOptions(pictures=PictureOptions(crop=10))
    with pytest.raises(SampleError, match=r"30x9 is smaller than the crop of 10; scale it first"):
        open_source(str(tmp_path), None, options)


def test_a_narrow_picture_is_not_scaled_beyond_the_limit():
    data = encoded(np.zeros((1, 30000), "u1"))
    with pytest.raises(SampleError, match="too large"):
        decode_picture(data, "x", PictureOptions(resize=256))


@pytest.mark.parametrize("options", [{"resize": 0}, {"crop": 70000}, {"resize": 8, "crop": 9}])
def test_impossible_options(options):
    with pytest.raises(ValueError, match=r"resize|crop"):
        PictureOptions(**options)


def test_photographs_of_scikit_learn(tmp_path):
    datasets = pytest.importorskip("sklearn.datasets")
    photographs = datasets.load_sample_images()
    for name, picture in zip(photographs.filenames, photographs.images, strict=True):
        data = encoded(picture, "JPEG", quality=95)
        (tmp_path / os.path.basename(name)).write_bytes(data)
    options = SourceOptions(pictures=PictureOptions(resize=96, crop=64), seed=None)
    source = open_source(str(tmp_path), None, options)
    samples = read_all(source)
    assert source.facts.fields["image"].shape == (64, 64, 3)
    assert [s.values["image"].std() > 20 for s in samples] == [True, True]
