"""Prediction on images, videos and cameras, the same for Python and the command line."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from PIL import Image

from espnetv2.errors import UserError
from espnetv2.inference.engine import ClassMap, Engine, Ranking
from espnetv2.inference.prefetch import prefetch
from espnetv2.inference.results import ClassificationResult, Result, SegmentationResult
from espnetv2.inference.sources import Item, Source, Stream, open_sources
from espnetv2.preprocessing import check_size
from espnetv2.runtimes.runtime import is_exported
from espnetv2.weights.catalogue import DEFAULT_MODEL

if TYPE_CHECKING:
    from espnetv2.models.network import Network

DECODING_THREADS = 2

OnError = Callable[[str, UserError], None]
Prepared = tuple[Item, Image.Image, Any]


class Predictor:
    """A trained network with its preprocessing, ready to predict.

    Args:
        model: ``model.tag``; a model's name, for its default weights; a checkpoint file; a file from ``espnetv2.export``,
            which its own runtime runs; or a model from ``espnetv2.create_model(..., weights=...)``, which is copied.
        weights: tag or checkpoint file, if ``model`` is a model's name.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        size: (height, width) of the network's input. By default that of the weights.
        batch_size: images per forward pass. By default 1 on a CPU, 8 elsewhere.
        top_k: number of classes in a classification result.
        weights_dir: folder that is searched first for released files.
        accelerate: run the network through ``espnetv2.accelerate``.
        backend: of ``espnetv2.accelerate``; without a GPU only ``auto`` and ``eager``.
        threads: CPU threads. By default torch's setting, or the choice of an exported file's runtime. Unless the model is an
            exported file other than ``.pt2``, this changes torch's setting for the whole process.

    Raises:
        UserError: unknown model, weights, device or backend; an invalid size, batch size, number of classes or of threads; a
            network without trained weights; an option that an exported file does not support.
    """

    def __init__(
        self,
        model: str | Path | Network = DEFAULT_MODEL,
        *,
        weights: str | Path | None = None,
        device: str = "auto",
        size: tuple[int, int] | None = None,
        batch_size: int | None = None,
        top_k: int = 5,
        weights_dir: str | Path | None = None,
        accelerate: bool = True,
        backend: str = "auto",
        threads: int | None = None,
    ) -> None:
        if not accelerate and backend not in ("auto", "eager"):
            raise UserError(
                f'the backend "{backend}" requires acceleration: leave out backend, or do not turn acceleration off'
            )
        if size is not None:
            check_size(size)
        for name, value in (("batch_size", batch_size), ("top_k", top_k), ("threads", threads)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise UserError(f"{name} is {value!r}: it must be a whole number, at least 1")
        self._engine: Engine
        if isinstance(model, str | Path) and is_exported(model):
            from espnetv2.inference.exported import ExportedEngine

            if weights is not None:
                raise UserError(f"{model} already contains its weights: leave out weights")
            if backend != "auto" or not accelerate:
                raise UserError(f"{model} runs in its own runtime: leave out backend and accelerate")
            self._engine = ExportedEngine(Path(model), device, size, batch_size, threads)
        else:
            import torch

            from espnetv2.factory import find_network
            from espnetv2.inference.network import NetworkEngine

            network = find_network(model, weights, weights_dir)
            if not isinstance(model, str | Path):
                # A copy: the caller may be training the model, and needs it unchanged and on its device.
                network = copy.deepcopy(network)
            if threads is not None:
                torch.set_num_threads(threads)
            self._engine = NetworkEngine(network, device, size, batch_size, backend if accelerate else "eager")
        self.info = self._engine.info
        self.preprocessing = self._engine.preprocessing
        self.batch_size = self._engine.batch_size
        self.top_k = top_k
        self._given = 0

    def __call__(self, *sources: Source | Sequence[Source], on_error: OnError | None = None) -> Iterator[Result]:
        """Results for all ``sources``, one by one, in order.

        Args:
            sources: path of an image, folder (searched recursively), glob, http(s) URL, video file, camera index, ``-`` for
                standard input, PIL image, or array of RGB pixels (H, W, 3) of type uint8; or a list or tuple of these.
            on_error: called with the name and the error of a source that cannot be decoded; then the others continue.

        Raises:
            UserError: a source does not exist (at once), or one cannot be decoded (when it is reached, without ``on_error``).
        """
        named: list[Source] = []
        for source in sources:
            if isinstance(source, list | tuple):
                named.extend(source)
            else:
                # Other sequences are refused there.
                named.append(cast("Source", source))
        stream = open_sources(named, first=self._given)
        # Counted over all calls, so that results of images without a name do not overwrite those of an earlier call.
        self._given += len(named)
        return self.run(stream, on_error)

    def run(self, stream: Stream, on_error: OnError | None = None) -> Iterator[Result]:
        """Results of an opened stream. ``on_error`` is called for what cannot be decoded, and the rest continues."""
        for item, picture, output in self.outputs(stream, on_error):
            yield self._result(item, picture, output)

    def outputs(self, stream: Stream, on_error: OnError | None = None) -> Iterator[Prepared]:
        """Item, image and network output for everything in an opened stream; ``on_error`` as in ``run``."""
        depth = 2 * self.batch_size + DECODING_THREADS
        batch: list[Prepared] = []
        for prepared in prefetch(stream.items, self._prepare, workers=DECODING_THREADS, depth=depth):
            if isinstance(prepared[1], UserError):
                if on_error is None:
                    raise prepared[1]
                on_error(prepared[0].source, prepared[1])
                continue
            batch.append(prepared)
            if len(batch) == self.batch_size:
                yield from self._predict(batch)
                batch = []
        yield from self._predict(batch)

    def class_map(self, output: Any, size: tuple[int, int]) -> ClassMap:
        """Class of every pixel at ``size`` (height, width) from the network's output for one image."""
        return self._engine.class_map(output, size)

    def ranking(self, output: Any) -> Ranking:
        """The ``top_k`` most probable classes from the network's output for one image: (index, probability)."""
        return self._engine.ranking(output, self.top_k)

    def _prepare(self, item: Item) -> Prepared | tuple[Item, UserError]:
        try:
            picture = item.read()
            return item, picture, self._engine.prepare(picture)
        except UserError as error:
            return item, error

    def _predict(self, batch: list[Prepared]) -> Iterator[Prepared]:
        if not batch:
            return
        outputs = self._engine.run([prepared for _, _, prepared in batch])
        for (item, picture, _), output in zip(batch, outputs, strict=True):
            yield item, picture, output

    def _result(self, item: Item, picture: Image.Image, output: Any) -> Result:
        if self.info.task == "classification":
            top = self.ranking(output)
            return ClassificationResult(item.source, item.stem, picture, top, self.info, item.frame, item.fps, item.seconds)
        indices = self.class_map(output, (picture.height, picture.width))
        return SegmentationResult(item.source, item.stem, picture, indices, self.info, item.frame, item.fps, item.seconds)
