"""Turns a PyTorch checkpoint into a .safetensors file that replk reads.

    python3 -m replk.convert IN OUT.safetensors [--ema] [--part NAME] [--dtype fp32|fp16|bf16] [--labels FILE]
                             [--model NAME]

IN is a state dict as torch.save wrote it, flat or in containers ('state_dict', 'model', 'model_ema' and the like), or a
.safetensors file, with or without the prefixes of wrappers ('module.', '_orig_mod.', 'model.'). Names are those of the
official repositories of RepLKNet, SLaK, ConvNeXt, ConvNeXt V2 and UniRepLKNet, of torchvision's MobileNetV2, or those that
timm, torchvision, transformers and mmpretrain give to ConvNeXt, MobileNetV2 and RepLKNet. The tensors must be a whole
network: one that is missing, or belongs to the network by name and has no place in it, is an error. What is foreign is left
out and said. Needs NumPy, and torch where IN is not a .safetensors file.

Exit codes: 0 done, 2 wrong use or input. In Python: replk.convert(IN, OUT, ...), which raises replk.BadFile.
"""
from __future__ import annotations

import os
import re
import sys

from . import checkpoint, dialects, storage, tensors
from .errors import Refused
from .families import FAMILIES, inventory
from .labels import label_text, read_labels
from .models import model_of

SHOWN = 8  # names in a message


def listed(names):
    names = list(names)
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def whole_network(source, found):
    """The family and Inventory of a network, refused where it is not whole; and the names that are foreign to it."""
    family, net = inventory(found.tensors)
    if not net.known & found.tensors.keys():
        raise Refused(f"{source}: none of its {len(found.tensors)} keys is known (the first: "
                      f"{next(iter(found.tensors), None)}); families: {', '.join(FAMILIES)}")
    roots = {name.partition(".")[0] for name in net.known} | (found.dialect.roots if found.dialect else frozenset())
    unknown = sorted(found.tensors.keys() - net.known)
    misplaced = [found.origins[name] for name in unknown if name.partition(".")[0] in roots]
    faults = [f"{what}: {listed(names)}" for what, names in (("missing", net.missing), ("without a place", misplaced)) if names]
    if faults:
        names = f" under {found.dialect.title} names" if found.dialect else ""
        raise Refused(f"{source}: not a whole network; the nearest family is {family}{names}, and of its names are "
                      f"{'; '.join(faults)}")
    return family, net, unknown


def official_shape(name, tensor):
    """Layer scale is a vector, a GRN's parameters have its sides, whatever the framework's."""
    if re.search(r"\.grn\.(gamma|beta)$", name):
        return tensor.reshaped((1, 1, 1, -1))
    if re.fullmatch(r"stages\.\d+\.\d+\.gamma", name):
        return tensor.reshaped((-1,))
    return tensor


def with_usual_epsilon(network, batch_norm, epsilon):
    """A batch norm's gain for the epsilon that replk computes with; mean and offset stay."""
    gain, variance = (network[f"{batch_norm}.{part}"] for part in ("weight", "running_var"))
    double = variance.values().astype("float64")
    factor = ((double + 1e-5) / (double + epsilon)) ** 0.5
    network[f"{batch_norm}.weight"] = tensors.of_values(gain.values() * factor, "F32")


def numbers_of(source, found, net, dtype=None, epsilons=None):
    """The network's tensors, ready to be written, and metadata. epsilons: of norms, by official name, where they are
    known one by one; else the settings' are all norms'."""
    try:
        network = {}
        for name, tensor in found.tensors.items():
            if name in net.known:
                plain = tensor if isinstance(tensor, tensors.Tensor) else tensors.of_torch(name, tensor)
                network[name] = official_shape(name, tensors.converted(name, plain, dtype))
    except Refused as refused:
        raise Refused(f"{source}: {refused}") from refused
    metadata, settings = {"format": "pt"}, found.settings
    if kept := found.metadata.get("head_norm_epsilon"):  # of a file that has been converted before
        metadata["head_norm_epsilon"] = kept
    for name in [name for name in network if name.endswith(".running_var")]:
        norm = name.removesuffix(".running_var")
        epsilon = (epsilons or {}).get(norm, settings.batch_norm_epsilon)
        if epsilon != 1e-5:
            with_usual_epsilon(network, norm, epsilon)
    head = (epsilons or {}).get("norm", settings.head_norm_epsilon)
    if head != 1e-6 and "norm.weight" in network and "norm.running_var" not in network:
        metadata["head_norm_epsilon"] = repr(float(head))
    return network, metadata


