#!/usr/bin/env python3
"""The guidelines of RepLKNet's paper (arXiv 2203.06717, tables 2 to 4), measured on Fashion-MNIST.

    python3 python/guidelines.py [--seeds 1,2,3] [--results docs/bench/guidelines.csv]

A narrower replknet-nano, with 3x3 or 13x13 kernels, with and without shortcuts and the small branch beside a large
kernel, and with larger kernels on its maps of 7x7 alone, is trained on a part of the training set by a short schedule,
the same for all. A run appends one line to the results; runs that are there already are not done again, so that it can
be stopped at any time, and several may run side by side with seeds of their own. A run takes about a minute of one core.
bench/reproduction.py makes the table.
"""
import argparse
import pathlib
import sys
import time

import torch

import train_nano as nano

LARGE, SMALL = (13, 13, 7, 3), (3, 3, 3, 3)  # 13x13 cropped to what maps of 14, 7, 4 and 2 can reach
CONFIGURATIONS = {  # name: kernels, small kernel, shortcut
    '13x13': (LARGE, 5, True),
    '13x13 without the small branch': (LARGE, 0, True),
    '13x13 without shortcuts': (LARGE, 5, False),
    '3x3': (SMALL, 0, True),
    '3x3 without shortcuts': (SMALL, 0, False),
    # Table 4 is about MobileNetV2's last maps, 7x7 at 224; of this network that is the second stage.
    '7x7 on maps of 7x7 alone': ((3, 7, 3, 3), 0, True),
    '13x13 on maps of 7x7 alone': ((3, 13, 3, 3), 0, True),
}
CHANNELS, IMAGES, CYCLE = (16, 32, 48, 64), 10_000, (4, 6e-3, 2, 0.5)
COLUMNS = 'configuration,seed,top1,seconds_of_one_core,images,epochs,torch'


def finished(path):
    if not path.exists():
        path.write_text(COLUMNS + '\n')
    return {tuple(line.split(',')[:2]) for line in path.read_text().splitlines()[1:]}


def run(configuration, seed, train_set, test_set):
    kernels, small, shortcut = CONFIGURATIONS[configuration]
    began = time.process_time()
    torch.manual_seed(seed)
    model = nano.Nano(kernels, channels=CHANNELS, small_kernel=small, shortcut=shortcut)
    # Each seed has a part of the training set of its own.
    chosen = torch.randperm(len(train_set[0]), generator=torch.Generator().manual_seed(seed))[:IMAGES]
    nano.train(model, train_set[0][chosen], train_set[1][chosen], seed, (CYCLE,),
               log=lambda line: None)
    return nano.accuracy(model, *test_set), time.process_time() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--seeds', default='1,2,3')
    parser.add_argument('--results', type=pathlib.Path,
                        default=pathlib.Path(__file__).resolve().parents[1] / 'docs' / 'bench' / 'guidelines.csv')
    parser.add_argument('--data', type=pathlib.Path, default=nano.DATA, help=f'folder of the IDX files (default: {nano.DATA})')
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    train_set, test_set = nano.read_set(options.data, 'train'), nano.read_set(options.data, 't10k')
    for seed in options.seeds.split(','):
        for configuration in CONFIGURATIONS:
            if (configuration, seed) in finished(options.results):
                continue
            top1, seconds = run(configuration, int(seed), train_set, test_set)
            line = f'{configuration},{seed},{top1:.4f},{seconds:.0f},{IMAGES},{CYCLE[0]},{torch.__version__}'
            with options.results.open('a') as file:
                file.write(line + '\n')
            print(line, flush=True)


if __name__ == '__main__':
    sys.exit(main())
