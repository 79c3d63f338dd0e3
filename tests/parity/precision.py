#!/usr/bin/env python3
"""How far narrow precisions are from fp32: networks at full size with random weights, and those that ship on 10,000 images.

    python3 tests/parity/precision.py [--build build] [--seeds 5] [--precision P...] [MODEL@HxW...]
    python3 tests/parity/precision.py --accuracy

Our fp32 is within 1e-5 of float64 (full_size.py), so it is the reference. One line a network and precision: the largest
difference over the largest value of each stage, the worst of the seeds.
Exits with 1 above 1e-2 (bf16) or 5e-2 (int8), or, with --accuracy, where top-1 of a network that ships moves by more points
than POINTS allows. Needs numpy alone, and Debian's dataset-fashion-mnist for --accuracy.
"""
import argparse
import json
import pathlib
import struct
import subprocess
import sys
import tempfile

import numpy as np

LIMITS = {'bf16': 1e-2, 'int8': 5e-2, 'bf16x3': 1e-4}
POINTS = {'replknet-nano': {'bf16': 0.1, 'int8': 0.3, 'int8, calibrated': 0.15},
          'convnextv2-mini': {'bf16': 0.1, 'int8': 0.5, 'int8, calibrated': 0.3}}  # no batch norms to choose ranges by
DATA = pathlib.Path('/usr/share/datasets/fashion-mnist')
DEFAULT = 'replknet-31b@224', 'slak-t@224', 'convnext-t@224', 'unireplknet-t@224', 'mobilenetv2@224'


def features(path):
    data = path.read_bytes()
    length = struct.unpack('<Q', data[:8])[0]
    header = json.loads(data[8:8 + length])
    return {name: np.frombuffer(data, np.float32, np.prod(entry['shape']), 8 + length + entry['data_offsets'][0])
            .reshape(entry['shape']) for name, entry in header.items() if name != '__metadata__'}


def stages(program, model, size, seed, precision, folder):
    out = folder / 'features.safetensors'
    subprocess.run([program, 'features', '--random', '--model', model, '--size', size, '--seed', str(seed), '--precision',
                    precision, '--out', out], check=True, stdout=subprocess.DEVNULL)
    return features(out)


def compare(options, network, folder):
    model, _, size = network.partition('@')
    worst = {}
    for seed in range(1, options.seeds + 1):
        wanted = stages(options.program, model, size or '224', seed, 'fp32', folder)
        for precision in options.precision:
            found = stages(options.program, model, size or '224', seed, precision, folder)
            figures = worst.setdefault(precision, {})
            for name, value in wanted.items():
                figure = np.abs(found[name] - value).max() / np.abs(value).max()
                figures[name] = max(figures.get(name, 0), float(figure))
    good = True
    for precision, figures in worst.items():
        good &= max(figures.values()) <= LIMITS[precision]
        print(network, precision, *(f'{name} {figure:.2e}' for name, figure in figures.items()), flush=True)
    return good


def top1(program, model, *arguments):
    done = subprocess.run([program, 'eval', '--model', model, '--images', DATA / 't10k-images-idx3-ubyte.gz',
                           '--batch', '32', '--json', *arguments], check=True, capture_output=True)
    return 100 * json.loads(done.stdout)['top1']


def accuracy(program, model, folder):
    calibrated = folder / 'calibrated.safetensors'
    subprocess.run([program, 'quantize', '--model', model, '--out', calibrated, '--images',
                    DATA / 'train-images-idx3-ubyte.gz', '--count', '256'], check=True, stdout=subprocess.DEVNULL)
    wanted = top1(program, model)
    print(f'{model}: fp32 {wanted:.2f} %')
    good = True
    for name, arguments in (('bf16', ['--precision', 'bf16']), ('int8', ['--precision', 'int8']),
                            ('int8, calibrated', ['--weights', calibrated])):
        found, allowed = top1(program, model, *arguments), POINTS[model][name]
        good &= abs(found - wanted) <= allowed
        print(f'{name} {found:.2f} %, {found - wanted:+.2f} points, allowed {allowed}', flush=True)
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--build', default='build', type=pathlib.Path, help='the build folder (default: build)')
    parser.add_argument('--seeds', default=5, type=int)
    parser.add_argument('--precision', nargs='+', default=['bf16', 'int8'], choices=LIMITS)
    parser.add_argument('--accuracy', action='store_true', help='those that ship, on Fashion-MNIST, instead')
    parser.add_argument('networks', nargs='*', metavar='MODEL@SIZE', default=DEFAULT)
    options = parser.parse_args()
    options.program = options.build / 'replk'
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        if options.accuracy:
            return 0 if all([accuracy(options.program, model, folder) for model in POINTS]) else 1
        return 0 if all([compare(options, network, folder) for network in options.networks]) else 1


if __name__ == '__main__':
    sys.exit(main())
