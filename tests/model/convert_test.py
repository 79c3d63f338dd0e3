"""python/convert.py on the containers and names that checkpoints come in.

Skips where torch is not installed, unless the environment of bench/peers is there (its python is the argument).
"""
import argparse
import contextlib
import copy
import io
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import types

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / 'tests' / 'parity'), str(ROOT / 'python')]
try:
    import torch
except ImportError:
    peers = sys.argv[1] if len(sys.argv) > 1 else ''
    if os.access(peers, os.X_OK):
        os.execv(peers, [peers, __file__])
    print('skipped: torch is not installed; to run it: python3 -m venv build/peers && build/peers/bin/python -m pip install '
          'torch numpy (./run bench makes the same environment)')
    sys.exit(77)
import numpy
from torch import nn

import convert as program
import definitions


def read(path):
    """Tensors of a .safetensors file, and its metadata."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], 'little')
    header = json.loads(data[8:8 + length])
    metadata = header.pop('__metadata__', {})
    kinds = {'F32': torch.float32, 'F16': torch.float16, 'BF16': torch.bfloat16, 'I64': torch.int64}
    tensors = {}
    for name, info in header.items():
        begin, end = (8 + length + offset for offset in info['data_offsets'])
        tensors[name] = torch.frombuffer(bytearray(data[begin:end]), dtype=kinds[info['dtype']]).view(info['shape'])
    return tensors, metadata


def run(folder, *options):
    """What the program would print and its exit code, without the second that importing torch takes."""
    sys.argv = ['convert.py', str(folder / 'in.pth'), str(folder / 'out.safetensors'), *map(str, options)]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = program.main()
    return types.SimpleNamespace(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())


def convert(folder, checkpoint, *options, **how):
    torch.save(checkpoint, folder / 'in.pth', **how)
    return run(folder, *options)


def same_as(folder, result, state):
    assert result.returncode == 0 and not result.stderr, result
    tensors, metadata = read(folder / 'out.safetensors')
    assert tensors.keys() == state.keys()
    assert all(torch.equal(tensors[key], state[key]) and tensors[key].dtype == state[key].dtype for key in state)
    return metadata


def mmpretrain(name):
    if name.startswith('norm.'):
        return 'backbone.stages.3.' + name
    return name.replace('head.', 'head.fc.') if name.startswith('head.') else 'backbone.' + name


class RunsCode:
    """A pickle of it creates a file where it is loaded carelessly."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def containers(folder, network):
    state = network.state_dict()
    other = {key: tensor + 1 for key, tensor in state.items()}
    # What a training script saves beside the network, and mmengine the more so.
    leftovers = {'optimizer': {'state': {}, 'param_groups': []}, 'epoch': 3, 'scaler': {},
                 'args': argparse.Namespace(lr=4e-3, output_dir=pathlib.PurePosixPath('out')), 'best': numpy.float64(0.8)}
    official_22k = {key.replace('head.', 'head.cls_22k.'): tensor for key, tensor in state.items()}
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(network)).state_dict()
    for checkpoint, options in (
            (state, ()), ({'model': state, 'model_ema': other} | leftovers, ()), ({'state_dict': state}, ()),
            ({'model': other, 'model_ema': state}, ('--ema',)), (official_22k, ()), ({'model': synchronised}, ()),
            ({'state_dict': {mmpretrain(key): tensor for key, tensor in state.items()}, 'meta': {}}, ()),
            ({'module.' + key: tensor for key, tensor in state.items()}, ())):
        same_as(folder, convert(folder, checkpoint, *options), state)
    same_as(folder, convert(folder, {'model': state, 'epoch': 3}, _use_new_zipfile_serialization=False), state)


