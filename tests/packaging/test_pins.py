"""constraints.txt pins what pyproject.toml asks for."""

import re
import tomllib


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_requirement_is_pinned(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())
    requirements = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    for extra in project["project"]["optional-dependencies"].values():
        requirements += extra
    asked_for = {_normalized(re.match(r"[\w.-]+", line)[0]) for line in requirements}
    pins = dict(
        line.partition(";")[0].split("==")
        for line in (root / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    )
    assert asked_for - {"dsqformat"} - {_normalized(name) for name in pins} == set()
    assert pins["torch"] == "2.13.0"
