"""Swin Transformer for inference (Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows",
ICCV 2021, section 3), written for timing: the network that RepLKNet is compared with in its paper, table 6.

Input N x 3 x H x W, output logits. Window 7 for sizes that are multiples of 224, 12 for 384, as in the paper.
"""
import torch
from torch import nn
from torch.nn import functional as F

EMBED = {"t": (96, (2, 2, 6, 2), (3, 6, 12, 24)), "s": (96, (2, 2, 18, 2), (3, 6, 12, 24)),
         "b": (128, (2, 2, 18, 2), (4, 8, 16, 32)), "l": (192, (2, 2, 18, 2), (6, 12, 24, 48))}


def to_windows(x, w):
    """B x H x W x C to (B * windows) x w*w x C."""
    b, h, width, c = x.shape
    return x.view(b, h // w, w, width // w, w, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, w * w, c)


def from_windows(x, w, b, h, width):
    return x.view(b, h // w, width // w, w, w, -1).permute(0, 1, 3, 2, 4, 5).reshape(b, h, width, -1)


class Attention(nn.Module):
    """Multi-head attention inside a window, with relative position bias."""

    def __init__(self, dim, heads, window, shift, size):
        super().__init__()
        self.heads, self.window, self.shift, self.size = heads, window, shift, size
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        table = torch.zeros((2 * window - 1) ** 2, heads).normal_(std=0.02)
        grid = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        offset = grid[:, :, None] - grid[:, None, :] + window - 1
        index = offset[0] * (2 * window - 1) + offset[1]
        bias = table[index].permute(2, 0, 1)[None]  # 1 x heads x w*w x w*w, gathered once as deployments do
        if shift:
            region = torch.zeros(1, size, size, 1)
            cuts = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
            for i, (rows, columns) in enumerate((a, b) for a in cuts for b in cuts):
                region[:, rows, columns] = i
            region = to_windows(region, window).squeeze(-1)
            mask = torch.where(region[:, None] != region[:, :, None], -100.0, 0.0)  # windows x w*w x w*w
            bias = bias + mask[:, None]
        self.register_buffer("bias", bias)

    def forward(self, x):
        b, h, w, c = x.shape
        if self.shift:
            x = torch.roll(x, (-self.shift, -self.shift), (1, 2))
        x = to_windows(x, self.window)
        n = x.shape[1]
        q, k, v = self.qkv(x).view(-1, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.bias if self.bias.shape[0] == 1 else self.bias.repeat(b, 1, 1, 1)
        scores = (q * (c // self.heads) ** -0.5) @ k.transpose(-2, -1) + bias
        x = (scores.softmax(-1) @ v).transpose(1, 2).reshape(-1, n, c)
        x = from_windows(self.proj(x), self.window, b, h, w)
        return torch.roll(x, (self.shift, self.shift), (1, 2)) if self.shift else x


class Block(nn.Module):
    def __init__(self, dim, heads, window, shift, size):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads, window, shift, size)
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Merge(nn.Module):
    """2 x 2 patches to one of twice the channels."""

    def __init__(self, dim):
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(4 * dim), nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x):
        x = torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], -1)
        return self.reduction(self.norm(x))


class Swin(nn.Module):
    def __init__(self, variant="b", size=224, classes=1000):
        super().__init__()
        if size % 32:
            raise ValueError(f"size is {size}, want a multiple of 32")
        dim, depths, heads = EMBED[variant]
        window = 12 if size % 384 == 0 else 7
        self.embed, self.embed_norm = nn.Conv2d(3, dim, 4, 4), nn.LayerNorm(dim)
        layers, side = [], size // 4
        for stage in range(4):
            if side % window:
                raise ValueError(f"size is {size}: stage {stage + 1} has {side} pixels a side, not a multiple of {window}")
            shift = window // 2 if side > window else 0
            layers += [Block(dim, heads[stage], window, shift if i % 2 else 0, side) for i in range(depths[stage])]
            if stage < 3:
                layers.append(Merge(dim))
                dim, side = 2 * dim, side // 2
        self.layers, self.norm, self.head = nn.Sequential(*layers), nn.LayerNorm(dim), nn.Linear(dim, classes)

    def forward(self, x):
        x = self.embed_norm(self.embed(x).permute(0, 2, 3, 1))
        return self.head(self.norm(self.layers(x)).mean((1, 2)))
