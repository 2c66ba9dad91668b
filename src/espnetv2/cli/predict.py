"""``espnetv2 predict``: classes or class maps for images, folders and videos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from espnetv2.cli import options
from espnetv2.cli.output import fail, print_json, progress_bar, stderr, stdout
from espnetv2.errors import UserError
from espnetv2.weights.catalogue import DEFAULT_MODEL

if TYPE_CHECKING:
    from espnetv2.inference.predictor import Predictor
    from espnetv2.inference.results import Result
    from espnetv2.inference.sources import Stream
    from espnetv2.inference.videos import VideoSink


def predict(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE", help="Image, folder, glob, URL, video file, camera index, or - for standard input."),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="NAME[.TAG]",
            help="A model from `espnetv2 models`, or a checkpoint or exported file.",
            show_default=DEFAULT_MODEL,
        ),
    ] = None,
    weights: options.Weights = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the results.")] = Path("predictions"),
    label_ids: Annotated[
        bool, typer.Option("--label-ids", help="Write class maps as Cityscapes label ids, as its evaluation server expects.")
    ] = False,
    top_k: Annotated[int, typer.Option("--top-k", min=1, help="Number of classes in a classification result.")] = 5,
    size: options.Size = None,
    batch: options.Batch = None,
    device: options.Device = "auto",
    backend: options.Backend = "auto",
    no_accelerate: options.NoAccelerate = False,
    weights_dir: options.WeightsDir = None,
    json: options.Json = False,
) -> int:
    """Predict a class map (segmentation) or the most probable classes (classification), and write them to a folder.

    Segmentation writes DIR/<stem>.png, an indexed class map of the source's size, and DIR/<stem>_overlay.jpg; classification
    writes DIR/<stem>.json. A video becomes DIR/<stem>_overlay.mp4.
    """
    from espnetv2.files import results_folder
    from espnetv2.inference.options import PredictorOptions
    from espnetv2.inference.sources import open_sources
    from espnetv2.preprocessing import parse_size

    if weights is not None and model is None:
        raise UserError(
            f"--weights {weights} needs --model with the model's name; or give the file alone, as --model {weights}"
        )
    model = model or DEFAULT_MODEL
    stream = open_sources(sources)
    if label_ids and stream.count is None:
        raise UserError("--label-ids is for images only: leave it out, or leave out videos and cameras")
    wanted = parse_size(size) if size else None
    choices = PredictorOptions(model, weights, device, wanted, batch, weights_dir, not no_accelerate, backend, top_k)
    predictor = choices.make()
    if label_ids:
        _check_label_ids(predictor)
    # The description of a file may name no more than the kind of network.
    name = predictor.info.name if predictor.info.tag else model
    job = _Job(predictor, stream, out, name=name, label_ids=label_ids, quiet=json)
    with results_folder(out):
        job.run()
    if json:
        print_json(job.answer())
    return job.finish()


def _check_label_ids(predictor: Predictor) -> None:
    from espnetv2.labels import CITYSCAPES

    if predictor.info.classes != CITYSCAPES.classes:
        raise UserError(f"--label-ids requires the Cityscapes classes, which {predictor.info.name} does not have: leave it out")


class _Job:
    """One run of the command: predicts, writes, and keeps track of results and failures."""

    def __init__(self, predictor: Predictor, stream: Stream, out: Path, *, name: str, label_ids: bool, quiet: bool) -> None:
        self.predictor = predictor
        self.stream = stream
        self.out = out
        self.name = name
        self.label_ids = label_ids
        self.quiet = quiet
        self.count = 0
        self.results: list[dict[str, Any]] = []
        self.failed: list[tuple[str, str]] = []
        self.inputs = {path.resolve() for path in stream.paths}

    def run(self) -> None:
        """Predict and write everything."""
        from espnetv2.inference.videos import VideoSink

        with progress_bar(hidden=self.stream.count == 1) as progress, VideoSink(self.out, self._fail) as videos:
            task = progress.add_task("predicting", total=self.stream.count)
            try:
                for result in self.predictor.run(self.stream, self._fail):
                    self._write(result, videos)
                    progress.update(task, completed=self.count + len(self.failed))
            except KeyboardInterrupt:
                # A camera is stopped from the keyboard: what was recorded until then is a complete result.
                if not videos.records_camera:
                    raise

    def _write(self, result: Result, videos: VideoSink) -> None:
        if result.frame is not None and result.stem in self.stream.dropped:
            return
        try:
            files = self._save(result, videos) if result.frame is None else self._film(result, videos)
        except UserError as error:
            self._give_up(result, str(error))
        except OSError as error:
            self._give_up(result, f"{result.source}: its result cannot be written ({error.strerror or error})")
        else:
            self._record(result, files)

    def answer(self) -> dict[str, Any]:
        """For ``--json``."""
        failed = [{"source": source, "error": error} for source, error in self.failed]
        return {"model": self.name, "results": self.results, "failed": failed}

    def finish(self) -> int:
        """Report what failed; returns the exit code, or exits with the error of the only source."""
        if not self.count and len(self.failed) == 1:
            fail(self.failed[0][1])
        if self.failed:
            for _, error in self.failed:
                stderr().print(f"espnetv2: {error}", markup=False, highlight=False, soft_wrap=True)
            total = self.count + len(self.failed)
            stderr().print(f"espnetv2: {len(self.failed)} of {total} could not be predicted", highlight=False)
            return 1 if self.count else 2
        return 0

    def _fail(self, source: str, error: UserError) -> None:
        self.failed.append((source, str(error)))

    def _give_up(self, result: Result, error: str) -> None:
        self.failed.append((result.source, error))
        if result.frame is not None:
            # Its other frames would fail the same way, each after a run of the network.
            self.stream.dropped.add(result.stem)

    def _save(self, result: Result, videos: VideoSink) -> list[Path]:
        from espnetv2.inference.results import SegmentationResult

        # The video before this image is over: nothing that happens later may cost it.
        videos.finish()
        self._spare_sources(result.outputs(self.out))
        if isinstance(result, SegmentationResult):
            return result.save(self.out, label_ids=self.label_ids)
        return result.save(self.out)

    def _film(self, result: Result, videos: VideoSink) -> list[Path]:
        self._spare_sources([videos.path(result)])
        return [videos.write(result)]

    def _spare_sources(self, paths: list[Path]) -> None:
        for path in paths:
            if path.resolve() in self.inputs:
                raise UserError(f"{path} is one of the sources and would be overwritten: choose another --out")

    def _record(self, result: Result, files: list[Path]) -> None:
        self.count += 1
        if self.quiet:
            self.results.append(result.to_dict() | {"files": [str(path) for path in files]})
        if self.quiet or result.frame:
            return
        source, when = result.source, ""
        if result.frame is not None:
            source, when = source.removesuffix("#0"), "first frame: "
        stdout().print(
            f"{source} -> {', '.join(map(str, files))}\n    {when}{result.summary()}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
