#!/usr/bin/env python3
"""The networks that ship, on all 10,000 test images of Fashion-MNIST: `replk eval` against PyTorch in float32.

    python3 tests/parity/nano.py [--build build] [--golden]

PyTorch gets the same files and its own plain convolutions (definitions.py). One line a network: both accuracies, and how
many predictions differ; exits with 1 where more than 2 do. --golden writes tests/cli/goldens/replknet-nano.json for the
quick suite. Needs torch, numpy, safetensors and Debian's dataset-fashion-mnist.
"""
import argparse
import csv
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
from safetensors import safe_open

import definitions as d

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'python'))
import train_nano as nano  # noqa: E402  how images are read and normalised

MODELS = {'replknet-nano': ('replknet-nano', (13, 13, 7, 3)), 'replknet-nano:k=3': ('replknet-nano-3x3', (3, 3, 3, 3))}
ALLOWED = 2


def pytorch(name, images):
    """Logits of the file in float32."""
    file, kernels = MODELS[name]
    network = d.RepLKNet(nano.DEPTHS, nano.CHANNELS, kernels, nano.SMALL_KERNEL, classes=10,
                         feedforward=nano.FEEDFORWARD_RATIO, stem_strides=nano.STEM_STRIDES)
    with safe_open(ROOT / 'models' / f'{file}.safetensors', 'pt') as tensors:
        network.load_state_dict({key: tensors.get_tensor(key) for key in tensors.keys()})
        labels = tensors.metadata()['labels'].split('\n')
    network.eval()
    with torch.no_grad():
        return torch.cat([network(nano.to_input(part))[0] for part in images.split(500)]), labels


def ours(name, program):
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / 'predictions.csv'
        subprocess.run([program, 'eval', '--model', name, '--threads', '1', '--images', nano.DATA / 't10k-images-idx3-ubyte.gz', '--out', out],
                       check=True, stdout=subprocess.DEVNULL)
        with out.open() as file:
            file.readline()
            rows = sorted(csv.DictReader(file), key=lambda row: int(row['index']))
    return torch.tensor([int(row['predicted']) for row in rows])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--build', default='build', type=pathlib.Path, help='the build folder (default: build)')
    parser.add_argument('--golden', action='store_true', help='write the golden of the quick suite')
    options = parser.parse_args()
    images, truth = nano.read_set(nano.DATA, 't10k')
    golden, good = {}, True
    for name in MODELS:
        logits, labels = pytorch(name, images)
        theirs = logits.argmax(1)
        if options.golden:
            pictures = sorted(int(path.name[:4]) for path in (ROOT / 'examples' / 'fashion-mnist').glob('*.png'))
            golden['labels'] = labels
            golden[name] = {
                'predicted': theirs[:200].tolist(), 'top1_of_200': (theirs == truth)[:200].double().mean().item(),
                'probabilities': {i: [round(p, 7) for p in logits[i].softmax(0).tolist()] for i in pictures}}
            continue
        mine = ours(name, options.build / 'replk')
        differing = (mine != theirs).sum().item() if len(mine) == len(theirs) else len(theirs)
        good &= differing <= ALLOWED
        print(f'{name}: replk {100 * (mine == truth).double().mean():.2f} %, PyTorch '
              f'{100 * (theirs == truth).double().mean():.2f} %, {differing} of {len(theirs)} predictions differ', flush=True)
    if options.golden:
        path = ROOT / 'tests' / 'cli' / 'goldens' / 'replknet-nano.json'
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(golden) + '\n')
    return 0 if good else 1


if __name__ == '__main__':
    sys.exit(main())
