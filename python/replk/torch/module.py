"""A module in the place of a depthwise ``nn.Conv2d``: its parameters, its state_dict."""
from torch import nn


class DepthwiseConv2d(nn.Conv2d):
    """``nn.Conv2d(channels, channels, kernel_size, groups=channels, ...)`` computed by replk.

    A state_dict, hooks and everything else are Conv2d's; it exports to ONNX as one.
    """

    def __init__(self, channels, kernel_size, stride=1, padding=0, dilation=1, bias=True, **options):
        super().__init__(channels, channels, kernel_size, stride, padding, dilation, channels, bias, **options)

    def forward(self, x):
        from . import depthwise_conv2d

        if x.dim() != 4:  # an image without a batch: conv2d's own rules
            return super().forward(x)
        return depthwise_conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation)
