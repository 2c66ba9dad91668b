r"""Average the weights of several runs, each of which started from the one before or from the same weights.

    python tools/average_weights.py RUN_A/best.safetensors RUN_B/best.safetensors --out AVERAGE/best.safetensors

Such an average is often better than each of them (Wortsman et al., "Model soups", ICML 2022). The file is described as the last
one given, whose input size it gets, without its metrics; evaluate it before you keep it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from espnetv2.errors import UserError
from espnetv2.weights import load_checkpoint, save_checkpoint


def main() -> None:
    """Read the arguments and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--out", required=True, type=Path)
    options = parser.parse_args()
    try:
        checkpoints = [load_checkpoint(path) for path in options.files]
    except UserError as error:
        sys.exit(str(error))
    last = checkpoints[-1]
    preprocessing = last.info.preprocessing
    for other in checkpoints:
        resized = other.info.preprocessing.resized(preprocessing.height, preprocessing.width)
        theirs, ours = ((one.spec, one.info.classes, one.info.outputs) for one in (other, last))
        if theirs != ours or resized != preprocessing:
            sys.exit(f"{other.path} is of another model, of other classes or outputs, or for another input than {last.path}")
    average = {}
    for name, tensor in last.state_dict.items():
        stacked = torch.stack([checkpoint.state_dict[name] for checkpoint in checkpoints])
        average[name] = stacked.mean(0) if tensor.is_floating_point() else tensor
    options.out.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(average, last.info.model_copy(update={"metrics": {}}), options.out)


if __name__ == "__main__":
    main()
