#!/usr/bin/env python3
"""Cue-conflict pictures of clothes: the silhouette of one class filled with the texture of another.

    python3 python/cue_conflict.py DIR [--pairs 20] [--seed 1]
    build/replk eval --model replknet-nano --shape-bias DIR

What Geirhos et al. (arXiv 1811.12231) made of photographs by style transfer, made of Fashion-MNIST's test images in a
plain way: where one image is not black, the brightest-filled 8x8 window of another, mirrored until it covers all. For
each ordered pair of the ten classes as many as asked for, named as `replk eval --shape-bias` reads them:
ankleboot3-bag17.png has the shape of test image 3 and the texture of test image 17. Needs numpy, PyTorch and Pillow.
"""
import argparse
import pathlib

import numpy as np
from PIL import Image

import train_nano as nano

WINDOW = 8
WORDS = [''.join(filter(str.isalnum, label)).lower() for label in nano.LABELS]  # as `replk eval --shape-bias` spells them


def texture(image):
    """[28, 28] out of the window of `image` [28, 28] that has the fewest black pixels, the brightest of such."""
    windows = np.lib.stride_tricks.sliding_window_view(image, (WINDOW, WINDOW))
    lit, bright = (windows > 0).sum((2, 3)), windows.sum((2, 3), dtype=np.int64)
    row, column = np.unravel_index(np.argmax(lit * (bright.max() + 1) + bright), lit.shape)
    return np.pad(windows[row, column], (0, image.shape[0] - WINDOW), 'symmetric')


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folder', type=pathlib.Path, metavar='DIR')
    parser.add_argument('--pairs', type=int, default=20, help='pictures of each pair of classes (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--data', type=pathlib.Path, default=nano.DATA, help=f'folder of the IDX files (default: {nano.DATA})')
    options = parser.parse_args()
    images, labels = (tensor.numpy() for tensor in nano.read_set(options.data, 't10k'))
    chance = np.random.default_rng(options.seed)
    options.folder.mkdir(parents=True, exist_ok=True)
    for shape, shape_word in enumerate(WORDS):
        for filling, filling_word in enumerate(WORDS):
            if shape == filling:
                continue
            shapes, fillings = (chance.choice(np.flatnonzero(labels == c), options.pairs, replace=False) for c in (shape, filling))
            for s, t in zip(shapes, fillings):
                picture = np.where(images[s] > 0, texture(images[t]), 0).astype(np.uint8)
                Image.fromarray(picture).save(options.folder / f'{shape_word}{s}-{filling_word}{t}.png')


if __name__ == '__main__':
    main()
