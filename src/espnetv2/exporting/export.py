"""Export a trained network: check, write, verify, and only then keep the file."""

from __future__ import annotations

import copy
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from espnetv2 import __version__
from espnetv2.errors import UserError
from espnetv2.exporting.calibration import Calibration
from espnetv2.exporting.formats import find_format, writer
from espnetv2.exporting.target import check_target, file_size, keep
from espnetv2.exporting.verification import Verification, verify
from espnetv2.factory import find_network
from espnetv2.files import results_folder
from espnetv2.models.network import Network
from espnetv2.preprocessing import check_size
from espnetv2.runtimes.description import LARGEST_SIDE, SMALLEST_DYNAMIC, Description, Input, Output, Precision
from espnetv2.runtimes.runtime import open_runtime

Say = Callable[[str], None]


@dataclass(frozen=True)
class Exported:
    """What was written, and the result of the comparison with the network.

    Attributes:
        path: the file or folder.
        description: the description inside the file.
        size: bytes of the file, with all files that belong to it.
        verification: None if this platform cannot run such files.
    """

    path: Path
    description: Description
    size: int
    verification: Verification | None


def export(
    model: str | Path | Network,
    out: str | Path,
    *,
    format: str = "onnx",
    weights: str | Path | None = None,
    size: tuple[int, int] | None = None,
    dynamic: bool = False,
    input: Input = "float32",
    output: Output = "logits",
    precision: Precision = "fp32",
    calibrate: str | Path | None = None,
    weights_dir: str | Path | None = None,
    say: Say = lambda _: None,
) -> Exported:
    """Write a network for another runtime, with its class names, colours and preprocessing, and verify it there.

    Args:
        model: ``model.tag``; a model's name, for its default weights; a checkpoint file; or a network from
            ``create_model(..., weights=...)``.
        out: the file to write (NCNN, Core ML: the folder), with the format's suffix.
        format: a key of ``espnetv2.exporting.formats.FORMATS``.
        weights: tag or checkpoint file, if ``model`` is a model's name.
        size: (height, width) of the file's input. By default that of the weights.
        dynamic: let the file accept any size from 48x48 and any batch size, which is slower. Images are then fitted to ``size``
            unless ``Predictor`` is given another.
        input: ``float32`` for preprocessed (N, 3, H, W), ``uint8`` for RGB pixels (N, H, W, 3).
        output: ``logits``, or ``classes``: the class of every pixel (N, H, W), uint8, or of the image (N).
        precision: ``fp32``; ``fp16``, parameters in 16 bits; ``int8``, quantised after training.
        calibrate: folder of representative images; ``int8`` requires it. They are also used for verification.
        weights_dir: folder that is searched first for released files.
        say: called with progress messages.

    Raises:
        UserError: unknown model, weights or format; something that the format does not support or that is not installed; a
            calibration folder without images; a file whose output differs from the network's, which is not kept.
    """
    out = Path(out)
    found = find_format(format, out, precision, dynamic=dynamic, input=input, output=output)
    if precision == "int8" and calibrate is None:
        raise UserError("int8 requires calibration: set calibrate to a folder of representative images")
    smallest = SMALLEST_DYNAMIC if dynamic else 1
    if size is not None:
        check_size(size, smallest, LARGEST_SIDE)
    check_target(out, found)
    network = _network(model, weights, weights_dir)
    assert network.info is not None
    info = network.info
    if size is not None:
        info = info.model_copy(update={"preprocessing": info.preprocessing.resized(*size)})
    # The weights' own size may be too small, too.
    check_size((info.preprocessing.height, info.preprocessing.width), smallest, LARGEST_SIDE)
    description = Description(
        info=info, format=format, dynamic=dynamic, input=input, output=output, precision=precision, version=__version__
    )
    calibration = None if calibrate is None else Calibration(Path(calibrate), description)
    # Beside the target, so that keeping the file only takes a rename.
    with results_folder(out.parent), tempfile.TemporaryDirectory(prefix=".partial-", dir=out.parent) as folder:
        partial = Path(folder) / out.name
        say(f"writing {out}")
        writer(found)(network, description, calibration, partial)
        verification = None
        if sys.platform in found.runs_on:
            say(f"verifying {out}")
            verification = verify(network, open_runtime(partial), calibration)
        keep(Path(folder), out)
    return Exported(out, description, file_size(out, found), verification)


def _network(model: str | Path | Network, weights: str | Path | None, weights_dir: str | Path | None) -> Network:
    network = find_network(model, weights, weights_dir)
    if network.training:
        raise UserError("the model is in training mode, in which its output depends on the batch: call model.eval() first")
    # A copy, since the given network may be on a GPU or in half precision.
    return copy.deepcopy(network).cpu().float()
