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
        train, val = (
            open_dataset(recipe.dataset, options.data, split, mask_scale=recipe.mask_scale)
            for split in (recipe.train_split, recipe.val_split)
        )
        check_classes(checkpoint.info, train)
        check_classes(checkpoint.info, val)
        network = load_model(checkpoint)
        if not has_class_bias(network) or not isinstance(train, SegmentationData) or not isinstance(val, SegmentationData):
            sys.exit(f"{options.file} has no bias for each class: give a segmentation network with the decoder pyramid")
        metrics = adjust_logits(network, train, val, device="cpu", seed=recipe.seed)
    except UserError as error:
        sys.exit(str(error))
    adjusted = recipe.model_copy(update={"logit_adjustment": True})
    info = checkpoint.info.model_copy(update={"metrics": {}, "recipe": adjusted.model_dump(mode="json")})
    options.out.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(network.state_dict(), info, options.out)
    print(", ".join(f"{name} {value:.2f}" for name, value in metrics.summary().items()))


if __name__ == "__main__":
    main()
