"""python/convert.py on the containers and names that checkpoints come in.

Skips where torch is not installed, unless the environment of bench/peers is there (its python is the argument).
"""
import argparse
import collections
import contextlib
import copy
import datetime
import enum
import functools
import io
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import types
from unittest import mock

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
from replk_source.convert import families, models


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


NETWORKS = {
    'slak': definitions.ConvNeXt((1, 1, 2, 1), (8, 8, 8, 8), (51, 49, 47, 13), 5, classes=4),
    'convnext': definitions.ConvNeXt((1, 1, 2, 1), (8, 8, 8, 8), (7, 7, 7, 7), classes=4),
    'convnextv2': definitions.ConvNeXt((1, 1, 2, 1), (8, 8, 8, 8), (7, 7, 7, 7), classes=4, grn=True, layer_scale=False),
    'unireplknet': definitions.UniRepLKNet((1, 1, 2, 1), (8, 8, 8, 8), (3, 13, 13, 13), 2, classes=4),
    'replknet': definitions.RepLKNet((1, 1, 2, 1), (8, 8, 8, 8), (13, 7, 5, 3), 5, classes=4),
    'mobilenetv2': definitions.MobileNetV2((1, 2, 2, 1, 1, 2, 1), (4, 6, 8, 10, 12, 14, 16), (3,) * 7, 8, 40, classes=4),
}


class RunsCode:
    """A pickle of it creates a file where it is loaded carelessly."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class Configuration(dict):
    """As yacs and EasyDict have it: a dict with attributes."""

    def __init__(self, **values):
        super().__init__(values)
        self.__dict__.update(values, frozen=False)


class Words(list):
    pass


class Colour(enum.Enum):
    RED = 1


def refused(folder, checkpoint, text, *options):
    """One line that has the text, and exit code 2."""
    result = convert(folder, checkpoint, *options)
    assert result.returncode == 2 and result.stderr.count('\n') == 1 and text in result.stderr, (text, result)
    return result


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


def prefixes_and_nesting(folder, state, mobilenet):
    """However deep the network lies; moving averages only where asked for."""
    other = {key: tensor + 1 for key, tensor in state.items()}

    def under(prefix, tensors=state):
        return {prefix + key: tensor for key, tensor in tensors.items()}

    optimizer = {'optimizer': {'state': {0: {'exp_avg': torch.zeros(3)}}, 'exp_avg': torch.zeros(3)}}
    for checkpoint, options in (
            *((({container: state}), ()) for container in ('model_state_dict', 'net', 'network', 'checkpoint', 'params')),
            *((under(prefix), ()) for prefix in ('_orig_mod.', 'model.', 'module.module.', 'module._orig_mod.', 'student.')),
            ({'state_dict': {}, 'model': state}, ()), ({'state_dict': {'model': under('module.')}}, ()),
            ({'model': state, 'state_dict_ema': other} | optimizer, ()), ({'state_dict_ema': state}, ()),
            ({'model': other, 'state_dict_ema': state}, ('--ema',)), ({'model': other, 'ema': {'module': state}}, ('--ema',)),
            ({'state_dict': under('model.') | under('ema_model.module.', other)}, ()),
            ({'state_dict': under('model.', other) | under('ema.', state)}, ('--ema',)),
            ({'teacher': other, 'student': state}, ('--part', 'student')),
            (under('teacher.backbone.', other) | under('student.backbone.'), ('--part', 'student.backbone'))):
        result = convert(folder, checkpoint, *options)
        result.stderr = ''  # averages in the same dict are left out and said
        same_as(folder, result, state)
    same_as(folder, convert(folder, {'model': {'module.' + key: tensor for key, tensor in mobilenet.items()}}), mobilenet)
    refused(folder, {'teacher': other, 'student': state}, 'student., teacher.')
    refused(folder, {'model': state, 'state_dict': other}, '2 networks')
    refused(folder, {'model': state}, 'ema', '--ema')
    refused(folder, {'model': state}, "'student'", '--part', 'student')


def beside(folder, state):
    """What is no tensor is passed over, a kind of dict or list too, in either format of torch.save."""
    leftovers = {
        'config': Configuration(lr=0.1, nested=Configuration(name='x')), 'log': collections.defaultdict(list, loss=[1.0]),
        'words': Words('ab'), 'colour': Colour.RED, 'when': datetime.datetime(2026, 1, 2), 'seen': {1, 2},
        'make': functools.partial(int, base=2), 'class': Configuration, 'count': collections.Counter('ab'),
        'array': numpy.arange(3), 'best': numpy.float64(0.8), 'args': argparse.Namespace(path=pathlib.PurePosixPath('out')),
        'callbacks': {Colour: {'best': 1}}}
    for zipped in (True, False):
        for key, value in leftovers.items():
            result = convert(folder, {'model': state, key: value}, _use_new_zipfile_serialization=zipped)
            same_as(folder, result, state)
        same_as(folder, convert(folder, {'model': state} | leftovers, _use_new_zipfile_serialization=zipped), state)
    same_as(folder, convert(folder, Configuration(model=Configuration(**state))), state)


def downstream(folder, state):
    """Backbones of mmsegmentation and mmdetection: every stage's norm stays its own, heads for other tasks are left out."""
    backbone = {key: tensor for key, tensor in state.items() if not key.startswith(('norm.', 'head.'))}
    for stage in range(4):
        backbone |= {f'stages.{stage}.norm.{field}': tensor[:8].clone() + stage if tensor.dim() else tensor for field, tensor in
                     ((key[len('norm.'):], tensor) for key, tensor in state.items() if key.startswith('norm.'))}
    checkpoint = {'backbone.' + key: tensor for key, tensor in backbone.items()}
    same_as(folder, convert(folder, {'state_dict': checkpoint}), backbone)
    for foreign in ('decode_head.conv_seg.weight', 'head.final_layer.weight', 'neck.stages.0.weight'):
        result = convert(folder, {'state_dict': checkpoint | {foreign: torch.zeros(2)}})
        assert foreign in result.stderr, result
        result.stderr = ''
        same_as(folder, result, backbone)


