#!/usr/bin/env python3
"""Networks at full size against PyTorch in float64.

    python3 tests/parity/full_size.py [--build build] [--merged] [--gradient] [--weights FILE] [MODEL@HxW...]

Each network gets random tensors (BN statistics far from identity), which both sides read from one .safetensors file. One
line a network: the largest difference over the largest output, of the logits and of each stage, and whether the five
best classes agree. Exits with 1 where a figure is above 1e-5. With --gradient: the gradient of the last map's centre by
the pixels (what `replk erf` draws), whose figure may be 1e-4. Needs torch, numpy and safetensors; 31B takes about 3 GB
of memory, XL 8.
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file

import definitions as d

REPLK = (2, 2, 18, 2), (128, 256, 512, 1024), (31, 29, 27, 13), 5
NANO = {'classes': 10, 'feedforward': 2, 'stem_strides': (2, 1)}
T, S = (3, 3, 9, 3), (3, 3, 27, 3)


def widths(c):
    return c, 2 * c, 4 * c, 8 * c


def unireplknet(depths, c, period):
    return lambda **form: d.UniRepLKNet(depths, widths(c), (3, 13, 13, 13), period, **form)


def convnext(depths, channels, kernels, small=0, **options):
    return lambda: d.ConvNeXt(depths, channels, kernels, small, **options)


def convnextv2(depths, c):
    return convnext(depths, widths(c), (7, 7, 7, 7), grn=True, layer_scale=False)


MODELS = {
    'replknet-31b': lambda **form: d.RepLKNet(*REPLK, **form),
    'replknet-31b:small=0': lambda **form: d.RepLKNet(*REPLK[:3], 0, **form),
    'replknet-31b:small=3': lambda **form: d.RepLKNet(*REPLK[:3], 3, **form),
    'replknet-31b:k=3,3,3,3': lambda **form: d.RepLKNet(REPLK[0], REPLK[1], (3, 3, 3, 3), 5, **form),
    'replknet-nano': lambda **form: d.RepLKNet((1, 2, 1, 1), (24, 48, 96, 128), (13, 13, 7, 3), 5, **NANO, **form),
    'replknet-nano:k=3': lambda **form: d.RepLKNet((1, 2, 1, 1), (24, 48, 96, 128), (3, 3, 3, 3), 5, **NANO, **form),
    'replknet-nano:k=5': lambda **form: d.RepLKNet((1, 2, 1, 1), (24, 48, 96, 128), (5, 5, 5, 5), 5, **NANO, **form),
    'replknet-31l': lambda **form: d.RepLKNet(REPLK[0], widths(192), *REPLK[2:], **form),
    'replknet-xl': lambda **form: d.RepLKNet(REPLK[0], widths(256), (27, 27, 27, 13), 0, 1.5, **form),
    'slak-t': convnext(T, (124, 249, 499, 998), (51, 49, 47, 13), 5),
    'slak-s': convnext(S, (124, 249, 499, 998), (51, 49, 47, 13), 5),
    'slak-b': convnext(S, (166, 332, 665, 1331), (51, 49, 47, 13), 5),
    'slak-l': convnext(S, (249, 499, 998, 1996), (51, 49, 47, 13), 5),
    'slak-t:width=1': convnext(T, widths(96), (51, 49, 47, 13), 5),
    'convnext-t': convnext(T, widths(96), (7, 7, 7, 7)),
    'convnext-t:k=31,29,27,13': convnext(T, widths(96), (31, 29, 27, 13)),
    'convnext-t:k=51,49,47,13': convnext(T, widths(96), (51, 49, 47, 13)),
    'convnext-s': convnext(S, widths(96), (7, 7, 7, 7)),
    'convnext-b': convnext(S, widths(128), (7, 7, 7, 7)),
    'convnext-l': convnext(S, widths(192), (7, 7, 7, 7)),
    'convnext-xl': convnext(S, widths(256), (7, 7, 7, 7)),
    'convnextv2-a': convnextv2((2, 2, 6, 2), 40), 'convnextv2-t': convnextv2(T, 96), 'convnextv2-b': convnextv2(S, 128),
    'convnextv2-l': convnextv2(S, 192), 'convnextv2-h': convnextv2(S, 352),
    'unireplknet-a': unireplknet((2, 2, 6, 2), 40, 1), 'unireplknet-f': unireplknet((2, 2, 6, 2), 48, 1),
    'unireplknet-p': unireplknet((2, 2, 6, 2), 64, 1), 'unireplknet-n': unireplknet((2, 2, 8, 2), 80, 1),
    'unireplknet-t': unireplknet((3, 3, 18, 3), 80, 2), 'unireplknet-s': unireplknet(S, 96, 3),
    'unireplknet-b': unireplknet(S, 128, 3), 'unireplknet-l': unireplknet(S, 192, 3),
    'unireplknet-xl': unireplknet(S, 256, 3),
    'mobilenetv2': lambda: d.MobileNetV2((1, 2, 3, 4, 3, 3, 1), (16, 24, 32, 64, 96, 160, 320), (3,) * 7),
    'mobilenetv2:k=13': lambda: d.MobileNetV2((1, 2, 3, 4, 3, 3, 1), (16, 24, 32, 64, 96, 160, 320), (13,) * 7),
}
DEFAULT = 'replknet-31b@224', 'replknet-xl@224', 'replknet-31b@384'


def difference(ours, wanted):
    return ((ours.double() - wanted).abs().max() / wanted.abs().max()).item()


def compare(name, size, folder, options):
    height, width = (int(side) for side in (size.split('x') if 'x' in size else (size, size)))
    network = d.randomise(MODELS[name](), 7)
    if options.weights:
        network.load_state_dict(load_file(options.weights))
    pixels = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(1))
    save_file({'pixels': pixels}, folder / 'input')
    if not options.merged:
        save_file({key: tensor.contiguous() for key, tensor in network.state_dict().items()}, folder / 'weights')
    network.double()
    if options.merged:
        state = d.merged(network.state_dict())
        save_file({key: tensor.float().contiguous() for key, tensor in state.items()}, folder / 'weights')
    title = f'{name}@{size}{" merged" if options.merged else ""}'
    program = [options.build / 'tests' / 'replk_parity', name, *(folder / file for file in ('weights', 'input', 'output'))]
    if options.gradient:
        subprocess.run([*program, 'gradient'], check=True)
        figure = difference(load_file(folder / 'output')['gradient'], d.centre_gradient(network, pixels))
        print(title, f'gradient {figure:.2e}', flush=True)
        return figure <= 1e-4
    subprocess.run(program, check=True)
    with torch.no_grad():
        logits, features = network(pixels.double())
    ours = load_file(folder / 'output')
    wanted = {'logits': logits} | {f'stage{s + 1}': feature for s, feature in enumerate(features)}
    figures = {key: difference(ours[key], value) for key, value in wanted.items()}
    top5 = torch.equal(ours['logits'].topk(5).indices, logits.topk(5).indices)
    print(title, *(f'{key} {figure:.2e}' for key, figure in figures.items()), f'top5 {"equal" if top5 else "DIFFERS"}',
          flush=True)
    return top5 and max(figures.values()) <= 1e-5


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--build', default='build', type=pathlib.Path, help='the build folder (default: build)')
    parser.add_argument('--merged', action='store_true', help='hand over merged-form tensors')
    parser.add_argument('--weights', type=pathlib.Path, help='train-form tensors of this .safetensors file, not random ones')
    parser.add_argument('--gradient', action='store_true', help="compare the gradient of the last map's centre instead")
    parser.add_argument('networks', nargs='*', metavar='MODEL@SIZE', default=DEFAULT)
    options = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory() as folder:
        for network in options.networks:
            name, _, size = network.partition('@')
            if name not in MODELS:
                parser.error(f'{name}: unknown; there are {", ".join(MODELS)}')
            good &= compare(name, size or '224', pathlib.Path(folder), options)
    return 0 if good else 1


if __name__ == '__main__':
    sys.exit(main())
