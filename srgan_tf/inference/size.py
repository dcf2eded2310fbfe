"""The size of results."""

from __future__ import annotations

from dataclasses import dataclass

from srgan_tf.errors import ImageError, UserError


@dataclass(frozen=True)
class Size:
    """The size to which a generator's results are downscaled; by default they are not.

    Attributes:
        scale: ratio of the result's side to the photo's.
        width, height: in pixels; one determines the other by the photo's proportions, and with
            both, the result is the largest of these proportions that fits.
        max_side: largest length of the longer side, in pixels.

    Raises:
        UserError: several ways at once, or a number that is not between 0 and 10⁹.
    """

    scale: float | None = None
    width: int | None = None
    height: int | None = None
    max_side: int | None = None

    def __post_init__(self):
        box = self.width is not None or self.height is not None
        if (self.scale is not None) + box + (self.max_side is not None) > 1:
            raise UserError("give the size in one way: scale, width and height, or max side")
        for name in ("scale", "width", "height", "max_side"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1e9:
                raise UserError(
                    f"{name.replace('_', ' ')} must be above 0 and below 10⁹, not {value}"
                )

    def of(self, height: int, width: int, max_scale: int) -> tuple[int, int]:
        """Return (height, width) of a photo's result.

        Args:
            height, width: of the photo.
            max_scale: the generator's scale.

        Raises:
            ImageError: the size is larger than the generator's result.
        """
        factors: list[float] = []
        if self.scale is not None:
            factors.append(self.scale)
        if self.width is not None:
            factors.append(self.width / width)
        if self.height is not None:
            factors.append(self.height / height)
        if self.max_side is not None:
            factors.append(min(max_scale, self.max_side / max(height, width)))
        factor = min(factors, default=max_scale)
        if factor > max_scale:
            raise ImageError(
                f"{round(width * factor)}×{round(height * factor)} is {factor:.9g} times "
                f"{width}×{height}, and the largest is {max_scale} times; give a smaller size"
            )
        return max(1, round(height * factor)), max(1, round(width * factor))
