#!/usr/bin/env python3
"""Trains replknet-nano on Fashion-MNIST and writes it as the library ships it.

    python3 python/train_nano.py [--kernels 13,13,7,3] [--seed 1] [--out FILE.safetensors] [--checkpoint FILE]
                                 [--depthwise matrix|torch|replk]

The network is RepLKNet (arXiv 2203.06717) with the official module names, small enough for a CPU: see Nano below, which
is the row `replknet-nano` of lib/model/architecture.cpp. The data is Debian's package dataset-fashion-mnist (MIT). The
same seed gives the same file on the same machine and version of PyTorch. Each epoch ends with a line and a checkpoint;
run again, it goes on from there. Needs torch and numpy, one core and no GPU. What ships was trained with --depthwise
matrix; replk computes the same layers with this library's op (docs/python.md).
"""
import argparse
import gzip
import math
import os
import pathlib
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import convert  # noqa: F401  (makes replk_source)
from replk_source.convert import storage
from replk_source.convert.tensors import of_torch

LABELS = ('T-shirt/top', 'trouser', 'pullover', 'dress', 'coat', 'sandal', 'shirt', 'sneaker', 'bag', 'ankle boot')
MEAN, STD = 0.2860, 0.3530  # of the training set's pixels in 0..1
DATA = pathlib.Path('/usr/share/datasets/fashion-mnist')
# The row of lib/model/architecture.cpp.
KERNELS, DEPTHS, CHANNELS, SMALL_KERNEL = (13, 13, 7, 3), (1, 2, 1, 1), (24, 48, 96, 128), 5
FEEDFORWARD_RATIO, STEM_STRIDES = 2, (2, 1)
# Of the learning rate: epochs, peak, by how many pixels images are shifted, which share of them is mirrored. The second
# cycle is on images nearly as they are: all shoes point to the left.
CYCLES = (10, 6e-3, 2, 0.5), (3, 3e-3, 1, 0.0)


def conv_bn(inputs, outputs, kernel, stride=1, groups=1):
    layer = nn.Sequential()
    layer.add_module('conv', nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False))
    layer.add_module('bn', nn.BatchNorm2d(outputs))
    return layer


class Depthwise(nn.Conv2d):
    """A depthwise convolution with "same" padding, for training on small maps.

    PyTorch's own takes seconds for the gradient of a large kernel. A channel's convolution of a whole map is one matrix,
    pixels by pixels, with the kernel's values where an input reaches an output: a batched matrix product, whose gradient
    PyTorch knows. On maps of up to 14 x 14 that is faster than transforms too.
    """

    def __init__(self, channels, kernel):
        super().__init__(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False)
        self.places = {}

    def places_of(self, height, width):
        """For each input and output pixel the tap between them, or the number of taps where there is none."""
        if (height, width) not in self.places:
            k = self.kernel_size[0]
            rows = torch.arange(height)[:, None] - torch.arange(height)[None, :] + k // 2
            cols = torch.arange(width)[:, None] - torch.arange(width)[None, :] + k // 2
            rows, cols = rows[:, None, :, None], cols[None, :, None, :]
            taps = torch.where((rows >= 0) & (rows < k) & (cols >= 0) & (cols < k), rows * k + cols, k * k)
            self.places[height, width] = taps.flatten()
        return self.places[height, width]

    def forward(self, x):
        n, c, height, width = x.shape
        pixels = height * width
        taps = F.pad(self.weight.flatten(1), (0, 1))
        matrix = taps.index_select(1, self.places_of(height, width)).view(c, pixels, pixels)
        y = torch.bmm(x.transpose(0, 1).contiguous().view(c, n, pixels), matrix)
        return y.view(c, n, height, width).transpose(0, 1).contiguous(memory_format=torch.channels_last)


class LargeKernel(nn.Module):
    def __init__(self, channels, kernel, small):
        super().__init__()
        self.lkb_origin = self.branch(channels, kernel)
        if 0 < small <= kernel:
            self.small_conv = self.branch(channels, small)

    @staticmethod
    def branch(channels, kernel):
        layer = nn.Sequential()
        layer.add_module('conv', Depthwise(channels, kernel) if kernel > 5 else nn.Conv2d(
            channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False))
        layer.add_module('bn', nn.BatchNorm2d(channels))
        return layer

    def forward(self, x):
        y = self.lkb_origin(x)
        return y + self.small_conv(x) if hasattr(self, 'small_conv') else y