def every_family(folder):
    """Every family is recognised by its names, and none of its tensors is left out; zeros of sparse training stay zeros."""
    for text, network in NETWORKS.items():
        state = definitions.randomise(network, 0).state_dict()
        for tensor in state.values():
            if tensor.dim() in (2, 4):
                tensor[torch.rand(tensor.shape, generator=torch.Generator().manual_seed(1)) < 0.4] = 0
        if text == 'slak':
            assert {'stages.0.0.large_kernel.LoRA1.conv.weight', 'stages.0.0.large_kernel.LoRA2.bn.weight'} <= state.keys()
        result = convert(folder, {'model': state})
        same_as(folder, result, state)
        assert result.stdout.rstrip().endswith(f'tensors of {text}'), result
        if text in ('replknet', 'unireplknet'):
            state = definitions.merged({key: tensor.double() if tensor.is_floating_point() else tensor
                                        for key, tensor in state.items()})
            same_as(folder, convert(folder, state), {key: tensor.float() if tensor.is_floating_point() else tensor
                                                     for key, tensor in state.items()})


def kinds(folder, state):
    for dtype, kind in (('fp16', torch.float16), ('bf16', torch.bfloat16)):
        half = {key: tensor.to(kind) if tensor.is_floating_point() else tensor for key, tensor in state.items()}
        same_as(folder, convert(folder, half), half)
        same_as(folder, convert(folder, state, '--dtype', dtype), half)
    double = {key: tensor.double() if tensor.is_floating_point() else tensor for key, tensor in state.items()}
    same_as(folder, convert(folder, double), state)


