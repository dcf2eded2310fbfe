"""A façade in perspective, rendered by an exact camera."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Facade:
    """A wall of windows, seen at an angle by a camera at the origin.

    Wall coordinates are (along, up); image coordinates are in pixels, x before y, and the
    centre of the first pixel is (0.5, 0.5).
    """

    size: int
    yaw: float = np.deg2rad(45.0)

    @property
    def focal_length(self) -> float:
        return 0.9 * self.size

    @property
    def along(self) -> np.ndarray:
        return np.array([np.cos(self.yaw), 0.0, np.sin(self.yaw)])

    @property
    def corner(self) -> np.ndarray:
        return np.array([-2.2, 0.0, 4.0])

    @property
    def vanishing_point(self) -> np.ndarray:
        """Vanishing point of the lines along the wall; that of upright lines is (0, 1, 0)."""
        x, _, z = self.along
        return np.array([x / z * self.focal_length + self.size / 2, self.size / 2])

    @property
    def vanishing_line(self) -> np.ndarray:
        return np.array([1.0, 0.0, -self.vanishing_point[0]])

    def to_image(self, wall: np.ndarray) -> np.ndarray:
        """Map wall coordinates [..., 2] to image coordinates [..., 2]."""
        up = np.array([0.0, 1.0, 0.0])
        space = self.corner + wall[..., :1] * self.along + wall[..., 1:] * up
        return space[..., :2] / space[..., 2:] * self.focal_length + self.size / 2

    def to_wall(self, image: np.ndarray) -> np.ndarray:
        """Map image coordinates [..., 2] to wall coordinates [..., 2]."""
        flat = (image - self.size / 2) / self.focal_length
        rays = np.append(flat, np.ones((*flat.shape[:-1], 1)), axis=-1)
        normal = np.cross(self.along, (0.0, 1.0, 0.0))
        from_corner = rays * (self.corner @ normal / (rays @ normal))[..., None] - self.corner
        return np.stack([from_corner @ self.along, from_corner[..., 1]], axis=-1)

    def render(self, samples: int = 4) -> np.ndarray:
        """Render uint8 [size, size] with samples² points per pixel."""
        at = (np.arange(self.size * samples) + 0.5) / samples
        wall = self.to_wall(np.stack(np.meshgrid(at, at), axis=-1))
        u, v = np.moveaxis(wall / 0.8 % 1.0, -1, 0)
        grey = np.where((u < 0.08) | (v < 0.08), 0.55, 0.75)
        window = (u > 0.25) & (u < 0.83) & (v > 0.25) & (v < 0.85)
        cross = (abs(u - 0.54) < 0.03) | (abs(v - 0.55) < 0.03)
        grey = np.where(window, np.where(cross, 0.95, 0.15), grey)
        # The light changes along the wall, so that no two windows are equal.
        grey = grey * (0.9 + 0.1 * np.sin(1.3 * wall[..., 0]) * np.cos(0.7 * wall[..., 1]))
        pixels = grey.reshape(self.size, samples, self.size, samples).mean(axis=(1, 3))
        return np.rint(255.0 * pixels).astype(np.uint8)
