"""MONAI's nets behind the interface of ours; MONAI is imported when one is built."""

from __future__ import annotations

from types import ModuleType

from torch import Tensor, nn

from netweight.errors import ModelError
from netweight.models.nets._net import Net


class MonaiNet(Net):
    """MONAI's module, which is ``net``."""

    def __init__(self, net: nn.Module, image: int, channels: int, *, multiple: int) -> None:
        super().__init__(image, channels, multiple=multiple)
        self.net = net

    def logits(self, images: Tensor) -> Tensor:
        return self.net(images)


def monai_nets() -> ModuleType:
    """``monai.networks.nets``. Raises: ModelError: it is not installed."""
    try:
        import monai.networks.nets as found  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ModelError(
            f"this net is MONAI's, which cannot be imported ({error}): pip install netweight[monai]"
        ) from error
    return found