def values(folder, state):
    """Numbers that would become others are refused by the tensor's name; sparse tensors are what they stand for."""
    key = 'stages.0.blocks.0.pw1.conv.weight'

    def with_value(value, dtype=torch.float32):
        tensor = state[key].to(dtype)
        tensor[1, 2] = value
        return state | {key: tensor}

    for dtype in 'fp16', 'bf16':
        result = refused(folder, with_value({'fp16': 70000, 'bf16': 3.4e38}[dtype]), key, '--dtype', dtype)
        assert 'inf' not in result.stderr, result
    refused(folder, with_value(1e39, torch.float64), key)
    for value, dtype in ((65504, 'fp16'), (float('inf'), 'fp16'), (70000, 'bf16')):
        assert convert(folder, with_value(value), '--dtype', dtype).returncode == 0
    dense = with_value(0)
    for sparse in (dense[key][:, :, 0, 0].to_sparse(), dense[key][:, :, 0, 0].to_sparse_csr()):
        result = convert(folder, dense | {key: sparse})
        same_as(folder, result, dense | {key: dense[key][:, :, 0, 0]})
    wrong = {
        'quantised': torch.quantize_per_tensor(state[key], 0.1, 0, torch.qint8), 'meta': state[key].to('meta'),
        'complex64': state[key].to(torch.complex64), 'int8': state[key].to(torch.int8), 'bool': state[key] > 0}
    for text, tensor in wrong.items():
        assert text in refused(folder, dense | {key: tensor}, key).stderr
        result = convert(folder, state | {'foreign': tensor})
        assert result.returncode == 0 and 'foreign' in result.stderr, result
    eighths = state[key].to(torch.float8_e4m3fn)
    same_as(folder, convert(folder, state | {key: eighths}), state | {key: eighths.float()})


def whole_networks_only(folder, state):
    """Parts of a network, and more than one, are refused with what is missing or has no place (other projects' names:
    frameworks_test.py)."""
    for lost in ('stages.2.blocks.3.pw1.bn.running_var', 'stages.0.blocks.0.large_kernel.small_conv.conv.weight',
                 'transitions.1.1.conv.weight', 'head.weight', 'norm.running_mean'):
        refused(folder, {key: tensor for key, tensor in state.items() if key != lost}, lost)
    for block in 'stages.3.blocks.0.', 'stages.2.blocks.0.', 'transitions.0.':
        left = {key: tensor for key, tensor in state.items() if not key.startswith(block)}
        refused(folder, left, f'missing: {block}')
    for more in ('stages.4.blocks.0.pw1.conv.weight', 'stem.0.conv.scale', 'head.fc.weight', 'stages.3.blocks.0.gamma'):
        refused(folder, state | {more: torch.zeros(3)}, more)
    refused(folder, state | {'stages.2.blocks.9999999999.pw1.conv.weight': torch.zeros(3)}, 'stages.2.blocks.9999999999')


