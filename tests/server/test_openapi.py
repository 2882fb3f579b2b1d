"""The committed description of the HTTP interface is that of the code."""

from __future__ import annotations

import json
import re
from pathlib import Path

from dsqserver.app import create_app
from dsqserver.problems import PROBLEMS

SPEC = Path(__file__).parents[2] / "spec"


def test_openapi_has_not_drifted(tmp_path: Path) -> None:
    described = json.dumps(create_app(tmp_path).openapi(), indent=1, sort_keys=True) + "\n"
    committed = (SPEC / "openapi.json").read_text("utf-8")
    # To follow an intended change: python -m dsqserver.app > spec/openapi.json
    assert described == committed


def test_every_operation_has_a_name_and_an_error(tmp_path: Path) -> None:
    description = create_app(tmp_path).openapi()
    operations = [route["get"] for route in description["paths"].values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names) == 9
    for operation in operations:
        assert operation["description"]
        (media_type,) = operation["responses"]["default"]["content"]
        assert media_type == "application/problem+json"
        assert "422" not in operation["responses"]
    text = json.dumps(description)
    for name in re.findall(r"#/components/schemas/(\w+)", text):
        assert name in description["components"]["schemas"]


def test_every_code_and_path_is_in_the_specification(tmp_path: Path) -> None:
    text = (SPEC / "http-api.md").read_text("utf-8")
    section = text[text.index("## 7 ") : text.index("## 8 ")]
    rows = dict(re.findall(r"^\| `(\w+)` \| (\d{3}) \|", section, re.MULTILINE))
    assert {code: int(status) for code, status in rows.items()} == {
        code: status for code, (status, _) in PROBLEMS.items()
    }
    for path in create_app(tmp_path).openapi()["paths"]:
        assert f"| `{path}` |" in text
