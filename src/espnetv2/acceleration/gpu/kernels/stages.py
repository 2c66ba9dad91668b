"""The stages of a pyramid pooling, each as a sum over few pixels of an existing map.

Resizing, a depthwise convolution and averaging are linear and separable, tap by tap of the convolution. So a pixel of a stage
is a sum over a few neighbouring pixels of its source with weights that depend only on the size (``tables.py``): an enlarged
map is never created.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from espnetv2.acceleration.gpu.kernels.launch import blocks, launch, tile
from espnetv2.acceleration.gpu.layout import dense, new
from espnetv2.acceleration.gpu.tables import StageTables
from espnetv2.models.decoders.pyramid import inner_size

MOST_REDUCING = 2
"""Number of reducing stages that the kernel supports."""


@triton.jit
def _stages(
    x: tl.tensor, reduced: tl.tensor, most_reduced: tl.tensor, weight: tl.tensor, scale: tl.tensor, shift: tl.tensor,
    slope: tl.tensor, out: tl.tensor, row_first: tl.tensor, rows: tl.tensor, column_first: tl.tensor, columns: tl.tensor,
    sizes: tl.tensor, channels: tl.tensor, height: tl.tensor, width: tl.tensor,
    xn: tl.tensor, xc: tl.tensor, xh: tl.tensor, xw: tl.tensor, on: tl.tensor, oc: tl.tensor, oh: tl.tensor, ow: tl.tensor,
    TAPS_Y: tl.constexpr, TAPS_X: tl.constexpr, WHOLE: tl.constexpr, CHANNELS: tl.constexpr, PIXELS: tl.constexpr,
) -> None:  # fmt: skip
    across = tl.cdiv(width, PIXELS)
    row = tl.program_id(0) // across
    n, y = row // height, row % height
    px = tl.program_id(0) % across * PIXELS + tl.arange(0, PIXELS)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    stage = tl.program_id(2)
    there, used = c < channels, px < width
    taps_y, taps_x = tl.load(sizes + stage * 4), tl.load(sizes + stage * 4 + 1)
    source_h, source_w = tl.load(sizes + stage * 4 + 2), tl.load(sizes + stage * 4 + 3)
    # A stage that reduces reads a map of its own, in NCHW layout.
    whole = stage < WHOLE
    by_c = tl.where(whole, xc, source_h * source_w)
    by_y = tl.where(whole, xh, source_w)
    by_x = tl.where(whole, xw, 1)
    source = x
    if stage == WHOLE:
        source = reduced
    if stage > WHOLE:
        source = most_reduced
    first_y = tl.load(row_first + stage * height + y)
    first_x = tl.load(column_first + stage * width + px, mask=used, other=0)
    source += n * tl.where(whole, xn, channels * by_c) + first_y * by_y
    corner = c[:, None] * by_c + (first_x * by_x)[None, :]
    kernel = weight + (stage * channels + c) * 9
    inside = there[:, None] & used[None, :]
    total = tl.zeros((CHANNELS, PIXELS), tl.float32)
    for a in tl.range(0, taps_y):
        w = rows + ((stage * TAPS_Y + a) * 3) * height + y
        above, at, below = tl.load(w), tl.load(w + height), tl.load(w + 2 * height)
        # The convolution's three columns, each over the rows that this row of the source stands for.
        left = above * tl.load(kernel, mask=there, other=0.0)
        left += at * tl.load(kernel + 3, mask=there, other=0.0) + below * tl.load(kernel + 6, mask=there, other=0.0)
        middle = above * tl.load(kernel + 1, mask=there, other=0.0)
        middle += at * tl.load(kernel + 4, mask=there, other=0.0) + below * tl.load(kernel + 7, mask=there, other=0.0)
        right = above * tl.load(kernel + 2, mask=there, other=0.0)
        right += at * tl.load(kernel + 5, mask=there, other=0.0) + below * tl.load(kernel + 8, mask=there, other=0.0)
        for b in tl.range(0, taps_x):
            v = columns + ((stage * TAPS_X + b) * 3) * width + px
            share = left[:, None] * tl.load(v, mask=used, other=0.0)[None, :]
            share += middle[:, None] * tl.load(v + width, mask=used, other=0.0)[None, :]
            share += right[:, None] * tl.load(v + 2 * width, mask=used, other=0.0)[None, :]
            total += share * tl.load(source + a * by_y + b * by_x + corner, mask=inside, other=0.0).to(tl.float32)
    channel = stage * channels + c
    total *= tl.load(scale + channel, mask=there, other=0.0)[:, None]
    total += tl.load(shift + channel, mask=there, other=0.0)[:, None]
    total = tl.where(total > 0, total, total * tl.load(slope + channel, mask=there, other=0.0)[:, None])
    place = out + n * on + y * oh + channel[:, None] * oc + (px * ow)[None, :]
    tl.store(place, total.to(out.dtype.element_ty), mask=inside)


def stages(
    x: Tensor,
    weight: Tensor,
    scales: Sequence[float],
    tables: Sequence[Tensor],
    scale: Tensor,
    shift: Tensor,
    slope: Tensor,
) -> Tensor:
    """As ``reference.stages``; the scales descend, and at most two are below 1."""
    x, known = dense(x), StageTables(*tables)
    n, c, h, w = x.shape
    maps = [F.adaptive_avg_pool2d(x, inner_size((h, w), factor)).contiguous() for factor in scales if factor < 1]
    reduced, most_reduced = [*maps, x, x][:MOST_REDUCING]
    out = new(x, (n, len(scales) * c, h, w))
    size = tile(x, c, w)
    launch(
        _stages, (n * h * blocks(w, size.pixels), blocks(c, size.channels), len(scales)), x,
        *(x, reduced, most_reduced, weight, scale, shift, slope, out, *known, c, h, w, *x.stride(), *out.stride()),
        TAPS_Y=known.rows.shape[1], TAPS_X=known.columns.shape[1], WHOLE=len(scales) - len(maps),
        CHANNELS=size.channels, PIXELS=size.pixels,
    )  # fmt: skip
    return out
