#!/usr/bin/env python3
"""Turns a PyTorch checkpoint into a .safetensors file that replk reads.

    python3 python/convert.py IN.pth OUT.safetensors [--ema] [--dtype fp32|fp16|bf16] [--labels FILE] [--model NAME]

IN is a state dict as torch.save wrote it: flat, or under 'state_dict', 'model' or 'model_ema' (--ema prefers the last).
It is loaded with weights_only=True, so that a hostile file cannot run code; what else training left in it (its arguments,
say) is passed over. Names of the official repositories of
RepLKNet, SLaK, ConvNeXt and UniRepLKNet are kept; mmpretrain's are renamed to them, as are head.cls_22k and the
'module.' of parallel training. What is not a network's tensor is left out and said. Needs torch and numpy.

Exit codes: 0 done, 2 wrong use or input.
"""
import argparse
import json
import os
import re
import sys
import zipfile

CONTAINERS = 'state_dict', 'model', 'model_ema'
BN = r'(weight|bias|running_mean|running_var|num_batches_tracked)'
CONV_BN = rf'(conv\.(weight|bias)|bn\.{BN})'

# The names of each family, as regular expressions; the first family that knows most of the keys is taken.
FAMILIES = {
    'replknet': [
        rf'stem\.\d\.{CONV_BN}', rf'transitions\.\d\.\d\.{CONV_BN}', rf'(stages\.\d\.)?norm\.{BN}',
        r'head\.(weight|bias)',
        rf'stages\.\d\.blocks\.\d+\.(pre(lkb|ffn)_bn\.{BN}|pw[12]\.{CONV_BN})',
        rf'stages\.\d\.blocks\.\d+\.large_kernel\.((lkb_origin|small_conv)\.{CONV_BN}|lkb_reparam\.(weight|bias))',
    ],
    'slak': [
        r'downsample_layers\.\d\.\d\.(weight|bias)', r'(norm|head)\.(weight|bias)',
        r'stages\.\d\.\d+\.((norm|pwconv[12])\.(weight|bias)|gamma)',
        rf'stages\.\d\.\d+\.large_kernel\.(LoRA1|LoRA2|small_conv)\.{CONV_BN}',
    ],
    'convnext': [
        r'downsample_layers\.\d\.\d\.(weight|bias)', r'(norm|head)\.(weight|bias)',
        r'stages\.\d\.\d+\.((norm|dwconv|pwconv[12])\.(weight|bias)|gamma)',
    ],
    'unireplknet': [
        r'downsample_layers\.\d\.\d\.(weight|bias)', r'(norm|head)\.(weight|bias)',
        rf'stages\.\d\.\d+\.(norm\.{BN}|se\.(down|up)\.(weight|bias)|pwconv1\.1\.(weight|bias)|gamma)',
        rf'stages\.\d\.\d+\.(act\.1\.(gamma|beta)|pwconv2\.0\.(weight|bias)|pwconv2\.2\.{BN})',
        rf'stages\.\d\.\d+\.dwconv\.(weight|bias|lk_origin\.(weight|bias)|(origin_bn|dil_bn_k\d_\d)\.{BN}|dil_conv_k\d_\d\.weight)',
    ],
    'mobilenetv2': [rf'features\.(0|18)\.(0\.weight|1\.{BN})', r'classifier\.1\.(weight|bias)',
                    rf'features\.\d+\.conv\.\d(\.\d)?\.{BN}'],
}

# What tells networks of one family apart: the shapes of some tensors.
MODELS = {
    'replknet-31b': {'stem.0.conv.weight': 128},
    'replknet-31l': {'stem.0.conv.weight': 192},
    'replknet-xl': {'stem.0.conv.weight': 256},
    'slak-t': {'downsample_layers.0.0.weight': 124, 'stages.2.8.gamma': 499, 'stages.2.26.gamma': None},
    'slak-s': {'downsample_layers.0.0.weight': 124, 'stages.2.26.gamma': 499},
    'slak-b': {'downsample_layers.0.0.weight': 166},
    'convnext-t': {'downsample_layers.0.0.weight': 96, 'stages.2.8.gamma': 384, 'stages.2.26.gamma': None},
    'convnext-s': {'downsample_layers.0.0.weight': 96, 'stages.2.26.gamma': 384},
    'convnext-b': {'downsample_layers.0.0.weight': 128},
    'unireplknet-a': {'downsample_layers.0.3.weight': 40}, 'unireplknet-f': {'downsample_layers.0.3.weight': 48},
    'unireplknet-p': {'downsample_layers.0.3.weight': 64},
    'unireplknet-n': {'downsample_layers.0.3.weight': 80, 'stages.2.17.pwconv1.1.weight': None},
    'unireplknet-t': {'downsample_layers.0.3.weight': 80, 'stages.2.17.pwconv1.1.weight': 1280},
    'unireplknet-s': {'downsample_layers.0.3.weight': 96}, 'unireplknet-b': {'downsample_layers.0.3.weight': 128},
    'unireplknet-l': {'downsample_layers.0.3.weight': 192}, 'unireplknet-xl': {'downsample_layers.0.3.weight': 256},
    'mobilenetv2': {'features.0.0.weight': 32},
}


