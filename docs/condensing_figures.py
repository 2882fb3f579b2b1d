"""Compare what can be made of 10,000 pictures of CIFAR-10, and write it into docs/condensing.md.

    DSQ_DATA=FOLDER python docs/condensing_figures.py WORK

FOLDER holds cifar10-train.parquet and cifar10-test.parquet in the layout of Hugging Face. Datasets,
work directories and the results of single runs stay in WORK (about 1 GB): a second call goes on
where the first was stopped. Takes about an hour and a half of CPU time.
"""

import csv
import os
import subprocess
import sys
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import typer

from dsqformat.recipes import condense, shipped_names
from dsqformat.select import random_coreset
from dsqformat.sources import SourceOptions, open_source, raise_bad

DOCS = Path(__file__).resolve().parent
BEGIN, END = "<!-- figures:begin -->", "<!-- figures:end -->"
PICTURES = 10_000
# Bytes per sample of the datasets of transform blocks.
BLOCKS = (50, 100, 200)
BASELINES = (
    "uint8:0.5",
    "uint8:0.25",
    "uint8:0.125",
    "uint8:0.05",
    "webp:=block-100",
    "webp:=block-200",
    "webp:=budget",
    "webp:=lsq-fixed",
    # The smallest JPEG file of 32x32 has more bytes than these datasets have for a picture.
    "jpeg:=block-200:0.5",
    "jpeg:=budget:0.5",
    "jpeg:=lsq-fixed",
)


def main() -> None:
    """Make what is missing, train on all of it, write table and plot."""
    if len(sys.argv) != 2 or "DSQ_DATA" not in os.environ:
        raise SystemExit(__doc__)
    work, data = Path(sys.argv[1]), Path(os.environ["DSQ_DATA"])
    work.mkdir(parents=True, exist_ok=True)
    pictures = training_pictures(work, data / "cifar10-train.parquet")
    made = [*condensed(work, pictures), *packed(work, pictures)]
    bench = DOCS / "bench"
    command = ["dsq", "evaluate", f"all={pictures}", *made]
    command += ["--test", str(data / "cifar10-test.parquet")]
    command += [word for baseline in BASELINES for word in ("--baseline", baseline)]
    command += ["--device", "cpu", "--results", str(work / "results.json")]
    command += ["--csv", str(bench / "condensing.csv"), "--plot", str(bench / "condensing.svg")]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    (bench / "condensing.txt").write_text(printed, encoding="utf-8")
    write_table(bench / "condensing.csv")


def training_pictures(work: Path, parquet: Path) -> Path:
    """Take as many pictures of each class at random."""
    path = work / "pictures.npz"
    if path.exists():
        return path
    with closing(open_source(parquet, None, SourceOptions(keyed=False))) as source:
        field = next(iter(source.facts.fields))
        samples = [sample.values for sample in source.samples(raise_bad)]
    labels = np.array([values["label"] for values in samples])
    rows = random_coreset(len(labels), PICTURES / len(labels), labels)
    np.savez(path, x=np.stack([samples[row][field] for row in rows]), y=labels[rows])
    return path


def condensed(work: Path, pictures: Path) -> list[str]:
    """Carry out every recipe that comes along."""
    for name in shipped_names():
        if not (work / name / "dataset.json").exists():
            typer.echo(f"condense {name}", err=True)
            outcome = condense(pictures, work / name, name, work=work / "condense.work")
            (work / f"{name}.html").write_bytes(outcome.report_html.read_bytes())
    return [str(work / name) for name in shipped_names()]


def packed(work: Path, pictures: Path) -> list[str]:
    """Pack all pictures as transform blocks of several sizes."""
    made = []
    for nbytes in BLOCKS:
        dest = work / f"block-{nbytes}"
        made.append(str(dest))
        if not (dest / "dataset.json").exists():
            options = ["--quantizer", "block", "--bytes-per-sample", str(nbytes)]
            subprocess.run(["dsq", "pack", str(pictures), str(dest), *options], check=True)
    return made


def write_table(results: Path) -> None:
    """Replace what stands between the two marks."""
    runs = defaultdict(list)
    with results.open(encoding="utf-8") as file:
        for run in csv.DictReader(file):
            runs[run["label"]].append(run)
    rows = ["| trained on | pictures | B/sample | accuracy, % | ± |", "|---|---:|---:|---:|---:|"]
    for found in sorted(runs.values(), key=lambda found: -size(found)):
        accuracy = [100 * float(run["accuracy"]) for run in found]
        first = found[0]
        name = f"**{first['label']}**" if first["kind"] == "dataset" else first["label"]
        name += f" ({first['setting']})" if first["setting"] else ""
        cells = [name, f"{int(first['sample_count']):,}", f"{size(found):,.0f}"]
        rows.append(f"| {' | '.join(cells)} | {fmean(accuracy):.2f} | {stdev(accuracy):.2f} |")
    page = DOCS / "condensing.md"
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    table = "\n".join(rows)
    page.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")


def size(runs: list[dict[str, str]]) -> float:
    """Return bytes per sample of all pictures, on average over the runs."""
    return fmean(float(run["nbytes_per_sample"]) for run in runs)


if __name__ == "__main__":
    main()
