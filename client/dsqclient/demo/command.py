"""`dsq demo`: the whole road on this machine, and what each way of bringing data costs."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from dsqformat import Dataset, DatasetWriter, DsqError, FieldSpec, open_dataset
from dsqformat._version import __version__

_MBIT: Final = 1e6 / 8
_QUICK: Final = 400
# About 35 dB on these patches.
_QP: Final = 94


def demo(
    out: Annotated[
        Path, typer.Option(help="Folder for the table, the picture and the figures.")
    ] = Path(".demo"),
    rate: Annotated[float, typer.Option(help="Rate of the link in Mbit/s.", min=0.1)] = 10.0,
    epochs: Annotated[int, typer.Option(help="Epochs of each training run.", min=1)] = 3,
    seed: Annotated[int, typer.Option(help="Of patches, order and network.")] = 0,
    quick: Annotated[
        bool, typer.Option("--quick", help="A tenth of the patches and one epoch.")
    ] = False,
) -> None:
    """Pack, serve, stream and train on real photographs.

    Takes patches of photographs that ship with scikit-learn and scikit-image, packs them, serves
    them on this machine through a link of 10 Mbit/s, and trains a small network from every number
    of layers, from an exact copy, and from PNG in WebDataset tars through the same link.
    """
    _require_extra()
    from dsqclient.demo.photographs import MAX_TRAINING, make_patches, mean_colour_accuracy

    console = Console()
    started = time.monotonic()
    patches = make_patches(seed, _QUICK if quick else MAX_TRAINING)
    console.print(
        f"{len(patches.train):,} training and {len(patches.test):,} test patches of 32x32 from "
        f"{len(patches.names)} photographs: {', '.join(patches.names)}"
    )
    run = _Run(patches, rate * _MBIT, 1 if quick else epochs, seed)
    with tempfile.TemporaryDirectory(prefix="dsq-demo-") as folder:
        rows = run.all_ways(Path(folder), console, out / "layers.png")
    rows.append(run.floor(mean_colour_accuracy(patches)))
    conditions = run.conditions() | {"seconds": round(time.monotonic() - started, 1)}
    _finish(console, out, rows, conditions)


def _finish(console: Console, out: Path, rows: list[Any], conditions: dict[str, Any]) -> None:
    from dsqclient.demo.report import markdown_table, remarks, write_report

    caption = (
        f"Link of {conditions['rate_mbit_s']:g} Mbit/s, {conditions['epochs']} epochs, each "
        f"streamed anew; {conditions['train_samples']:,} patches; accuracy on "
        f"{conditions['test_samples']} patches of other regions; {conditions['cores']} cores, "
        f"torch {conditions['torch']}. Bytes on the wire count HTTP, heads, indexes and requests."
    )
    write_report(out, rows, conditions, caption)
    console.print(Markdown(markdown_table(rows)))
    console.print(caption)
    for line in remarks(rows):
        console.print(f"  {line}")
    console.print(
        f"{conditions['seconds']:.0f} s; wrote {out / 'table.md'}, {out / 'layers.png'} and "
        f"{out / 'summary.json'}"
    )


def _require_extra() -> None:
    try:
        import matplotlib  # noqa: F401
        import PIL  # noqa: F401
        import skimage  # noqa: F401
        import sklearn  # noqa: F401
        import torch  # noqa: F401
        import webdataset  # noqa: F401
    except ImportError as error:
        raise DsqError(f"the demo needs {error.name}: pip install 'dsqformat[demo]'") from error


class _Run:
    """The steps of one demo."""

    def __init__(self, patches: Any, bytes_per_s: float, epochs: int, seed: int) -> None:
        import torch

        from dsqclient.demo.training import BATCH_SIZE

        self.patches, self.rate, self.epochs, self.seed = patches, bytes_per_s, epochs, seed
        self.batch_size = BATCH_SIZE
        self.steps = -(-len(patches.train) // BATCH_SIZE)
        # The other core receives and decodes; two threads would mostly wait for each other.
        torch.set_num_threads(1)

    def all_ways(self, folder: Path, console: Console, picture: Path) -> list[Any]:
        """Write, serve and train every way; returns the rows of the table."""
        from dsqclient.demo.baseline import encoded_nbytes, write_tars
        from dsqclient.demo.link import SlowLink
        from dsqclient.demo.report import draw_layers
        from dsqclient.demo.servers import dsq_server, static_server

        served, count = folder / "served", len(self.patches.train)
        layered = self._pack(served / "layered", FieldSpec("block", qp=_QP, layers=(1, 1)))
        exact = self._pack(served / "exact", FieldSpec("affine", 8, layers=()))
        tars = write_tars(folder / "tars", self.patches, self.seed)
        decoded = draw_layers(picture, layered, exact)
        rows = []
        with ExitStack() as stack:
            urls = stack.enter_context(dsq_server(served))
            link = stack.enter_context(SlowLink(urls["layered"], self.rate))
            for layers, psnr_db in enumerate(decoded, start=1):
                stored = sum(layered.snapshot.segment_nbytes[: layers + 1]) / count
                name = f"DSQ block, {layers} of {len(decoded)} layers"
                batches = self._dsq_batches(link.url, layers)
                row = self._train(name, link, batches, stored, console)
                rows.append(replace(row, psnr_db=psnr_db))
            link = stack.enter_context(SlowLink(urls["exact"], self.rate))
            stored = sum(exact.snapshot.segment_nbytes) / count
            batches = self._dsq_batches(link.url, None)
            rows.append(self._train("DSQ lossless", link, batches, stored, console))
            host = stack.enter_context(static_server(folder / "tars"))
            link = stack.enter_context(SlowLink(host, self.rate))
            stored = encoded_nbytes(self.patches.train, "PNG", optimize=True)
            batches = self._tar_batches([f"{link.url}/{name}" for name in tars])
            rows.append(self._train("PNG in WebDataset tars", link, batches, stored, console))
        return rows + self._bytes_only(decoded[-1])

    def _bytes_only(self, psnr_db: float) -> list[Any]:
        """Return what other formats take: at the fidelity of all layers, exact, and raw."""
        from dsqclient.demo.baseline import encoded_nbytes, nbytes_at
        from dsqclient.demo.report import Row

        rows = []
        for name, form, options in (
            ("WebP", "WEBP", {"method": 6}),
            ("JPEG", "JPEG", {"optimize": True}),
        ):
            nbytes, found_db = nbytes_at(psnr_db, self.patches.train, form, **options)
            row = Row(f"{name} (bytes only)", stored_nbytes_per_sample=nbytes, psnr_db=found_db)
            rows.append(row)
        webp = encoded_nbytes(self.patches.train, "WEBP", lossless=True, method=6)
        rows.append(Row("WebP lossless (bytes only)", stored_nbytes_per_sample=webp))
        rows.append(Row("uint8 (bytes only)", stored_nbytes_per_sample=3072.0))
        return rows

    def floor(self, accuracy: float) -> Any:
        """Return the row of the classifier that sees mean colours only."""
        from dsqclient.demo.report import Row

        return Row("mean colour alone (the floor)", accuracy=accuracy)

    def conditions(self) -> dict[str, Any]:
        """Return under what conditions the figures were measured."""
        import torch
        import webdataset

        return {
            "rate_mbit_s": self.rate / _MBIT,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "classes": list(self.patches.names),
            "train_samples": len(self.patches.train),
            "test_samples": len(self.patches.test),
            "workers": 1,
            "torch_threads": 1,
            "cores": os.cpu_count(),
            "machine": platform.machine(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "webdataset": webdataset.__version__,
            "webdataset_http": "urllib",
            "dsqformat": __version__,
        }

    def _pack(self, path: Path, spec: FieldSpec) -> Dataset:
        names = {"label": list(self.patches.names)}
        with DatasetWriter(path, fields=spec, names=names, seed=self.seed) as writer:
            writer.write_batch({"image": self.patches.train, "label": self.patches.train_label})
        return open_dataset(path)

    def _dsq_batches(self, url: str, layers: int | None) -> Callable[[int], Iterator[Any]]:
        from dsqclient import StreamingDataset, StreamingLoader

        loaders: list[Any] = []

        def open_epoch(_epoch: int) -> Iterator[Any]:
            if not loaders:
                dataset = StreamingDataset(
                    url, batch_size=self.batch_size, layers=layers, shuffle=True, seed=self.seed
                )
                loaders.append(StreamingLoader(dataset, num_workers=1))
            for batch in loaders[0]:
                yield batch["image"], batch["label"]

        return open_epoch

    def _tar_batches(self, urls: list[str]) -> Callable[[int], Iterator[Any]]:
        from dsqclient.demo.baseline import webdataset_batches

        return lambda epoch: webdataset_batches(urls, self.batch_size, self.seed + epoch)

    def _train(
        self,
        name: str,
        link: Any,
        open_epoch: Callable[[int], Iterator[Any]],
        stored: float,
        console: Console,
    ) -> Any:
        from dsqclient.demo.report import Row
        from dsqclient.demo.training import new_network, test_accuracy, train

        network = new_network(len(self.patches.names), self.seed)
        before = link.nbytes
        with _progress(console) as progress:
            task = progress.add_task(name, total=self.epochs * self.steps)
            times = train(
                network, self.epochs, self.steps, open_epoch, lambda: progress.advance(task)
            )
        sent = (link.nbytes - before) / (self.epochs * len(self.patches.train))
        accuracy = test_accuracy(network, self.patches.test, self.patches.test_label)
        epoch_s = sum(times.epoch_s) / len(times.epoch_s)
        return Row(name, sent, stored, None, times.first_batch_s, epoch_s, accuracy)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:>24}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} batches"),
        TimeElapsedColumn(),
        console=console,
        transient=not sys.stdout.isatty() or shutil.get_terminal_size().columns < 60,
    )
