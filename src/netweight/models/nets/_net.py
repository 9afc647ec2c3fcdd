"""What every segmentation net is: a module that knows its own description, and looks at its images before it takes them."""

from __future__ import annotations

from abc import ABC, abstractmethod

from pydantic import Field
from torch import Tensor, nn

from netweight.errors import DataError, SettingsError
from netweight.settings import Settings


class Description(Settings):
    """All that a net is before training; ``build(**describe(net))`` makes it again, initial weights included."""

    name: str = Field(description="a file of models/nets, with - for _")
    size: str = Field(description="the budget, such as 500k")
    image: int = Field(256, gt=0, description="side of the square image, pixels")
    channels: int = Field(3, gt=0, description="channels of the image")
    patch: int | None = Field(
        None, gt=0, description="pixels along a side of a transformer's patch; the study's if absent"
    )
    dropout: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="chance with which what a layer gives is left out in training; the study's if absent",
    )
    seed: int = Field(ge=0, description="of the initial weights")


class Net(nn.Module, ABC):
    """Images (B, channels, S, S) in, logits (B, 1, S, S) out. Subclasses say how in ``logits``.

    ``description`` is None until ``build`` sets it.
    """

    description: Description | None = None

    def __init__(self, image: int, channels: int, *, multiple: int) -> None:
        """
        Args:
          image: side of the square image, pixels. channels: of the image.
          multiple: what the side must be a multiple of.
        Raises: SettingsError: it is not.
        """
        super().__init__()
        if image % multiple:
            lower, upper = image // multiple * multiple, (image // multiple + 1) * multiple
            near = f"{lower} or {upper}" if lower else f"{upper}"
            raise SettingsError(
                f"image = {image} ([data] size, in a recipe): this net takes sides that are multiples of {multiple}, such as {near}"
            )
        self.image, self.channels = image, channels

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, 1, S, S) of images (B, channels, S, S), floats.

        Raises: DataError: images of another shape, or not floats.
        """
        want = (self.channels, self.image, self.image)
        if images.dim() != 4 or tuple(images.shape[1:]) != want:
            raise DataError(
                f"images of shape {tuple(images.shape)}: this net takes (B, {', '.join(map(str, want))}); resize them, or build the "
                f"net with image and channels of the data"
            )
        if not images.is_floating_point():
            raise DataError(f"images are {images.dtype}; turn them into floats first, normalised as for training")
        return self.logits(images)

    @abstractmethod
    def logits(self, images: Tensor) -> Tensor:
        """What ``forward`` gives, for images that fit."""
