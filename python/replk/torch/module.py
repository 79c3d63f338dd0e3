"""A module in the place of a depthwise ``nn.Conv2d``: its parameters, its state_dict."""
from __future__ import annotations

import torch
from torch import nn


class DepthwiseConv2d(nn.Conv2d):
    """``nn.Conv2d(channels, channels, kernel_size, groups=channels, ...)`` computed by replk.

    A state_dict, hooks and everything else are Conv2d's; it exports to ONNX as one.
    """

    def __init__(
        self, channels: int, kernel_size: int | tuple[int, int], stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0, dilation: int | tuple[int, int] = 1, bias: bool = True, **options,
    ) -> None:
        super().__init__(channels, channels, kernel_size, stride, padding, dilation, channels, bias, **options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        from . import depthwise_conv2d

        if x.dim() != 4:  # an image without a batch: conv2d's own rules
            return super().forward(x)
        return depthwise_conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation)
