"""What a wheel holds, and that an installation from it works."""

import email.parser
import platform
import tarfile
import zipfile

KERNELS = "dsqformat/kernels/"


def test_wheel_holds_exactly_the_three_packages(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {
        "dsqclient",
        "dsqformat",
        "dsqserver",
    }


def test_wheel_holds_no_generated_c_and_marks_types(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert [name for name in names if name.endswith((".c", ".h", ".pyx", ".pyc"))] == []
    for package in ("dsqformat", "dsqserver", "dsqclient"):
        assert f"{package}/py.typed" in names


def test_wheel_holds_the_recipes(wheel, root):
    names = zipfile.ZipFile(wheel).namelist()
    recipes = {path.name for path in (root / "dsqformat/recipes/toml").glob("*.toml")}
    assert len(recipes) >= 10
    assert {f"dsqformat/recipes/toml/{name}" for name in recipes} <= set(names)


def test_wheel_holds_every_kernel_compiled_and_as_source(wheel, root):
    names = zipfile.ZipFile(wheel).namelist()
    sources = {path.name for path in (root / KERNELS).glob("*.py")}
    compiled = {name.removeprefix(KERNELS).split(".")[0] for name in names if name.endswith(".so")}
    assert {name.removeprefix(KERNELS) for name in names if name.startswith(KERNELS)} >= sources
    kernels = {name for name in sources if name != "__init__.py" and not name.startswith("plain")}
    expected = {source.removesuffix(".py") for source in kernels} | {"memoryviews"}
    if platform.machine() in ("x86_64", "AMD64"):
        # Compiled once more, for registers of 256 bits.
        expected |= {
            "block_decode_avx2",
            "block_forward_avx2",
            "dequant_avx2",
            "graph_cut_avx2",
            "rans_decode_avx2",
        }
    assert compiled == expected


def test_wheel_states_version_licence_and_extras(wheel):
    from dsqformat._version import __version__

    with zipfile.ZipFile(wheel) as archive:
        (metadata_name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        metadata = email.parser.Parser().parsestr(archive.read(metadata_name).decode())
        licences = [n for n in archive.namelist() if n.endswith("/licenses/LICENSE")]
    assert metadata["Version"] == __version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert len(licences) == 1
    assert set(metadata.get_all("Provides-Extra")) >= {"client", "demo", "pack", "server", "torch"}


def test_sdist_holds_no_built_files(wheel):
    (sdist,) = wheel.parent.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = archive.getnames()
    assert [name for name in names if name.endswith((".c", ".so", ".pyc"))] == []
    assert [name for name in names if "/build/" in name] == []


def test_installed_packages_come_from_the_wheel(wheel_python, run):
    code = (
        "import dsqformat, dsqserver, dsqclient as c; print(c.__file__); import dsqformat.kernels"
    )
    printed = run([wheel_python, "-W", "error", "-c", code]).stdout
    assert str(wheel_python.parents[1]) in printed


def test_installed_command_runs(wheel_python, run):
    from dsqformat._version import __version__

    command = wheel_python.parent / "dsq"
    assert run([command, "--version"]).stdout == f"dsq {__version__}\n"
    assert "serve" in run([command, "--help"]).stdout
