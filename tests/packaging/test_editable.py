"""An editable installation: sources are used where they lie."""


def test_editable_install_uses_the_sources(copy_sources, make_venv, run, tmp_path):
    tree = copy_sources(tmp_path / "tree")
    python = make_venv(tmp_path / "venv")
    run(
        [
            python,
            "-m",
            "pip",
            "install",
            "--no-deps",
            "--no-index",
            "--no-build-isolation",
            "-e",
            tree,
        ],
        DSQ_KERNELS="none",
    )
    code = (
        "import dsqformat, dsqserver, dsqclient\n"
        "print(*(package.__path__[0] for package in (dsqformat, dsqserver, dsqclient)))"
    )
    printed = run([python, "-c", code]).stdout.split()
    assert printed == [
        str(tree / "dsqformat"),
        str(tree / "server/dsqserver"),
        str(tree / "client/dsqclient"),
    ]
    # A module that is added later is found without another installation.
    (tree / "server/dsqserver/added_later.py").write_text("VALUE = 7\n")
    assert run([python, "-c", "import dsqserver.added_later as m; print(m.VALUE)"]).stdout == "7\n"
    assert run([python.parent / "dsq", "--version"]).stdout.startswith("dsq ")
