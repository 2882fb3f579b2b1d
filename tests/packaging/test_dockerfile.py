"""The server's Dockerfile: its own steps are carried out in a folder, without a container engine.

Steps of the system's package manager and user database are left out; every other RUN and
COPY is done as written, with the image's root moved to a temporary folder.
"""

import fnmatch
import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from writing import write_pictures

SYSTEM_STEPS = ("apt-get ", "useradd ")
NO_INDEX = ("Temporary failure in name resolution", "Failed to establish a new connection")
START_S = 30


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile, its continuation lines joined."""

    name: str
    text: str

    @property
    def words(self) -> list[str]:
        """The arguments in exec form, or the words after `CMD` for a HEALTHCHECK."""
        return json.loads(self.text[self.text.index("[") :])


def parse_dockerfile(text: str) -> list[Instruction]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [
        Instruction(*re.split(r"\s+", line, maxsplit=1))
        for line in joined.splitlines()
        if line.strip()
    ]


def _below(root: Path, command: str) -> str:
    """Move the absolute paths of a command below a folder."""
    return re.sub(r"(?<![\w./:])/(?=(?:opt|src|data)\b)", f"{root}/", command)


class Image:
    """What the steps of a Dockerfile have made so far, below a folder."""

    def __init__(self, context: Path, root: Path) -> None:
        self.context = context
        self.root = root
        self.workdir = root
        self.left_out: list[str] = []

    def carry_out(self, step: Instruction, run) -> None:
        if step.name == "WORKDIR":
            self.workdir = self.root / step.text.lstrip("/")
            self.workdir.mkdir(parents=True, exist_ok=True)
        elif step.name == "COPY" and not step.text.startswith("--from="):
            *patterns, destination = step.text.split()
            for pattern in patterns:
                self._copy(pattern, self.workdir / destination)
        elif step.name == "RUN":
            self._run(step.text, run)

    def _copy(self, pattern: str, destination: Path) -> None:
        sources = list(self.context.glob(pattern))
        assert sources or "[" in pattern, f"COPY {pattern}: no such file"
        allowed = [
            line[1:]
            for line in (self.context / ".dockerignore").read_text().splitlines()
            if line.startswith("!")
        ]
        for source in sources:
            assert source.name in allowed, f"COPY {pattern}: .dockerignore keeps it out"
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "*.so")
                shutil.copytree(source, destination, ignore=ignored)
            else:
                shutil.copy2(source, destination)

    def _run(self, command: str, run) -> None:
        if command.startswith(SYSTEM_STEPS):
            self.left_out.append(command)
            return
        args = shlex.split(_below(self.root, command))
        if args[0] == "python":
            args[0] = sys.executable
        done = run(args, cwd=self.workdir, check=False)
        if done.returncode != 0 and any(reason in done.stderr for reason in NO_INDEX):
            pytest.skip("the package index cannot be reached")
        assert done.returncode == 0, f"RUN {command}\n{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="module")
def steps(root):
    return parse_dockerfile((root / "docker/Dockerfile").read_text())


@pytest.fixture(scope="module")
def image(root, run, steps, tmp_path_factory):
    image = Image(root, tmp_path_factory.mktemp("image"))
    for step in steps:
        image.carry_out(step, run)
    return image


def _last(steps: list[Instruction], name: str) -> Instruction:
    return [step for step in steps if step.name == name][-1]


def test_image_is_slim_and_does_not_run_as_root(steps):
    bases = [step.text.split()[0] for step in steps if step.name == "FROM"]
    assert all(fnmatch.fnmatch(base, "python:3.1[1-9]-slim") for base in bases)
    last_stage = steps[max(i for i, step in enumerate(steps) if step.name == "FROM") :]
    user = _last(last_stage, "USER").text.split(":")[0]
    assert user.isdecimal()
    assert user != "0"
    # The compiler stays in the stage that builds.
    assert not any("gcc" in step.text for step in last_stage)


def test_install_steps_bring_the_server_and_nothing_else(image, run):
    python = image.root / "opt/dsq/bin/python"
    installed = {line.split("==")[0].lower() for line in _freeze(run, python)}
    assert {"dsqformat", "fastapi", "uvicorn", "pyarrow", "numpy"} <= installed
    assert installed & {"torch", "urllib3", "cython", "pytest", "scikit-learn"} == set()
    assert all(step.startswith(SYSTEM_STEPS) for step in image.left_out)


def _freeze(run, python: Path) -> list[str]:
    return run([python, "-m", "pip", "freeze"]).stdout.replace(" @ ", "==").splitlines()


def test_server_starts_and_passes_its_health_check(image, steps, run):
    (image.root / "data").mkdir(exist_ok=True)
    write_pictures(image.root / "data" / "pictures", 5)
    entry = [_below(image.root, word) for word in _last(steps, "ENTRYPOINT").words]
    assert "Usage" in run([*entry, "serve", "--help"]).stdout
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    inside = [_below(image.root, word) for word in _last(steps, "CMD").words]
    command = [{"0.0.0.0": "127.0.0.1", "8080": port}.get(word, word) for word in inside]
    check = [_below(image.root, word) for word in _last(steps, "HEALTHCHECK").words]
    check[-1] = check[-1].replace(":8080/", f":{port}/")
    assert run(check, check=False).returncode != 0  # nothing listens yet
    server = subprocess.Popen(
        [*entry, *command], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + START_S
        while (healthy := run(check, check=False)).returncode != 0:
            assert server.poll() is None, f"the server ended: {server.stderr.read()}"
            assert time.monotonic() < deadline, f"not healthy: {healthy.stderr}"
            time.sleep(0.2)
    finally:
        server.terminate()
        server.communicate(timeout=30)
    assert server.returncode in {0, -15}
