"""The networks of the benchmark as PyTorch modules with seeded weights, folded as well as they can be for the other runtimes:
branches merged, every BN in its convolution, layer scale in the linear layer. And the image helpers of the comparison."""
import copy
import os
import re
import struct
import sys
import zlib

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

import swin

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "parity"))
import definitions  # noqa: E402  (the plain graphs that the parity tests run in double)

REPLKNET = {"31b": ((128, 256, 512, 1024), (31, 29, 27, 13), 5, 1.0), "31l": ((192, 384, 768, 1536), (31, 29, 27, 13), 5, 1.0),
            "xl": ((256, 512, 1024, 2048), (27, 27, 27, 13), 0, 1.5)}
SLAK = {"t": ((3, 3, 9, 3), (124, 249, 499, 998)), "s": ((3, 3, 27, 3), (124, 249, 499, 998)),
        "b": ((3, 3, 27, 3), (166, 332, 665, 1331))}
CONVNEXT = {"t": ((3, 3, 9, 3), 96), "s": ((3, 3, 27, 3), 96), "b": ((3, 3, 27, 3), 128)}
UNIREPLKNET = {"t": ((3, 3, 18, 3), 80, 2), "s": ((3, 3, 27, 3), 96, 3), "b": ((3, 3, 27, 3), 128, 3)}


def train_form(model, merged=False):
    """The network as its repository trains it; `name:k=3,3,3,3` replaces the kernels. merged: UniRepLKNet as deployed."""
    name, _, kernels = model.partition(":k=")
    kernels = tuple(int(k) for k in kernels.split(",")) if kernels else None
    kernels = kernels * 4 if kernels and len(kernels) == 1 else kernels
    family, _, variant = name.partition("-")
    if family == "replknet" and variant in REPLKNET:
        channels, own, small, ratio = REPLKNET[variant]
        return definitions.RepLKNet((2, 2, 18, 2), channels, kernels or own, small, ratio)
    if family == "slak" and variant in SLAK:
        return definitions.ConvNeXt(*SLAK[variant], kernels or (51, 49, 47, 13), 5)
    if family == "convnext" and variant in CONVNEXT:
        depths, width = CONVNEXT[variant]
        return definitions.ConvNeXt(depths, tuple(width << s for s in range(4)), kernels or (7, 7, 7, 7))
    if family == "unireplknet" and variant in UNIREPLKNET:
        depths, width, period = UNIREPLKNET[variant]
        return definitions.UniRepLKNet(depths, tuple(width << s for s in range(4)), kernels or (3, 13, 13, 13), period,
                                       merged=merged)
    raise ValueError(f"no PyTorch definition of '{model}'")


def scale_inputs(conv, bn):
    """Folds a BN before a 1x1 convolution into it: exact, since it has no padding."""
    scale = bn.weight / (bn.running_var + bn.eps).sqrt()
    shift = bn.bias - bn.running_mean * scale
    conv.bias = nn.Parameter((conv.bias if conv.bias is not None else 0) + conv.weight[:, :, 0, 0] @ shift)
    conv.weight = nn.Parameter(conv.weight * scale.view(1, -1, 1, 1))


