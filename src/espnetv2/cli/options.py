"""Options that several commands share, spelled once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Weights = Annotated[
    Path | None, typer.Option("--weights", metavar="FILE", help="A checkpoint file, own or official, for the model's name.")
]
WeightsDir = Annotated[
    Path | None,
    typer.Option(
        "--weights-dir",
        metavar="DIR",
        help="Folder in which released weight files are looked for before downloading (also: the variable ESPNETV2_WEIGHTS).",
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
Size = Annotated[
    str | None, typer.Option("--size", metavar="WxH", help="Size of the network's input instead of the weights' own.")
]
Batch = Annotated[
    int | None, typer.Option("--batch", min=1, metavar="N", help="Pictures per step; by default 1 on a CPU, 8 on a GPU.")
]
NoAccelerate = Annotated[
    bool, typer.Option("--no-accelerate", help="Use torch's own operators instead of this package's kernels: --backend eager.")
]
Backend = Annotated[
    str,
    typer.Option("--backend", help="How to run the network: auto, eager, and on a GPU streams, graphs, compile or fused."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
Data = Annotated[Path, typer.Option("--data", metavar="ROOT", help="The data set's folder.")]
Dataset = Annotated[
    str,
    typer.Option(
        "--dataset", metavar="D", help="Its layout: cityscapes, voc, camvid, masks, list, imagefolder, webdataset, or auto."
    ),
]
MaskScale = Annotated[
    float, typer.Option("--mask-scale", min=0.001, metavar="F", help="Sides of the masks over those of their pictures.")
]
