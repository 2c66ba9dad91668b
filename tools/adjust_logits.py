r"""Adjust a segmentation network's logits to its training images, as a training with ``logit_adjustment`` does at its end.

    python tools/adjust_logits.py AVERAGE/best.safetensors --data ROOT --out ADJUSTED/best.safetensors

For weights that did not come out of such a training, such as a mean. The file is described as the one given, without its
metrics; evaluate it before you keep it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from espnetv2.data.dataset import SegmentationData
from espnetv2.data.layouts import open_dataset
from espnetv2.errors import UserError
from espnetv2.evaluation.evaluate import check_classes
from espnetv2.factory import load_model
from espnetv2.training.adjustment import adjust_logits, has_class_bias
from espnetv2.training.recipe import Recipe
from espnetv2.weights import load_checkpoint, save_checkpoint


def main() -> None:
    """Read the arguments and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--data", required=True, type=Path, help="the folder of the training's data set")
    parser.add_argument("--out", required=True, type=Path)
    options = parser.parse_args()
    try:
        checkpoint = load_checkpoint(options.file)
        recipe = Recipe.model_validate(checkpoint.info.recipe)
        data = open_dataset(recipe.dataset, options.data, recipe.train_split, mask_scale=recipe.mask_scale)
        check_classes(checkpoint.info, data)
        network = load_model(checkpoint)
        if not has_class_bias(network) or not isinstance(data, SegmentationData):
            sys.exit(f"{options.file} has no bias for each class: give a segmentation network with the decoder pyramid")
        adjust_logits(network, data, device="cpu", seed=recipe.seed)
    except UserError as error:
        sys.exit(str(error))
    adjusted = recipe.model_copy(update={"logit_adjustment": True})
    info = checkpoint.info.model_copy(update={"metrics": {}, "recipe": adjusted.model_dump(mode="json")})
    options.out.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(network.state_dict(), info, options.out)


if __name__ == "__main__":
    main()