class Refused(Exception):
    """Wrong use or input; the text is the one line the user sees."""


class Ignored:
    """Stands for whatever class or function a checkpoint names besides tensors, and does nothing."""

    def __init__(self, *arguments, **named):
        pass

    def __setstate__(self, state):
        pass


def unpickle(path):
    import torch
    serialization = torch.serialization
    # Training scripts save their arguments too (argparse.Namespace), or an accuracy (a NumPy number). PyTorch before 2.6
    # cannot tell which names a file needs, and refuses the file.
    if not hasattr(serialization, 'get_unsafe_globals_in_checkpoint') or not zipfile.is_zipfile(path):
        return torch.load(path, map_location='cpu', weights_only=True)
    names = serialization.get_unsafe_globals_in_checkpoint(path)
    with serialization.safe_globals([(Ignored, name) for name in names]):
        return torch.load(path, map_location='cpu', weights_only=True)


def reason_of(error):
    """Why a file cannot be unpickled, in a line."""
    if named := re.search(r'GLOBAL (\S+)', str(error)):
        return f'it needs {named[1]}'
    return (str(error).splitlines() or [type(error).__name__])[0].split('. ')[0]


def load(path, ema):
    import torch
    try:
        checkpoint = unpickle(path)
    except Exception as error:  # whatever a broken file makes of the unpickler
        raise Refused(f'{path}: not a checkpoint that can be loaded: {reason_of(error)}') from error
    if not isinstance(checkpoint, dict):
        raise Refused(f'{path}: holds a {type(checkpoint).__name__}; a dict of tensors is wanted')
    order = ('model_ema', 'state_dict', 'model') if ema else CONTAINERS
    if ema and 'model_ema' not in checkpoint:
        raise Refused(f"{path}: has no 'model_ema'")
    for container in order:
        if isinstance(checkpoint.get(container), dict):
            checkpoint = checkpoint[container]
            break
    tensors = {name: value for name, value in checkpoint.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise Refused(f'{path}: holds no tensors (keys: {", ".join(map(str, list(checkpoint)[:8]))})')
    return tensors


def rename(name, is_mmpretrain):
    if name.startswith('module.'):
        name = name[len('module.'):]
    if is_mmpretrain:
        name = name.removeprefix('backbone.')
        name = re.sub(r'^head\.fc\.', 'head.', name)
        name = re.sub(r'^stages\.3\.norm\.', 'norm.', name)
    return re.sub(r'^head\.cls_22k\.', 'head.', name)


def family_of(names):
    patterns = {family: re.compile('|'.join(f'(?:{p})' for p in list_)) for family, list_ in FAMILIES.items()}
    known = {family: {name for name in names if pattern.fullmatch(name)} for family, pattern in patterns.items()}
    family = max(known, key=lambda family: len(known[family]))
    return family, known[family]


def model_of(family, tensors):
    for model, marks in MODELS.items():
        if model.startswith(family) and all(
                (name in tensors) == (side is not None) and (side is None or tensors[name].shape[0] == side)
                for name, side in marks.items()):
            return model
    return None


def to_bytes(tensor, dtype):
    """dtype ('F32', 'F16', 'BF16' or 'I64') and little-endian bytes."""
    import torch
    wanted = {'fp32': torch.float32, 'fp16': torch.float16, 'bf16': torch.bfloat16}
    tensor = tensor.detach().contiguous()
    if tensor.is_floating_point():
        if dtype:
            tensor = tensor.to(wanted[dtype])
        elif tensor.dtype not in wanted.values():
            tensor = tensor.to(torch.float32)
    names = {torch.float32: 'F32', torch.float16: 'F16', torch.bfloat16: 'BF16'}
    if tensor.dtype not in names:
        tensor = tensor.to(torch.int64)
        names = {torch.int64: 'I64'}
    name = names[tensor.dtype]
    if name == 'BF16':  # numpy has no such type
        tensor = tensor.view(torch.int16)
    return name, tensor.numpy().astype(tensor.numpy().dtype.newbyteorder('<'), copy=False).tobytes()


def save(path, tensors, metadata, dtype):
    header, chunks, offset = {'__metadata__': metadata}, [], 0
    for name, tensor in sorted(tensors.items()):
        kind, data = to_bytes(tensor, dtype)
        header[name] = {'dtype': kind, 'shape': list(tensor.shape), 'data_offsets': [offset, offset + len(data)]}
        offset += len(data)
        chunks.append(data)
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)
    temporary = f'{path}.{os.getpid()}.tmp'
    try:
        with open(temporary, 'wb') as file:
            file.write(len(text).to_bytes(8, 'little') + text)
            file.writelines(chunks)
        os.replace(temporary, path)
    except OSError as error:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise Refused(f'{path}: cannot be written: {error.strerror}') from error


