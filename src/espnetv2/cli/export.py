"""``espnetv2 export``: convert a trained network into a file for another runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from espnetv2.cli import options
from espnetv2.cli.output import print_json, stderr, stdout
from espnetv2.runtimes.description import Input, Output, Precision

if TYPE_CHECKING:
    from espnetv2.exporting.export import Exported

PLATFORMS = {"darwin": "macOS", "linux": "Linux", "win32": "Windows"}
FORMATS_HELP = "onnx, openvino, pt2, executorch, ncnn or litert; coreml and tensorrt are untested (docs/export.md)."


def export(
    model: Annotated[str, typer.Argument(metavar="NAME[.TAG]", help="A model from `espnetv2 models`, or a checkpoint file.")],
    format: Annotated[str, typer.Option("--format", metavar="F", help=FORMATS_HELP)],
    out: Annotated[Path, typer.Option("--out", metavar="PATH", help="The file to write, with the format's suffix.")],
    weights: options.Weights = None,
    size: options.Size = None,
    dynamic: Annotated[bool, typer.Option("--dynamic", help="Accept any input size and batch size; slower.")] = False,
    input: Annotated[
        Input, typer.Option("--input", help="Preprocessed float32 (N, 3, H, W), or uint8 pixels (N, H, W, 3).")
    ] = "float32",
    output: Annotated[Output, typer.Option("--output", help="Logits, or the class of every pixel or image.")] = "logits",
    precision: Annotated[Precision, typer.Option("--precision", help="int8 requires --calibrate.")] = "fp32",
    calibrate: Annotated[
        Path | None,
        typer.Option("--calibrate", metavar="FOLDER", help="Representative images, for int8 and verification."),
    ] = None,
    weights_dir: options.WeightsDir = None,
    json: options.Json = False,
) -> None:
    """Export a network for another runtime, with its classes and preprocessing, and verify the file there.

    `predict` and `evaluate` accept the file as their model. A file whose output differs from the network's is not kept.
    """
    from rich.markup import escape

    from espnetv2.exporting.export import export
    from espnetv2.preprocessing import parse_size

    with stderr().status("exporting") as status:
        done = export(
            model,
            out,
            format=format,
            weights=weights,
            size=parse_size(size) if size else None,
            dynamic=dynamic,
            input=input,
            output=output,
            precision=precision,
            calibrate=calibrate,
            weights_dir=weights_dir,
            say=lambda line: status.update(escape(line)),
        )
    if json:
        print_json(_answer(done, model))
        return
    _print(done)


def _print(done: Exported) -> None:
    description = done.description
    preprocessing = description.info.preprocessing
    size = "any size" if description.dynamic else f"{preprocessing.width}x{preprocessing.height}"
    what = f"{description.info.name}, {description.format}, {description.precision}, {size}, {done.size / 1e6:.2f} MB"
    stdout().print(f"{done.path}: {what}\n    {_verified(done)}", markup=False, highlight=False, soft_wrap=True)


def _verified(done: Exported) -> str:
    from espnetv2.exporting.formats import FORMATS

    checked, found = done.verification, FORMATS[done.description.format]
    if checked is None:
        return f"NOT verified: {found.title} runs on {' and '.join(PLATFORMS[name] for name in found.runs_on)} only"
    difference = "" if checked.difference is None else f", logits differ by at most {checked.difference:.1e} of the largest"
    return f"verified on {checked.pictures} images: {100 * checked.agreement:.3f} % of the classes agree{difference}"


def _answer(done: Exported, model: str) -> dict[str, Any]:
    """For ``--json``."""
    description, checked = done.description, done.verification
    preprocessing = description.info.preprocessing
    return {
        "path": str(done.path),
        "model": description.info.name if description.info.tag else model,
        "format": description.format,
        "precision": description.precision,
        "input": description.input,
        "output": description.output,
        "size": None if description.dynamic else f"{preprocessing.width}x{preprocessing.height}",
        "bytes": done.size,
        "verified": checked is not None,
        "pictures": checked and checked.pictures,
        "largest_difference": checked and checked.difference,
        "agreement": checked and checked.agreement,
    }
