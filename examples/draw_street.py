"""Draw the sample picture ``examples/street.jpg``: a street with houses, trees, cars and people, in perspective.

Run ``python examples/draw_street.py`` from the repository's root.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

WIDTH, HEIGHT = 1024, 512
HORIZON, VANISHING = 235, 500
SCALE = 2
Point = tuple[float, float]
Colour = tuple[int, int, int]


class Street:
    """A canvas with the ground plane x (metres to the right), depth (metres ahead) and height (metres)."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(7)
        self.image = self._sky_and_ground()
        self.draw = ImageDraw.Draw(self.image)

    def at(self, x: float, depth: float, height: float = 0.0) -> Point:
        """Pixel of a point of the scene, seen from 1.4 m above the ground."""
        focal = 620 / depth
        return (SCALE * (VANISHING + focal * x), SCALE * (HORIZON + focal * (1.4 - height)))

    def ground(self, left: float, right: float, near: float, far: float, colour: Colour) -> None:
        """A strip of the ground."""
        corners = [self.at(left, near), self.at(right, near), self.at(right, far), self.at(left, far)]
        self.draw.polygon(corners, fill=colour)

    def wall(self, x: float, near: float, far: float, height: float, colour: Colour) -> None:
        """A house front along the street, with rows of windows."""
        self.draw.polygon([self.at(x, near), self.at(x, near, height), self.at(x, far, height), self.at(x, far)], fill=colour)
        frame = tuple(min(255, value + 80) for value in colour)
        for floor in np.arange(1.2, height - 1.5, 2.9):
            for start in np.arange(near + 0.8, far - 1.2, 2.6):
                light = int(self.rng.integers(0, 70))
                glass = (58 + light, 62 + light, 66 + light)
                self.pane(x, (start - 0.14, start + 1.24), (floor - 0.14, floor + 1.74), frame)
                # Two wings of two panes.
                for left in (start, start + 0.59):
                    for low, high in ((floor, floor + 1.05), (floor + 1.12, floor + 1.6)):
                        self.pane(x, (left, left + 0.51), (low, high), glass)

    def pane(self, x: float, depths: tuple[float, float], heights: tuple[float, float], colour: tuple[int, ...]) -> None:
        """A rectangle on a house front."""
        (near, far), (low, high) = depths, heights
        self.draw.polygon(
            [self.at(x, near, low), self.at(x, near, high), self.at(x, far, high), self.at(x, far, low)], fill=colour
        )

    def tree(self, x: float, depth: float, size: float) -> None:
        """A trunk and a crown of many leaves."""
        trunk = [self.at(x - 0.12, depth), self.at(x + 0.12, depth), self.at(x + 0.07, depth, 3), self.at(x - 0.07, depth, 3)]
        self.draw.polygon(trunk, fill=(72, 62, 52))
        for _ in range(1400):
            angle, radius = self.rng.uniform(0, 2 * np.pi), size * np.sqrt(self.rng.uniform(0, 1))
            column, row = self.at(x + radius * np.cos(angle), depth, 2.6 + size + radius * np.sin(angle) * 0.9)
            light = int(self.rng.normal(0, 16) - 14 * np.sin(angle + 0.6))
            leaf = SCALE * self.rng.uniform(20, 70) / depth
            colour = (58 + light, 86 + light, 38 + light // 2)
            self.draw.ellipse([column - leaf, row - leaf, column + leaf, row + leaf], fill=colour)

    def car(self, x: float, depth: float, colour: Colour, *, rear: bool = True) -> None:
        """A car seen along its axis."""
        dark = tuple(value // 3 for value in colour)
        self._ellipse(x - 1.0, x + 1.0, depth, -0.12, 0.16, (38, 38, 42))
        for side in (-0.72, 0.5):
            self._box(x + side, x + side + 0.22, depth, 0.0, 0.4, (24, 24, 26))
        self._rounded(x - 0.88, x + 0.88, depth, 0.22, 0.95, 0.12, colour)
        cabin = [
            self.at(x - 0.8, depth, 0.9),
            self.at(x - 0.6, depth, 1.45),
            self.at(x + 0.6, depth, 1.45),
            self.at(x + 0.8, depth, 0.9),
        ]
        self.draw.polygon(cabin, fill=colour)
        glass = [
            self.at(x - 0.68, depth, 0.95),
            self.at(x - 0.53, depth, 1.38),
            self.at(x + 0.53, depth, 1.38),
            self.at(x + 0.68, depth, 0.95),
        ]
        self.draw.polygon(glass, fill=(52, 62, 74))
        lamp = (170, 24, 22) if rear else (235, 235, 225)
        for side in (-0.84, 0.56):
            self._rounded(x + side, x + side + 0.28, depth, 0.62, 0.82, 0.04, lamp)
        self._box(x - 0.26, x + 0.26, depth, 0.5, 0.62, (225, 225, 220))
        self._box(x - 0.86, x + 0.86, depth, 0.22, 0.34, dark)

    def person(self, x: float, depth: float, coat: Colour) -> None:
        """A standing pedestrian."""
        for side in (-0.16, 0.03):
            self._rounded(x + side, x + side + 0.14, depth, 0.0, 0.85, 0.03, (40, 42, 58))
        self._rounded(x - 0.24, x + 0.24, depth, 0.78, 1.46, 0.1, coat)
        for side in (-0.33, 0.22):
            self._rounded(x + side, x + side + 0.11, depth, 0.8, 1.4, 0.04, coat)
        self._ellipse(x - 0.11, x + 0.11, depth, 1.48, 1.76, (196, 152, 128))
        self._ellipse(x - 0.12, x + 0.12, depth, 1.64, 1.79, (58, 42, 32))

    def pole(self, x: float, depth: float, height: float) -> None:
        """A lamp post."""
        self._box(x - 0.05, x + 0.05, depth, 0, height, (96, 98, 100))
        self._box(x - 0.05, x + 0.9, depth, height - 0.1, height, (96, 98, 100))

    def sign(self, x: float, depth: float) -> None:
        """A round traffic sign."""
        self._box(x - 0.03, x + 0.03, depth, 0, 2.4, (120, 122, 124))
        self._ellipse(x - 0.34, x + 0.34, depth, 2.1, 2.78, (198, 30, 36))
        self._ellipse(x - 0.24, x + 0.24, depth, 2.2, 2.68, (240, 240, 240))

    def finished(self) -> Image.Image:
        """The picture at its final size, with a camera's softness and noise."""
        small = self.image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS).filter(ImageFilter.GaussianBlur(0.6))
        pixels = np.asarray(small, np.float64)
        texture = self.rng.normal(0, 1, (HEIGHT // 4, WIDTH // 4)).astype(np.float32)
        coarse = np.asarray(Image.fromarray(texture).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
        noisy = pixels + 4.0 * coarse[:, :, None] + self.rng.normal(0, 3.5, pixels.shape)
        return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))

    def _sky_and_ground(self) -> Image.Image:
        rows = np.linspace(0, 1, SCALE * HEIGHT)[:, None, None]
        sky = np.array([168, 196, 226]) * (1 - rows) + np.array([236, 240, 244]) * rows
        canvas = np.broadcast_to(sky, (SCALE * HEIGHT, SCALE * WIDTH, 3)).astype(np.uint8)
        return Image.fromarray(np.ascontiguousarray(canvas))

    def _box(self, left: float, right: float, depth: float, low: float, high: float, colour: tuple[int, ...]) -> None:
        self.draw.rectangle([self.at(left, depth, high), self.at(right, depth, low)], fill=colour)

    def _ellipse(self, left: float, right: float, depth: float, low: float, high: float, colour: Colour) -> None:
        self.draw.ellipse([self.at(left, depth, high), self.at(right, depth, low)], fill=colour)

    def _rounded(self, left: float, right: float, depth: float, low: float, high: float, radius: float, colour: Colour) -> None:
        corner = SCALE * 620 / depth * radius
        self.draw.rounded_rectangle([self.at(left, depth, high), self.at(right, depth, low)], radius=corner, fill=colour)


def draw_street() -> Image.Image:
    """The whole scene, from far to near."""
    street = Street()
    street.ground(-30, 30, 1.5, 400, (122, 122, 112))
    street.ground(-7.5, 8.5, 1.5, 400, (146, 140, 136))
    street.ground(-4.2, 5.0, 1.5, 400, (92, 92, 96))
    for edge in (-4.2, 5.0):
        street.ground(edge - 0.12, edge + 0.12, 1.5, 400, (172, 168, 162))
    for start in range(3, 90, 6):
        street.ground(0.3, 0.45, start, start + 3, (214, 214, 210))
    fronts = (
        (92, 70, 9, (128, 112, 98)),
        (70, 52, 13, (150, 132, 110)),
        (52, 36, 11, (122, 90, 78)),
        (36, 24, 14, (146, 140, 128)),
    )
    for far, near, height, colour in (*fronts, (24, 12, 12, (132, 104, 86)), (12, 5, 13, (118, 112, 106))):
        street.wall(-7.5, near, far, height, colour)
        street.wall(8.5, near, far, height + 1, (colour[0] - 14, colour[1] - 14, colour[2] - 14))
    for depth in (60, 42, 28, 19):
        street.tree(-6.2, depth, 2.3)
    for depth in (50, 32, 22):
        street.tree(7.2, depth, 2.5)
    for depth in (45, 25):
        street.pole(-5.0, depth, 6.5)
        street.pole(5.6, depth - 4, 6.5)
    for distance, paint in ((38.0, (60, 62, 70)), (30.0, (150, 152, 156)), (23.0, (40, 52, 92)), (16.5, (120, 26, 28))):
        street.car(-3.2, distance, paint, rear=False)
    for distance, paint in ((34.0, (196, 196, 198)), (24.0, (28, 30, 34)), (15.0, (176, 178, 182))):
        street.car(4.0, distance, paint)
    street.car(1.9, 20, (32, 62, 110))
    street.car(1.7, 10.5, (164, 168, 172))
    street.sign(5.9, 14)
    for x, depth, coat in (
        (-5.6, 17, (64, 48, 52)),
        (-5.1, 12, (34, 60, 96)),
        (6.5, 18, (110, 36, 40)),
        (6.9, 12, (52, 56, 52)),
    ):
        street.person(x, depth, coat)
    return street.finished()


if __name__ == "__main__":
    draw_street().save(Path(__file__).with_name("street.jpg"), quality=92)