def families(folder):
    """Every family is recognised by its names, and none of its tensors is left out; zeros of sparse training stay zeros."""
    kernels = (51, 49, 47, 13)
    for network, text in (
            (definitions.ConvNeXt((1, 1, 1, 1), (8, 8, 8, 8), kernels, 5, classes=4), 'slak'),
            (definitions.ConvNeXt((1, 1, 1, 1), (8, 8, 8, 8), (7, 7, 7, 7), classes=4), 'convnext'),
            (definitions.UniRepLKNet((1, 1, 2, 1), (8, 8, 8, 8), (3, 13, 13, 13), 2, classes=4), 'unireplknet'),
            (definitions.RepLKNet((1, 1, 1, 1), (8, 8, 8, 8), (13, 7, 5, 3), 0, 1.5, classes=4), 'replknet')):
        state = definitions.randomise(network, 0).state_dict()
        for tensor in state.values():
            if tensor.dim() in (2, 4):
                tensor[torch.rand(tensor.shape, generator=torch.Generator().manual_seed(1)) < 0.4] = 0
        if text == 'slak':
            assert {'stages.0.0.large_kernel.LoRA1.conv.weight', 'stages.0.0.large_kernel.LoRA2.bn.weight'} <= state.keys()
        result = convert(folder, {'model': state})
        same_as(folder, result, state)
        assert result.stdout.rstrip().endswith(f'tensors of {text}'), result


def kinds(folder, state):
    for dtype, kind in (('fp16', torch.float16), ('bf16', torch.bfloat16)):
        half = {key: tensor.to(kind) if tensor.is_floating_point() else tensor for key, tensor in state.items()}
        same_as(folder, convert(folder, half), half)
        same_as(folder, convert(folder, state, '--dtype', dtype), half)
    double = {key: tensor.double() if tensor.is_floating_point() else tensor for key, tensor in state.items()}
    same_as(folder, convert(folder, double), state)


def labels_and_unknown_keys(folder, state):
    (folder / 'labels').write_text('cat\ndog\nfish\nbird\n')
    metadata = same_as(folder, convert(folder, state, '--labels', folder / 'labels', '--model', 'mine'), state)
    assert metadata == {'format': 'pt', 'model': 'mine', 'labels': 'cat\ndog\nfish\nbird'}
    result = convert(folder, state | {'strange.thing': torch.zeros(3)})
    assert result.returncode == 0 and 'strange.thing' in result.stderr, result
    assert 'strange.thing' not in read(folder / 'out.safetensors')[0]


def refusals(folder, state):
    """One line and exit code 2, and no file; no code of a hostile one runs."""
    trap = folder / 'trap'
    (folder / 'out.safetensors').unlink()
    for wrong in ([1, 2], {}, {'a': torch.zeros(1)}, {'model': 3}, RunsCode(trap)):
        result = convert(folder, wrong)
        assert result.returncode == 2 and result.stderr.count('\n') == 1, result
    for zipped in (True, False):
        result = convert(folder, {'model': state, 'args': RunsCode(trap)}, _use_new_zipfile_serialization=zipped)
        assert result.returncode == 2 and 'mkdir' in result.stderr and result.stderr.count('\n') == 1, result
    for garbage in (b'', b'garbage', b'PK\x03\x04', b'\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.'):
        (folder / 'in.pth').write_bytes(garbage)
        result = run(folder)
        assert result.returncode == 2 and result.stderr.count('\n') == 1, result
    (folder / 'in.pth').unlink()
    assert run(folder).returncode == 2
    assert not list(folder.glob('out*')) and not trap.exists()


def main():
    network = definitions.randomise(definitions.RepLKNet((1, 1, 1, 1), (8, 8, 8, 8), (13, 7, 5, 3), 5, classes=4), 0)
    state = network.state_dict()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        containers(folder, network)
        families(folder)
        kinds(folder, state)
        labels_and_unknown_keys(folder, state)
        refusals(folder, state)
        # The program itself.
        torch.save(state, folder / 'in.pth')
        command = [sys.executable, ROOT / 'python' / 'convert.py', folder / 'in.pth', folder / 'out.safetensors']
        same_as(folder, subprocess.run(command, capture_output=True, text=True), state)


if __name__ == '__main__':
    main()
