"""Predict on anything that holds pictures: the same function behind Python and the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from espnetv2.acceleration.backends import check_backend
from espnetv2.acceleration.inference import accelerate as accelerated
from espnetv2.device import choose_device
from espnetv2.errors import UserError
from espnetv2.factory import create_model, is_model_name, load_model
from espnetv2.inference.prefetch import prefetch
from espnetv2.inference.results import ClassificationResult, Result, SegmentationResult
from espnetv2.inference.sources import Item, Source, Stream, open_sources
from espnetv2.postprocessing import class_map, top_classes
from espnetv2.weights.catalogue import DEFAULT_MODEL, find_weights
from espnetv2.weights.checkpoint import load_checkpoint

if TYPE_CHECKING:
    from espnetv2.models.network import Network


CHECKPOINT_SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors")
DECODING_THREADS = 2
GPU_BATCH = 8

OnError = Callable[[str, UserError], None]
Prepared = tuple[Item, Image.Image | None, Tensor | None, UserError | None]


class Predictor:
    """A trained network with its preprocessing, ready for pictures.

    Args:
        model: ``model.tag``; a model's name, for its default weights; a checkpoint file; or a model of
            ``espnetv2.create_model(..., weights=...)``.
        weights: checkpoint file for the model's name.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        size: (height, width) of the network's input, instead of the weights' own.
        batch_size: pictures that go through the network together. By default 1 on a CPU, 8 elsewhere.
        top_k: how many classes a classification names.
        weights_dir: folder in which released files are looked for first.
        accelerate: let ``espnetv2.accelerate`` run the network.
        backend: how it does so; only ``auto`` and ``eager`` without a GPU.

    Raises:
        UserError: unknown model, weights, device or backend; a network without trained weights.
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
    ) -> None:
        self.device = choose_device(device)
        if not accelerate and backend not in ("auto", "eager"):
            raise UserError(f'the backend "{backend}" is not to be had without acceleration: leave one of the two out')
        chosen = check_backend(backend if accelerate else "eager", self.device.type)
        network = _resolve(model, weights, weights_dir)
        if network.info is None:
            raise UserError("this model has no trained weights, so it cannot predict: create it with weights=...")
        self.info = network.info
        network = network.to(self.device).eval()
        self.model: torch.nn.Module = network if chosen == "eager" else accelerated(network, backend=chosen)
        self.preprocessing = self.info.preprocessing.resized(*size) if size else self.info.preprocessing
        self.batch_size = batch_size or (1 if self.device.type == "cpu" else GPU_BATCH)
        self.top_k = top_k

    def __call__(self, *sources: Source) -> Iterator[Result]:
        """Results for everything that ``sources`` name, one by one, in order.

        Args:
            sources: path of a picture, folder (searched recursively), glob, http(s) URL, video file, camera index, ``-``
                for standard input, PIL picture, or array of RGB pixels (H, W, 3) of type uint8.

        Raises:
            UserError: a source does not exist (at once), or one cannot be decoded (when it is reached).
        """
        return self.run(open_sources(sources))

    def run(self, stream: Stream, on_error: OnError | None = None) -> Iterator[Result]:
        """Results of an opened stream. With ``on_error``, it is told of what cannot be decoded, and the rest goes on."""
        for item, picture, logits in self.outputs(stream, on_error):
            yield self._result(item, picture, logits)

    def outputs(self, stream: Stream, on_error: OnError | None = None) -> Iterator[tuple[Item, Image.Image, Tensor]]:
        """Item, picture and the network's output for it, of an opened stream; ``on_error`` as in ``run``."""
        depth = 2 * self.batch_size + DECODING_THREADS
        batch: list[Prepared] = []
        for prepared in prefetch(stream.items, self._prepare, workers=DECODING_THREADS, depth=depth):
            item, _, _, error = prepared
            if error is not None:
                if on_error is None:
                    raise error
                on_error(item.source, error)
                continue
            batch.append(prepared)
            if len(batch) == self.batch_size:
                yield from self._predict(batch)
                batch = []
        yield from self._predict(batch)

    def _prepare(self, item: Item) -> Prepared:
        try:
            picture = item.read()
            return item, picture, torch.from_numpy(self.preprocessing(picture)), None
        except UserError as error:
            return item, None, None, error

    @torch.inference_mode()
    def logits(self, images: Tensor) -> Tensor:
        """The network's output for preprocessed images (N, 3, H, W), on its device."""
        out: Tensor = self.model(images.to(self.device, non_blocking=True))
        return out

    @torch.inference_mode()
    def class_map(self, logits: Tensor, size: tuple[int, int]) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
        """Class of every pixel at ``size`` (height, width) from one picture's logits (outputs, h, w)."""
        found = class_map(logits, len(self.info.classes), size).cpu().numpy()
        return found if found.dtype == np.uint8 else found.astype(np.uint16)

    @torch.inference_mode()
    def ranking(self, logits: Tensor) -> tuple[tuple[int, float], ...]:
        """The ``top_k`` most probable classes from one picture's logits (outputs,): (index, probability)."""
        return top_classes(logits, len(self.info.classes), self.top_k)

    def _predict(self, batch: list[Prepared]) -> Iterator[tuple[Item, Image.Image, Tensor]]:
        images = [image for _, _, image, _ in batch if image is not None]
        if not images:
            return
        for (item, picture, _, _), logits in zip(batch, self.logits(torch.stack(images)), strict=True):
            if picture is not None:
                yield item, picture, logits

    def _result(self, item: Item, picture: Image.Image, logits: Tensor) -> Result:
        if self.info.task == "classification":
            top = self.ranking(logits)
            return ClassificationResult(item.source, item.stem, picture, top, self.info, item.frame, item.fps)
        indices = self.class_map(logits, (picture.height, picture.width))
        return SegmentationResult(item.source, item.stem, picture, indices, self.info, item.frame, item.fps)


def _resolve(model: str | Path | Network, weights: str | Path | None, weights_dir: str | Path | None) -> Network:
    if isinstance(model, torch.nn.Module):
        return model
    text = str(model)
    is_file = Path(text).is_file() or "/" in text or "\\" in text or Path(text).suffix in CHECKPOINT_SUFFIXES
    if weights is None and is_file and not is_model_name(text):
        return load_model(load_checkpoint(text))
    if weights is None:
        return create_model(find_weights(text).name, weights_dir=weights_dir)
    return create_model(text, weights=weights, weights_dir=weights_dir)