def parse_labels(data, source):
    """Names of classes, by the rules in cli/labels.hpp."""
    utf16 = data.startswith((b'\xff\xfe', b'\xfe\xff'))
    try:
        text = data.decode('utf-16' if utf16 else 'utf-8-sig')
    except UnicodeDecodeError as error:
        raise Refused(f'{source}: labels: neither UTF-8 nor UTF-16 with a byte-order mark: {error}') from error
    if text.lstrip(' \t\r\n').startswith(('[', '{')):
        try:
            names = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise Refused(f'{source}: labels: begin like JSON and are none: {error}') from error
        if isinstance(names, dict):
            names = [names.get(str(index)) for index in range(len(names))]
        for index, name in enumerate(names):
            if not isinstance(name, str) or re.search('[\ud800-\udfff]', name):
                raise Refused(f'{source}: labels: the JSON of {len(names)} has no name (a string) for index {index}')
    else:
        names = [line.removesuffix('\r') for line in text.split('\n')]
        while names and not names[-1]:
            names.pop()
    return [re.sub('[\0-\x1f\x7f]', ' ', name) for name in names]


def read_labels(path):
    most = 16 << 20
    try:
        with open(path, 'rb') as file:
            data = file.read(most + 1)
    except OSError as error:
        raise Refused(f'{path}: cannot be read: {error}') from error
    if len(data) > most:
        raise Refused(f'{path}: labels: more than {most} bytes')
    return parse_labels(data, path)


def label_text(labels):
    """What replk reads these labels from: lines, or JSON where lines would be taken for something else."""
    lines = '\n'.join(labels)
    try:
        if parse_labels(lines.encode(), '') == labels:
            return lines
    except Refused:
        pass
    return json.dumps(labels, ensure_ascii=False)


def convert(options):
    tensors = load(options.input, options.ema)
    is_mmpretrain = any(name.startswith('backbone.') for name in tensors)
    renamed = {}
    for name, tensor in tensors.items():
        new = rename(name, is_mmpretrain)
        if new in renamed:
            raise Refused(f"{options.input}: two tensors would be '{new}'")
        renamed[new] = tensor
    family, known = family_of(renamed)
    if not known:
        raise Refused(f'{options.input}: none of its {len(renamed)} keys is known (the first: {next(iter(renamed))}); '
                      f'families: {", ".join(FAMILIES)}')
    unknown = sorted(set(renamed) - known)
    tensors = {name: renamed[name] for name in known}
    metadata = {'format': 'pt'}
    model = options.model or model_of(family, tensors)
    if model:
        metadata['model'] = model
    if options.labels:
        labels = read_labels(options.labels)
        head = tensors.get('head.weight', tensors.get('classifier.1.weight'))
        if head is not None and len(labels) != head.shape[0]:
            raise Refused(f'{options.labels}: {len(labels)} labels for {head.shape[0]} classes')
        metadata['labels'] = label_text(labels)
    save(options.output, tensors, metadata, options.dtype)
    print(f'{options.output}: {len(tensors)} tensors of {model or family}')
    for name in unknown:
        print(f'unknown key, left out: {name} {list(renamed[name].shape)}', file=sys.stderr)
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('input', metavar='IN.pth')
    parser.add_argument('output', metavar='OUT.safetensors')
    parser.add_argument('--ema', action='store_true', help="take 'model_ema' where training saved one")
    parser.add_argument('--dtype', choices=('fp32', 'fp16', 'bf16'), help='type of the tensors (default: as they are)')
    parser.add_argument('--labels', metavar='FILE', help='names of the classes, one a line or JSON, kept in the file')
    parser.add_argument('--model', metavar='NAME', help='name kept in the file (default: guessed from the shapes)')
    try:
        return convert(parser.parse_args())
    except Refused as refused:
        print(f'convert.py: {refused}', file=sys.stderr)
        return 2


if __name__ == '__main__':
    sys.exit(main())
