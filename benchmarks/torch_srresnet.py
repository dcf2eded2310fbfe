"""A PyTorch SRResNet of the paper's size, for comparing speeds."""

from torch import nn


class _Residual(nn.Module):
    def __init__(self, body: nn.Sequential):
        super().__init__()
        self.body = body

    def forward(self, x):
        return x + self.body(x)


def _block() -> _Residual:
    return _Residual(
        nn.Sequential(
            nn.Conv2d(64, 64, 3, padding=1, bias=False),
            nn.BatchNorm2d(64),
            nn.PReLU(64),
            nn.Conv2d(64, 64, 3, padding=1, bias=False),
            nn.BatchNorm2d(64),
        )
    )


def srresnet() -> nn.Sequential:
    """Build SRResNet ×4, 16 blocks, 64 filters: [N, 3, H, W] in [0, 1] to [N, 3, 4H, 4W]."""
    trunk = nn.Sequential(
        *(_block() for _ in range(16)),
        nn.Conv2d(64, 64, 3, padding=1, bias=False),
        nn.BatchNorm2d(64),
    )
    upsampling = (
        layer
        for _ in range(2)
        for layer in (nn.Conv2d(64, 256, 3, padding=1), nn.PixelShuffle(2), nn.PReLU(64))
    )
    return nn.Sequential(
        nn.Conv2d(3, 64, 9, padding=4),
        nn.PReLU(64),
        _Residual(trunk),
        *upsampling,
        nn.Conv2d(64, 3, 9, padding=4),
    )