class RepLKBlock(nn.Module):
    def __init__(self, channels, kernel, small, shortcut):
        super().__init__()
        self.prelkb_bn = nn.BatchNorm2d(channels)
        self.pw1 = conv_bn(channels, channels, 1)
        self.large_kernel = LargeKernel(channels, kernel, small)
        self.pw2 = conv_bn(channels, channels, 1)
        self.shortcut = shortcut

    def forward(self, x):
        y = F.relu(self.pw1(self.prelkb_bn(x)))
        y = self.pw2(F.relu(self.large_kernel(y)))
        return x + y if self.shortcut else y


class ConvFFN(nn.Module):
    def __init__(self, channels, hidden, shortcut):
        super().__init__()
        self.preffn_bn = nn.BatchNorm2d(channels)
        self.pw1 = conv_bn(channels, hidden, 1)
        self.pw2 = conv_bn(hidden, channels, 1)
        self.shortcut = shortcut

    def forward(self, x):
        y = self.pw2(F.gelu(self.pw1(self.preffn_bn(x))))
        return x + y if self.shortcut else y


class Stage(nn.Module):
    def __init__(self, channels, depth, kernel, small, shortcut):
        super().__init__()
        self.blocks = nn.Sequential(*[block for _ in range(depth) for block in (
            RepLKBlock(channels, kernel, small, shortcut), ConvFFN(channels, FEEDFORWARD_RATIO * channels, shortcut))])

    def forward(self, x):
        return self.blocks(x)


class Nano(nn.Module):
    """RepLKNet with a stem of stride 2, so that a 28x28 image has maps of 14, 7, 4 and 2."""

    def __init__(self, kernels=KERNELS, channels=CHANNELS, small_kernel=SMALL_KERNEL, shortcut=True):
        super().__init__()
        c = channels[0]
        self.stem = nn.ModuleList([conv_bn(3, c, 3, STEM_STRIDES[0]), conv_bn(c, c, 3, 1, c), conv_bn(c, c, 1),
                                   conv_bn(c, c, 3, STEM_STRIDES[1], c)])
        self.stages = nn.ModuleList([Stage(channels[s], DEPTHS[s], kernels[s], small_kernel, shortcut)
                                     for s in range(4)])
        self.transitions = nn.ModuleList([nn.ModuleList([
            conv_bn(channels[s], channels[s + 1], 1),
            conv_bn(channels[s + 1], channels[s + 1], 3, 2, channels[s + 1])]) for s in range(3)])
        self.norm = nn.BatchNorm2d(channels[3])
        self.head = nn.Linear(channels[3], len(LABELS))

    def forward(self, x):
        for layer in self.stem:
            x = F.relu(layer(x))
        for s, stage in enumerate(self.stages):
            x = stage(x)
            if s < 3:
                for layer in self.transitions[s]:
                    x = F.relu(layer(x))
        return self.head(self.norm(x).mean((2, 3)))


def computed_by(model, depthwise):
    """The model with its depthwise convolutions computed as asked; parameters and their names stay. 'matrix': as built."""
    if depthwise == 'matrix':
        return model
    if depthwise == 'replk':
        from replk.torch import DepthwiseConv2d  # of the wheel, or of a build tree (REPLK_LIBRARY)
        layer = DepthwiseConv2d
    else:
        layer = lambda channels, kernel, **options: nn.Conv2d(channels, channels, kernel, groups=channels, **options)
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Conv2d) and child.groups == child.in_channels:
                other = layer(child.in_channels, child.kernel_size, stride=child.stride, padding=child.padding, bias=False)
                other.weight = child.weight
                setattr(parent, name, other)
    return model


def read_idx(path):
    """An IDX file of bytes, as an array."""
    with gzip.open(path) as file:
        data = file.read()
    shape = [int.from_bytes(data[4 + 4 * i:8 + 4 * i], 'big') for i in range(data[3])]
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=4 + 4 * len(shape)).reshape(shape).copy())


def read_set(folder, name):
    return (read_idx(folder / f'{name}-images-idx3-ubyte.gz'),
            read_idx(folder / f'{name}-labels-idx1-ubyte.gz').long())


def to_input(images):
    """N x 28 x 28 bytes to N x 3 x 28 x 28: grey three times, normalised as `replk` does."""
    grey = (images.unsqueeze(1).float() / 255 - MEAN) / STD
    return grey.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


def augment(images, shift, share, random):
    """That share of the images mirrored, the batch shifted by up to so many pixels each way."""
    mirrored = torch.rand(len(images), generator=random) < share
    images = torch.where(mirrored[:, None, None], images.flip(2), images)
    top, left = torch.randint(0, 2 * shift + 1, (2,), generator=random).tolist()
    return F.pad(images, (shift,) * 4)[:, top:top + 28, left:left + 28]