def padded(conv, like):
    return nn.functional.pad(conv.weight, [p for k, g in zip(like.kernel_size[::-1], conv.kernel_size[::-1])
                                           for p in ((k - g) // 2,) * 2])


def merge_branches(block, into, other):
    """Adds a smaller branch's kernel and bias to a larger one's."""
    large, small = getattr(block, into), getattr(block, other)
    large.weight = nn.Parameter(large.weight + padded(small, large))
    large.bias = nn.Parameter(large.bias + small.bias)
    delattr(block, other)


class FoldedBlock(definitions.ConvNeXtBlock):
    """Its layer scale is in pwconv2 already."""

    def forward(self, x):
        y = self.large_kernel(x) if hasattr(self, "large_kernel") else self.dwconv(x)
        y = self.pwconv2(nn.functional.gelu(self.pwconv1(self.norm(y.permute(0, 2, 3, 1)))))
        return x + y.permute(0, 3, 1, 2)


def folded(module):
    """The same function with no BN, merged branches and no layer scale, in double and then rounded once."""
    module = copy.deepcopy(module).double().eval()
    with torch.no_grad():
        for parent in list(module.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, nn.Sequential) and isinstance(getattr(child, "bn", None), nn.BatchNorm2d):
                    setattr(parent, name, fuse_conv_bn_eval(child.conv, child.bn))
        for block in module.modules():
            if isinstance(block, definitions.LargeKernel) and hasattr(block, "small_conv"):
                merge_branches(block, "lkb_origin", "small_conv")
            elif isinstance(block, definitions.Stripes) and hasattr(block, "small_conv"):
                merge_branches(block, "LoRA1", "small_conv")
            elif isinstance(block, definitions.RepLKBlock):
                scale_inputs(block.pw1, block.prelkb_bn)
                block.prelkb_bn = nn.Identity()
            elif isinstance(block, definitions.ConvFFN):
                scale_inputs(block.pw1, block.preffn_bn)
                block.preffn_bn = nn.Identity()
            elif isinstance(block, definitions.ConvNeXtBlock):
                block.pwconv2.weight.mul_(block.gamma.view(-1, 1))
                block.pwconv2.bias.mul_(block.gamma)
                block.__class__ = FoldedBlock
    return module.float()


def deployed(model, network):
    """folded(), or for UniRepLKNet its own merged form, which does the same."""
    if not isinstance(network, definitions.UniRepLKNet):
        return folded(network)
    merged = train_form(model, merged=True).double().eval()
    merged.load_state_dict(definitions.merged(copy.deepcopy(network).double().state_dict()))
    return merged.float()


class Inference(nn.Module):
    """Logits alone, or the four stages' maps alone, as the runtimes are asked for."""

    def __init__(self, network, features):
        super().__init__()
        self.network, self.features = network, features

    def forward(self, x):
        logits, maps = self.network(x)
        return tuple(maps) if self.features else logits

    def stages(self, x):
        return self.network(x)[1]


def in_double(module):
    return copy.deepcopy(module).double()


def build(model, size, features=False, seed=1):
    """(module in evaluation form, state dict of train form for our loader, or None where we have no such network)."""
    if model.startswith("swin-"):
        if size[0] != size[1]:
            raise ValueError(f"{model}: size is {size[0]}x{size[1]}, want a square")
        return swin.Swin(model.split("-")[1], size[0]).eval(), None
    network = definitions.randomise(train_form(model), seed)
    return Inference(deployed(model, network), features).eval(), network.state_dict()


def depthwise_layer(shape):
    """(module, input) of a shape with one kernel, stride 1 and default padding."""
    match = re.fullmatch(r"n(\d+)c(\d+)h(\d+)w(\d+)k(\d+)(?:x(\d+))?", shape)
    if not match:
        raise ValueError(f"shape {shape}: want nNcChHwWkK or ...kKxK here")
    n, c, h, w, kernel_h, kernel_w = (int(g) if g else int(match[5]) for g in match.groups())
    layer = nn.Conv2d(c, c, (kernel_h, kernel_w), padding=(kernel_h // 2, kernel_w // 2), groups=c).eval()
    return layer, torch.randn(n, c, h, w).numpy()


def normalise(model, pixels):
    """uint8 H x W x 3 to the network's input, 1 x 3 x H x W."""
    mean, deviation = ((0.5,) * 3, (0.5,) * 3) if model.startswith("replknet-xl") else (
        (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    x = (pixels.astype(np.float32) / 255 - np.float32(mean)) / np.float32(deviation)
    return torch.from_numpy(x.transpose(2, 0, 1)[None].copy())


def write_png(path, pixels):
    """H x W x 3 uint8 as an RGB PNG."""
    height, width, _ = pixels.shape

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1).tobytes()
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
                   + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b""))