def model_names(folder):
    """What replk calls a network follows from depths, channels and kernels."""
    replknet, convnext = definitions.RepLKNet, definitions.ConvNeXt
    depths, base = (2, 2, 18, 2), (128, 256, 512, 1024)

    def slak(channels, width, kernels=(51, 49, 47, 13), small=5):
        return convnext((3, 3, 27, 3), [int(channels * times * width) for times in (1, 2, 4, 8)], kernels, small)

    with torch.device('meta'):
        networks = {
            'replknet-31b': replknet(depths, base, (31, 29, 27, 13), 5),
            'replknet-31b:k=13': replknet(depths, base, (13,) * 4, 5),
            'replknet-xl': replknet(depths, tuple(2 * c for c in base), (27, 27, 27, 13), 0, 1.5),
            'slak-s': convnext((3, 3, 27, 3), (124, 249, 499, 998), (51, 49, 47, 13), 5),
            'convnext-t:k=31,29,27,13': convnext((3, 3, 9, 3), (96, 192, 384, 768), (31, 29, 27, 13)),
            'convnext-b': convnext((3, 3, 27, 3), base, (7,) * 4), 'slak-l': slak(192, 1.3), 'slak-b:width=1': slak(128, 1),
            'slak-s:width=1:k=31:small=3': slak(96, 1, (31,) * 4, 3),
            'convnext-xl': convnext((3, 3, 27, 3), tuple(2 * c for c in base), (7,) * 4),
            'convnextv2-h': convnext((3, 3, 27, 3), (352, 704, 1408, 2816), (7,) * 4, grn=True, layer_scale=False),
            'convnextv2-b': convnext((3, 3, 27, 3), base, (7,) * 4, grn=True, layer_scale=False),
            'replknet-31b:small=3': replknet(depths, base, (31, 29, 27, 13), 3),
            'replknet-31b:small=0': replknet(depths, base, (31, 29, 27, 13), 0),
            'replknet-31b:k=3': replknet(depths, base, (3,) * 4, 5),
            'unireplknet-t': definitions.UniRepLKNet((3, 3, 18, 3), (80, 160, 320, 640), (3, 13, 13, 13), 2),
            'mobilenetv2:k=13': definitions.MobileNetV2((1, 2, 3, 4, 3, 3, 1), (16, 24, 32, 64, 96, 160, 320), (13,) * 7),
            None: convnext((3, 3, 8, 3), (96, 192, 384, 768), (7,) * 4)}
    for name, network in networks.items():
        family, net = families.inventory(network.state_dict())
        assert models.model_of(family, net) == name and not net.missing, (name, models.model_of(family, net))


def mutated(randomly, state):
    """One tensor's name changed, lost, or there twice; the names one of which a refusal must have."""
    name = randomly.choice(sorted(state))
    at = randomly.randrange(len(name))
    other = randomly.choice((name[:at] + name[at + 1:], name[:at] + name[at] + name[at:], name[:at] + 'x' + name[at + 1:],
                             name[:at] + name[at].swapcase() + name[at + 1:], 'ema.' + name, 'module.' + name,
                             re.sub(r'\d', lambda found: str(randomly.randrange(10)), name, count=1)))
    kind = randomly.randrange(3)
    result = {key: tensor for key, tensor in state.items() if kind == 2 or key != name}
    if kind:
        result.setdefault(other, state[name])
    return result, (name, other, name.rpartition('.')[0].rpartition('.')[0] + '.')


def mutations(folder):
    """Refused by name, or the network as it was but for counters."""
    for family, network in NETWORKS.items():
        state = network.state_dict()
        randomly, refusals_, harmless = random.Random(1), 0, 0
        for _ in range(200):
            checkpoint, names = mutated(randomly, state)
            with mock.patch('replk_source.convert.checkpoint.unpickle', lambda path, made=checkpoint: made):
                result = run(folder)
            if result.returncode:
                assert result.returncode == 2 and any(name in result.stderr for name in names), (names, result)
                refusals_ += 1
                continue
            tensors = read(folder / 'out.safetensors')[0]
            for key, tensor in state.items():
                assert key.endswith('num_batches_tracked') or torch.equal(tensors[key], tensor), (names, key)
            assert tensors.keys() <= state.keys(), names
            harmless += 1
        assert refusals_ > 80 and harmless > 10, (family, refusals_, harmless)


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
    network = definitions.randomise(NETWORKS['replknet'], 0)
    state = network.state_dict()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        containers(folder, network)
        prefixes_and_nesting(folder, state, NETWORKS['mobilenetv2'].state_dict())
        beside(folder, state)
        downstream(folder, state)
        every_family(folder)
        kinds(folder, state)
        values(folder, state)
        whole_networks_only(folder, state)
        model_names(folder)
        mutations(folder)
        labels_and_unknown_keys(folder, state)
        refusals(folder, state)
        # The program itself.
        torch.save(state, folder / 'in.pth')
        command = [sys.executable, ROOT / 'python' / 'convert.py', folder / 'in.pth', folder / 'out.safetensors']
        same_as(folder, subprocess.run(command, capture_output=True, text=True), state)


if __name__ == '__main__':
    main()
