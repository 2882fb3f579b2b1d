"""Put the table that `dsq demo --out docs/demo` measured into the README."""

from pathlib import Path

DOCS = Path(__file__).resolve().parent
BEGIN, END = "<!-- demo-table:begin -->", "<!-- demo-table:end -->"


def main() -> None:
    """Replace what stands between the two marks."""
    readme = DOCS.parent / "README.md"
    before, rest = readme.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    table = (DOCS / "demo" / "table.md").read_text(encoding="utf-8").strip()
    picture = "![Patches at 1, 2 and all layers](docs/demo/layers.png)"
    readme.write_text(f"{before}{BEGIN}\n\n{table}\n\n{picture}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
