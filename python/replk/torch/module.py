"""A module in the place of a depthwise ``nn.Conv2d``: its parameters, its state_dict."""
from __future__ import annotations

import torch
from torch import nn

TYPES = (torch.float32, torch.bfloat16, torch.float16)


class DepthwiseConv2d(nn.Conv2d):
    """``nn.Conv2d(channels, channels, kernel_size, groups=channels, ...)`` computed by replk.

    A state_dict, hooks and everything else are Conv2d's; it exports to ONNX as one (both exporters). What replk does not take
    goes to ``conv2d``: other types than float32, bfloat16 and float16, images without a batch, padding that is not of zeros.
    """

    def __init__(
        self, channels: int, kernel_size: int | tuple[int, int], stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0, dilation: int | tuple[int, int] = 1, bias: bool = True, **options,
    ) -> None:
        super().__init__(channels, channels, kernel_size, stride, padding, dilation, channels, bias, **options)

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # by Conv2d's name: some call it by that
        from . import depthwise_conv2d

        if input.dim() != 4 or input.dtype not in TYPES or self.padding_mode != "zeros" or torch.onnx.is_in_onnx_export():
            return super().forward(input)
        return depthwise_conv2d(input, self.weight, self.bias, self.stride, self.padding, self.dilation)
