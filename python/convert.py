#!/usr/bin/env python3
"""Turns a PyTorch checkpoint into a .safetensors file that replk reads.

    python3 python/convert.py IN.pth OUT.safetensors [--ema] [--part NAME] [--dtype fp32|fp16|bf16] [--labels FILE]
                              [--model NAME]

IN is a state dict as torch.save wrote it, flat or in containers ('state_dict', 'model', 'model_ema' and the like), with or
without the prefixes of wrappers ('module.', '_orig_mod.', 'model.'). Names are those of the official repositories of RepLKNet,
SLaK, ConvNeXt and UniRepLKNet, or of torchvision's MobileNetV2; mmpretrain's names of RepLKNet are renamed, as is
head.cls_22k. The tensors must be a whole network: one that is missing, or belongs to the network by name and has no place in
it, is an error. What is foreign is left out and said. Needs torch and numpy.

Exit codes: 0 done, 2 wrong use or input.
"""
import argparse
import json
import os
import re
import sys
import warnings

from checkpoint import Refused, load
from families import FAMILIES, inventory, model_of

SHOWN = 8  # names in a message


def plain(name, tensor, dtype):
    """The tensor as numbers one after another, fp32, fp16, bf16 or int64; refused where that would be other numbers."""
    import torch
    wanted = {'fp32': torch.float32, 'fp16': torch.float16, 'bf16': torch.bfloat16}
    kind = str(tensor.dtype).removeprefix('torch.')
    if tensor.is_quantized or tensor.is_meta:
        raise Refused(f"'{name}' is {'quantised' if tensor.is_quantized else 'without data (meta)'}; numbers are wanted")
    counter = name.endswith('num_batches_tracked')
    if not tensor.is_floating_point() and (not counter or tensor.is_complex()):
        raise Refused(f"'{name}' is {kind}; floating point is wanted")
    try:
        tensor = (tensor.detach() if tensor.layout == torch.strided else tensor.detach().to_dense()).contiguous()
        if not tensor.is_floating_point():
            return tensor.to(torch.int64)
        if tensor.dtype not in (torch.float64, *wanted.values()):
            tensor = tensor.to(torch.float32)  # fp8: exact
        target = wanted[dtype] if dtype else tensor.dtype if tensor.dtype in wanted.values() else torch.float32
        converted = tensor.to(target)
    except (RuntimeError, NotImplementedError, TypeError, MemoryError) as error:
        raise Refused(f"'{name}' ({kind}, {tensor.layout}) cannot be read: {str(error).splitlines()[0]}") from error
    lost = torch.isfinite(tensor) & ~torch.isfinite(converted)
    if lost.any():
        name_of_target = str(target).removeprefix('torch.')
        raise Refused(f"'{name}' holds {tensor[lost][0].item():g}; {name_of_target} ends at {torch.finfo(target).max:g}" +
                      ('' if target == torch.float32 else '; --dtype fp32 has more room'))
    return converted


def to_bytes(tensor):
    """The type's name in a .safetensors file, and little-endian bytes. The tensor is a plain() one."""
    import torch
    kind = {torch.float32: 'F32', torch.float16: 'F16', torch.bfloat16: 'BF16', torch.int64: 'I64'}[tensor.dtype]
    if kind == 'BF16':  # numpy has no such type
        tensor = tensor.view(torch.int16)
    return kind, tensor.numpy().astype(tensor.numpy().dtype.newbyteorder('<'), copy=False).tobytes()


def save(path, tensors, metadata):
    header, chunks, offset = {'__metadata__': metadata}, [], 0
    for name, tensor in sorted(tensors.items()):
        kind, data = to_bytes(tensor)
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
    """Names of classes, by the rules in lib/model/labels.hpp."""
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


def listed(names):
    names = list(names)
    return ', '.join(names[:SHOWN]) + (f' and {len(names) - SHOWN} more' if len(names) > SHOWN else '')


def whole_network(path, tensors):
    """The family and Inventory of a network, refused where it is not whole; and the names that are foreign to it."""
    family, net = inventory(tensors)
    if not net.known & tensors.keys():
        raise Refused(f'{path}: none of its {len(tensors)} keys is known (the first: {next(iter(tensors), None)}); '
                      f'families: {", ".join(FAMILIES)}')
    roots = {name.partition('.')[0] for name in net.known}
    unknown = sorted(tensors.keys() - net.known)
    misplaced = [name for name in unknown if name.partition('.')[0] in roots]
    faults = [f'{what}: {listed(names)}' for what, names in (('missing', net.missing), ('without a place', misplaced)) if names]
    if faults:
        raise Refused(f'{path}: not a whole network; the nearest family is {family}, and of its names are {"; ".join(faults)}')
    return family, net, unknown


def convert(options):
    own, beside = load(options.input, options.ema, options.part)
    family, net, foreign = whole_network(options.input, own)
    try:
        tensors = {name: plain(name, tensor, options.dtype) for name, tensor in own.items() if name in net.known}
    except Refused as refused:
        raise Refused(f'{options.input}: {refused}') from refused
    metadata = {'format': 'pt'}
    model = options.model or model_of(family, net)
    if model:
        metadata['model'] = model
    if options.labels:
        labels = read_labels(options.labels)
        head = tensors.get('head.weight', tensors.get('classifier.1.weight'))
        if head is not None and len(labels) != head.shape[0]:
            raise Refused(f'{options.labels}: {len(labels)} labels for {head.shape[0]} classes')
        metadata['labels'] = label_text(labels)
    save(options.output, tensors, metadata)
    print(f'{options.output}: {len(tensors)} tensors of {model or family}')
    if left := foreign + sorted(beside):
        print(f'{len(left)} unknown keys, left out: {listed(left)}', file=sys.stderr)
    return 0


def main():
    warnings.filterwarnings('ignore', module='torch')  # of its own insides: what is wrong with a file is said here
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('input', metavar='IN.pth')
    parser.add_argument('output', metavar='OUT.safetensors')
    parser.add_argument('--ema', action='store_true', help="take the moving averages ('model_ema') that training saved")
    parser.add_argument('--part', metavar='NAME', help='of several networks in a file the one under this key')
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
