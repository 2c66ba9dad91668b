"""Sizes that the kernels and what calls them agree on."""

from __future__ import annotations

BAND_ROWS = 16
"""Rows of a map that a thread computes at a time; they determine how much memory it needs."""
PANEL_ROWS = 6
"""Pixels of a tile of a matrix product; weight gradients are in panels of as many inputs."""
PARTS = 8
"""Partial sums that are added at the end: their number determines the rounding, so it must not depend on the threads."""
MOST_CLASSES = 256
"""Classes of the losses, which hold those of a pixel at a time."""
MOST_VALUES = 2**31 - 1
"""Values of a tensor: the kernels count them in 32 bits."""

DEFINITIONS = tuple(
    f"-D{name}={value}"
    for name, value in (
        ("BAND_ROWS", BAND_ROWS),
        ("PANEL_ROWS", PANEL_ROWS),
        ("PARTS", PARTS),
        ("MOST_CLASSES", MOST_CLASSES),
    )
)
"""Those that the compiler is given, for its command line."""
