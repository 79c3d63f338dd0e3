#!/usr/bin/env python3
"""Makes tests/model/goldens/: small networks with the real kernels, run by PyTorch in float64.

    python3 tests/parity/goldens.py [CASE...]

input.safetensors holds `pixels` (2 x 3 x H x W); CASE.safetensors a network's tensors; CASE.expected.safetensors its
`logits` and `stage1`..`stage4`; CASE.gradient.safetensors the `gradient` of its centre by the first picture's upper left
corner (definitions.centre_gradient). The widths are repeated in tests/model/goldens.hpp. Needs torch and safetensors.
"""
import pathlib
import sys

import torch
from safetensors.torch import save_file

import definitions

GOLDENS = pathlib.Path(__file__).resolve().parent.parent / 'model' / 'goldens'
SIZE = 75, 98  # neither side a multiple of any stride
CORNER = 51, 66  # of the gradients
CLASSES = 10
KERNELS = 31, 29, 27, 13


def replknet(**options):
    return definitions.RepLKNet((1, 1, 2, 1), (8, 12, 20, 24), KERNELS, 5, classes=CLASSES, **options)


def replknet_xl(**options):
    return definitions.RepLKNet((1, 1, 1, 1), (8, 10, 14, 18), (27, 27, 27, 13), 0, 1.5, CLASSES, norm=True, **options)


def unireplknet(**options):
    return definitions.UniRepLKNet((1, 1, 2, 1), (8, 12, 16, 24), (3, 13, 13, 13), 2, CLASSES, **options)


def convnext(**options):
    return definitions.ConvNeXt((1, 1, 2, 1), (8, 12, 16, 24), (7, 7, 7, 7), 0, CLASSES, **options)


def small_kernel(small):
    """RepLKNet-31B with another parallel kernel, or none."""
    return definitions.RepLKNet((1, 1, 1, 1), (4, 6, 8, 10), KERNELS, small, classes=CLASSES)


HEAD_EPSILON = 0.01  # another one than usual, as the metadata of convnext_bare say

CASES = {  # name: (network, type of the tensors)
    'replknet': (replknet, torch.float32),
    'replknet_xl': (replknet_xl, torch.float16),
    'slak': (lambda: definitions.ConvNeXt((1, 1, 2, 1), (7, 13, 19, 25), (51, 49, 47, 13), 5, CLASSES), torch.float16),
    'convnext': (convnext, torch.bfloat16),
    'unireplknet': (unireplknet, torch.float16),
    'mobilenetv2': (lambda: definitions.MobileNetV2((1, 2, 2, 1, 1, 2, 1), (4, 6, 8, 10, 12, 14, 16),
                                                    (3, 13, 3, 5, 13, 3, 7), 8, 40, CLASSES), torch.float16),
    'replknet_small3': (lambda: small_kernel(3), torch.float16),
    'replknet_small0': (lambda: small_kernel(0), torch.float16),
    'convnextv2': (lambda: convnext(grn=True, layer_scale=False), torch.float16),
    # A backbone's norms, and no layer scale.
    'convnext_bare': (lambda: convnext(layer_scale=False, norms=True, head_epsilon=HEAD_EPSILON), torch.float16),
    'unireplknet_bare': (lambda: unireplknet(layer_scale=False, norms=True), torch.float16),
}
WITHOUT_GRADIENT = 'replknet_xl', 'replknet_small3', 'replknet_small0', 'convnext_bare', 'unireplknet_bare'
METADATA = {'convnext_bare': {'head_norm_epsilon': str(HEAD_EPSILON)}}
MERGED = {'replknet': replknet, 'unireplknet': unireplknet}


def expected(network, pixels):
    with torch.no_grad():
        logits, features = network.double()(pixels.double())
    return {'logits': logits} | {f'stage{s + 1}': feature for s, feature in enumerate(features)}


def save(name, tensors, dtype):
    tensors = {key: (tensor.to(dtype) if tensor.is_floating_point() else tensor).contiguous()
               for key, tensor in tensors.items()}
    save_file(tensors, GOLDENS / f'{name}.safetensors', METADATA.get(name))


def main():
    GOLDENS.mkdir(exist_ok=True)
    pixels = torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    save('input', {'pixels': pixels}, torch.float32)
    for seed, (name, (make, dtype)) in enumerate(CASES.items()):
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        network = definitions.randomise(make(), seed)
        for tensor in network.state_dict().values():  # in place: what the file will hold
            if tensor.is_floating_point():
                tensor.copy_(tensor.to(dtype))
        save(name, network.state_dict(), dtype)
        state = network.double().state_dict()
        result = expected(network, pixels)
        save(name + '.expected', result, torch.float32)
        if name not in WITHOUT_GRADIENT:  # stages with norms give what those make of them
            gradient = definitions.centre_gradient(network, pixels[:1, :, :CORNER[0], :CORNER[1]])
            save(name + '.gradient', {'gradient': gradient}, torch.float32)
        print(name, 'rms of logits', result['logits'].pow(2).mean().sqrt().item(),
              'of stages', [round(result[f'stage{s}'].pow(2).mean().sqrt().item(), 3) for s in (1, 2, 3, 4)])
        if name in MERGED:
            other = MERGED[name](merged=True).double().eval()
            other.load_state_dict(definitions.merged(state), strict=True)
            for key, tensor in expected(other, pixels).items():
                difference = ((tensor - result[key]).abs().max() / result[key].abs().max()).item()
                assert difference < 1e-12, (name, key, difference)
            save(name + '_merged', other.state_dict(), torch.float32)


if __name__ == '__main__':
    main()
