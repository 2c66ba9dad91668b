r"""Rearrange CamVid so that validation is on drives that training has not seen.

    python benchmarks/unseen_drive.py --data camvid --out unseen
    espnetv2 train --recipe camvid --data unseen ...

CamVid's validation frames are seven seconds from the middle of one of its training drives. Here a whole drive by day (0006R0)
and the second half of the drive at dusk (0001TP) validate, and the other 235 training frames train.
"""

from __future__ import annotations

from street_data import copy_pair, data_and_new_folder, opened

DAY = "0006R0"
DUSK = "0001TP"
FIRST_UNSEEN_AT_DUSK = 7620


def main() -> None:
    """Copy the training frames and their masks into a folder of the same layout."""
    root, out = data_and_new_folder(__doc__)
    for pair in opened("camvid", root, "train").pairs:
        copy_pair(pair, out, "val" if is_unseen(pair[0].path.stem) else "train")


def is_unseen(stem: str) -> bool:
    """Whether a frame validates."""
    drive, frame = stem.split("_")
    return drive == DAY or (drive == DUSK and int(frame) >= FIRST_UNSEEN_AT_DUSK)


if __name__ == "__main__":
    main()