def convert(
    source: str | os.PathLike, target: str | os.PathLike, *, ema: bool = False, part: str | None = None,
    dtype: str | None = None, labels: str | os.PathLike | None = None, model: str | None = None,
) -> Converted:
    """Reads a checkpoint and writes the .safetensors file that ``replk.Model`` and ``--weights`` take.

    source: a file of torch.save or .safetensors, in the names that docs/models.md lists. target: the file to write. ema:
    take the moving averages that training saved. part: the key of one of several networks in a file. dtype: the tensors'
    type, ``fp32``, ``fp16`` or ``bf16``; None: as they are. labels: a file with the classes' names. model: the name to keep
    in the file; None: the one that the shapes show. Returns a ``Converted``.
    Raises ``replk.BadFile``, whose one line names what is missing or has no place. No code of a file is run.
    """
    if dtype not in (None, *tensors.WANTED):
        raise Refused(f"dtype is {dtype!r}; allowed: {', '.join(map(repr, tensors.WANTED))}")
    found = checkpoint.load(source, ema, part)
    family, net, foreign = whole_network(source, found)
    network, metadata = numbers_of(source, found, net, dtype)
    name = model or model_of(family, net)
    if name:
        metadata["model"] = name
    kept = found.metadata.get("labels")
    if labels:
        names = read_labels(labels)
        head = network.get("head.weight", network.get("classifier.1.weight"))
        if head is not None and len(names) != head.shape[0]:
            raise Refused(f"{labels}: {len(names)} labels for {head.shape[0]} classes")
        kept = label_text(names)
    if kept:
        metadata["labels"] = kept
    storage.save(target, network, metadata)
    return Converted(name, family, len(network), foreign + sorted(found.beside))


class Converted:
    """What ``convert`` did: ``model``, the name kept in the file (None if replk has none), its ``family``, the ``count`` of
    tensors, and the names that were ``left_out``."""

    def __init__(self, model, family, count, left_out):
        self.model, self.family, self.count, self.left_out = model, family, count, left_out

    def __repr__(self):
        return f"<{self.count} tensors of {self.model or self.family}, {len(self.left_out)} left out>"


def main(arguments=None):
    import argparse
    import warnings
    warnings.filterwarnings("ignore", module="torch")  # of its own insides: what is wrong with a file is said here
    called = os.path.basename(sys.argv[0])
    parser = argparse.ArgumentParser("replk.convert" if called == "__main__.py" else called, description=__doc__.splitlines()[0])
    parser.add_argument("input", metavar="IN", help="a checkpoint of torch.save, or a .safetensors file")
    parser.add_argument("output", metavar="OUT.safetensors")
    parser.add_argument("--ema", action="store_true", help="take the moving averages ('model_ema') that training saved")
    parser.add_argument("--part", metavar="NAME", help="of several networks in a file the one under this key")
    parser.add_argument("--dtype", choices=tuple(tensors.WANTED), help="type of the tensors (default: as they are)")
    parser.add_argument("--labels", metavar="FILE", help="names of the classes, one a line or JSON, kept in the file")
    parser.add_argument("--model", metavar="NAME", help="name kept in the file (default: guessed from the shapes)")
    options = parser.parse_args(arguments)
    try:
        done = convert(options.input, options.output, ema=options.ema, part=options.part, dtype=options.dtype,
                       labels=options.labels, model=options.model)
    except Refused as refused:
        print(f"{parser.prog}: {refused}", file=sys.stderr)
        return 2
    print(f"{options.output}: {done.count} tensors of {done.model or done.family}")
    if done.left_out:
        print(f"{len(done.left_out)} unknown keys, left out: {listed(done.left_out)}", file=sys.stderr)
    return 0
