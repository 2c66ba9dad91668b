"""Options shared by several commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Weights = Annotated[
    Path | None,
    typer.Option("--weights", metavar="FILE", help="Checkpoint file for the model, this project's or the authors'."),
]
WeightsDir = Annotated[
    Path | None,
    typer.Option(
        "--weights-dir",
        metavar="DIR",
        help="Folder to search for released weight files before downloading (or set the variable ESPNETV2_WEIGHTS).",
    ),
]
Device = Annotated[str, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.")]
Size = Annotated[
    str | None, typer.Option("--size", metavar="WxH", help="Input size of the network; by default that of the weights.")
]
Batch = Annotated[
    int | None, typer.Option("--batch", min=1, metavar="N", help="Images per batch; by default 1 on a CPU, 8 on a GPU.")
]
NoAccelerate = Annotated[
    bool,
    typer.Option(
        "--no-accelerate", help="Use torch's own operators instead of this package's kernels; same as --backend eager."
    ),
]
Backend = Annotated[
    str,
    typer.Option(
        "--backend",
        metavar="NAME",
        help="How to run the network: auto, eager, and on a GPU streams, graphs, compile or fused.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Data = Annotated[Path, typer.Option("--data", metavar="ROOT", help="The data set's folder.")]
LAYOUTS_HELP = "Its layout: cityscapes, voc, camvid, masks, list, imagefolder, webdataset, or auto."
Dataset = Annotated[str, typer.Option("--dataset", metavar="D", help=LAYOUTS_HELP)]
MaskScale = Annotated[
    float,
    typer.Option("--mask-scale", min=0.001, max=1000, metavar="F", help="Size of the masks' sides relative to their images."),
]
