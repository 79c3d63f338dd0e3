#!/usr/bin/env python3
"""Trains convnextv2-mini on Fashion-MNIST and writes it as the library ships it.

    python3 python/train_convnext.py [--seed 1] [--out FILE.safetensors] [--checkpoint FILE] [--depthwise replk|torch]

ConvNeXt V2 (arXiv 2301.00808) as timm defines it, small enough for a CPU: the row `convnextv2-mini` of
lib/model/architecture.cpp. It is the network with LayerNorm, GRN and GELU whose accuracy in narrow types is tested, beside
replknet-nano's batch norms and ReLU. Data, augmentation and schedule are train_nano.py's; images are enlarged to 56 x 56
as `replk` enlarges them, since its stem takes 4 x 4 pixels at a time. Depthwise layers are computed by replk.torch unless
torch is asked for. Needs torch, timm and numpy, and what replk.torch needs (docs/pytorch.md).
"""
import argparse
import pathlib
import sys
import tempfile

import torch
from timm.models.convnext import ConvNeXt
from torch import nn
from torch.nn import functional as F

import train_nano as nano
from replk_source.convert import convert

DEPTHS, CHANNELS, SIDE = (1, 1, 2, 1), (24, 48, 96, 192), 56


class Enlarged(nn.Module):
    """The network on its input enlarged, by the bicubic filter that Pillow and `replk` use."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(F.interpolate(x, (SIDE, SIDE), mode='bicubic', antialias=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--data', type=pathlib.Path, default=nano.DATA, help=f'folder of the IDX files (default: {nano.DATA})')
    parser.add_argument('--checkpoint', type=pathlib.Path, default=None, help='kept after each epoch, and gone on from')
    parser.add_argument('--depthwise', choices=('replk', 'torch'), default='replk')
    parser.add_argument('--out', default=None, metavar='FILE.safetensors')
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    network = ConvNeXt(num_classes=len(nano.LABELS), depths=DEPTHS, dims=CHANNELS, use_grn=True, ls_init_value=None)
    if options.depthwise == 'replk':
        import replk.torch
        replk.torch.optimize(network)
    model = Enlarged(network)
    log = lambda line: print(line, flush=True)
    nano.train(model, *nano.read_set(options.data, 'train'), options.seed, checkpoint=options.checkpoint, log=log)
    top1 = nano.accuracy(model, *nano.read_set(options.data, 't10k'))
    log(f'convnextv2-mini, seed {options.seed}: {100 * top1:.2f} % of the 10,000 test images')
    if options.out:
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            torch.save(network.state_dict(), folder / 'trained.pth')
            (folder / 'labels').write_text('\n'.join(nano.LABELS) + '\n')
            convert(folder / 'trained.pth', options.out, labels=folder / 'labels', dtype='fp16')


if __name__ == '__main__':
    sys.exit(main())
