"""The commands and code of the README, run in order in an empty folder."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"

# Run elsewhere: the first two by the Makefile itself, the last needs a container engine.
ELSEWHERE = ("make demo", "make test", "docker compose")
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks():
    return BLOCK.findall(README.read_text(encoding="utf-8"))


def make_folder_of_photographs(folder: Path) -> None:
    """The user's own pictures, which the README names photos-folder."""
    from PIL import Image
    from skimage import data

    for name in ("astronaut", "coffee"):
        for number in range(2):
            path = folder / "photos-folder" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture = getattr(data, name)()[64 * number : 64 * number + 64, :64]
            Image.fromarray(picture).save(path)


def wait_for_server() -> None:
    import urllib3

    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            urllib3.request("GET", "http://127.0.0.1:8765/healthz", retries=False, timeout=1)
        except urllib3.exceptions.HTTPError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("dsq serve did not answer within 30 s")


def test_every_block_runs(tmp_path):
    pytest.importorskip("torch")
    make_folder_of_photographs(tmp_path)
    bin_folder = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": bin_folder + os.pathsep + os.environ["PATH"]}
    server, outputs = None, []
    try:
        for language, text in blocks():
            for command in commands(language, text):
                if command.startswith(ELSEWHERE):
                    continue
                if command.endswith("&"):
                    server = start(command.rstrip("& "), tmp_path, environment)
                    wait_for_server()
                    continue
                outputs.append(run(language, command, tmp_path, environment))
    finally:
        if server is not None:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(timeout=20)
    printed = "\n".join(outputs)
    for expected in ("3 samples,", "(256, 256, 3)", "uint8", "torch.float32"):
        assert expected in printed, expected
    assert (tmp_path / "back").is_dir()


def commands(language: str, text: str) -> list[str]:
    if language == "python":
        return [text]
    return [line.split("#")[0].strip() for line in text.splitlines() if line.split("#")[0].strip()]


def start(command: str, folder: Path, environment: dict[str, str]) -> subprocess.Popen:
    return subprocess.Popen(
        command.split(),
        cwd=folder,
        env=environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def run(language: str, command: str, folder: Path, environment: dict[str, str]) -> str:
    # A script of its own: worker processes import the main module again.
    arguments = ["bash", "-c", command]
    if language == "python":
        arguments = [sys.executable, "-W", "error", "-c", command]
    done = subprocess.run(
        arguments,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_links_lead_somewhere():
    text = README.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#]+)\)", text)
    assert targets
    for target in targets:
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_the_table_is_the_one_that_was_measured():
    """Its figures come from a run of the demo that is committed beside it (`make figures`)."""
    text = README.read_text(encoding="utf-8")
    shown = text.split("<!-- demo-table:begin -->")[1].split("<!-- demo-table:end -->")[0]
    table = (ROOT / "docs" / "demo" / "table.md").read_text(encoding="utf-8").strip()
    assert table in shown
    summary = json.loads((ROOT / "docs" / "demo" / "summary.json").read_text(encoding="utf-8"))
    for row in summary["rows"]:
        assert f"| {row['name']} |" in table
    assert f"{summary['conditions']['rate_mbit_s']:g} Mbit/s" in table