def cycle_of(epoch, cycles):
    """The cycle that an epoch belongs to, and its number in it."""
    for cycle in cycles:
        if epoch < cycle[0]:
            return cycle, epoch
        epoch -= cycle[0]


def train(model, images, labels, seed, cycles=CYCLES, batch=100, checkpoint=None, log=print):
    """AdamW, label smoothing, cycles of the learning rate: up in a fifth of the steps, down along a cosine. The last
    epoch's weights are what counts."""
    model.to(memory_format=torch.channels_last)
    decayed = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW([{'params': decayed, 'weight_decay': 0.05}, {'params': others, 'weight_decay': 0.0}])
    steps, start, all_epochs = len(images) // batch, 0, sum(cycle[0] for cycle in cycles)
    if checkpoint and checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved['model'])
        optimizer.load_state_dict(saved['optimizer'])
        start = saved['epochs']
    for epoch in range(start, all_epochs):
        (epochs, peak, shift, mirrored), epoch_of_cycle = cycle_of(epoch, cycles)
        began, hits, losses = time.process_time(), 0, 0.0
        model.train()
        random = torch.Generator().manual_seed(1000 * seed + epoch)
        order = torch.randperm(len(images), generator=random)
        for step in range(steps):
            progress = (epoch_of_cycle * steps + step) / (epochs * steps)
            rate = peak * (progress / 0.2 if progress < 0.2 else 0.5 + 0.5 * math.cos(math.pi * (progress - 0.2) / 0.8))
            for group in optimizer.param_groups:
                group['lr'] = rate
            chosen = order[step * batch:(step + 1) * batch]
            logits = model(to_input(augment(images[chosen], shift, mirrored, random)))
            loss = F.cross_entropy(logits, labels[chosen], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            hits += (logits.argmax(1) == labels[chosen]).sum().item()
            losses += loss.item()
        log(f'epoch {epoch + 1} of {all_epochs}: loss {losses / steps:.4f}, training accuracy '
            f'{100 * hits / (steps * batch):.2f} %, {time.process_time() - began:.0f} s of one core')
        if checkpoint:
            temporary = checkpoint.with_suffix('.tmp')
            torch.save({'model': model.state_dict(), 'optimizer': optimizer.state_dict(), 'epochs': epoch + 1}, temporary)
            os.replace(temporary, checkpoint)


@torch.no_grad()
def logits_of(model, images, batch=500):
    model.eval()
    return torch.cat([model(to_input(part)) for part in images.split(batch)])


def accuracy(model, images, labels):
    return (logits_of(model, images).argmax(1) == labels).double().mean().item()


def name_of(kernels):
    return 'replknet-nano' if kernels == KERNELS else f'replknet-nano:k={",".join(map(str, kernels))}'


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--kernels', default=','.join(map(str, KERNELS)), help='one a stage (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--data', type=pathlib.Path, default=DATA, help=f'folder of the IDX files (default: {DATA})')
    parser.add_argument('--checkpoint', type=pathlib.Path, default=None, help='kept after each epoch, and gone on from')
    parser.add_argument('--depthwise', choices=('matrix', 'torch', 'replk'), default='matrix',
                        help='what computes them: batched matrix products where kernels are large, PyTorch alone, or '
                             'replk.torch (default: %(default)s)')
    parser.add_argument('--out', default=None, metavar='FILE.safetensors')
    options = parser.parse_args()
    kernels = tuple(int(k) for k in options.kernels.split(','))
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(options.seed)
    model = computed_by(Nano(kernels), options.depthwise)
    log = lambda line: print(line, flush=True)
    train(model, *read_set(options.data, 'train'), options.seed, checkpoint=options.checkpoint, log=log)
    top1 = accuracy(model, *read_set(options.data, 't10k'))
    log(f'{name_of(kernels)}, seed {options.seed}: {100 * top1:.2f} % of the 10,000 test images')
    if options.out:
        storage.save(options.out, {name: of_torch(name, tensor) for name, tensor in model.state_dict().items()}, {
            'format': 'pt', 'model': name_of(kernels), 'labels': '\n'.join(LABELS), 'data': 'Fashion-MNIST (MIT)',
            'seed': str(options.seed), 'epochs': ' + '.join(str(cycle[0]) for cycle in CYCLES), 'top1': f'{top1:.4f}'})


if __name__ == '__main__':
    sys.exit(main())
