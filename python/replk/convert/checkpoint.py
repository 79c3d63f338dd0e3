"""Finds the tensors of one network in a file, or in a module, whatever else and however deep it holds them.

Files of .safetensors are read with NumPy alone (storage.py). One that torch.save wrote is loaded with weights_only=True, so
that a hostile one cannot run code. What training left in it besides tensors (its arguments, a configuration of yacs) is
replaced by stand-ins that do nothing; that needs torch.
"""
import collections
import re
import zipfile
from typing import NamedTuple

from . import dialects, storage
from .errors import Refused

# A network's tensors are where one of these is: the first parts of the official names but for `norm` and `head`.
ROOTS = {'stem', 'stages', 'transitions', 'downsample_layers', 'features'}
# Containers and wrappers that say no more than that this is the network.
BACKBONE = {'backbone', 'convnext', 'convnextv2', 'mobilenet_v2'}  # beside it lies the head
PLAIN = {'state_dict', 'model_state_dict', 'model', 'net', 'network', 'checkpoint', 'module', '_orig_mod'} | BACKBONE
EMA = re.compile(r'(^|[._])ema([._]|$)')
DEPTH = 8  # of dicts in dicts


class StandIn:
    """For an object of a class, or a function's result, that is no tensor."""

    def __init__(self, *arguments, **named):
        pass

    def __setstate__(self, state):
        pass


def stand_in(name, made=None):
    """A class for a name in a file; `made` is what the unpickler insists on where items are added to the object."""
    methods = {'__module__': 'stand_in'}
    if made:
        methods['__new__'] = lambda cls, *arguments, **named: made()
    return type(name, (StandIn,), methods)


def unpickle(path):
    import torch
    serialization = torch.serialization
    if not hasattr(serialization, 'safe_globals'):  # PyTorch before 2.5 has no way to name what may be passed over
        return torch.load(path, map_location='cpu', weights_only=True)
    names = {}
    if hasattr(serialization, 'get_unsafe_globals_in_checkpoint') and zipfile.is_zipfile(path):
        names = {name: stand_in(name) for name in serialization.get_unsafe_globals_in_checkpoint(path)}
    while True:
        try:
            with serialization.safe_globals([(class_, name) for name, class_ in names.items()]):
                return torch.load(path, map_location='cpu', weights_only=True)
        except Exception as error:  # a name that is not known yet, or one whose object is a kind of dict or list
            name, class_ = wanted_by(str(error))
            if name is None or (name in names) == (class_ is None):
                raise
            names[name] = class_ or stand_in(name)


def wanted_by(message):
    """The name that the unpickler stopped at, and the class it should have: None for any."""
    if found := re.search(r'Unsupported global: GLOBAL (\S+) was', message):
        return found[1] if '.' in found[1] else 'builtins.' + found[1], None
    if found := re.search(r"(SETITEM|append|extend).* but got <class 'stand_in\.([^']+)'>", message):
        return found[2], stand_in(found[2], collections.Counter if found[1] == 'SETITEM' else list)
    return None, None


def reason_of(error):
    """Why a file cannot be unpickled, in a line."""
    if named := re.search(r'GLOBAL (\S+)', str(error)):
        return f'it needs {named[1]}'
    return (str(error).splitlines() or [type(error).__name__])[0].split('. ')[0]


def flatten(value, path='', depth=0):
    """Every tensor in dicts of dicts, by its keys joined with dots."""
    import torch
    if isinstance(value, torch.Tensor):
        yield path, value
    elif isinstance(value, dict) and depth < DEPTH:
        for key, inner in value.items():
            if isinstance(key, str):
                yield from flatten(inner, f'{path}.{key}' if path else key, depth + 1)


def networks_in(names):
    """What stands before the names of each network in a file: '', 'state_dict.module.' and the like."""
    counts = collections.Counter()
    for name in names:
        parts = name.split('.')
        at = next((i for i, part in enumerate(parts) if part in ROOTS), None)
        if at is not None:
            counts[''.join(part + '.' for part in parts[:at])] += 1
    # A head for another task may have stages too, but not nearly as many.
    return [prefix for prefix in sorted(counts) if 2 * counts[prefix] >= max(counts.values())]


def choose(path, prefixes, ema, part):
    if part:
        prefixes = [prefix for prefix in prefixes if prefix.startswith(part.rstrip('.') + '.')]
        if not prefixes:
            raise Refused(f"{path}: has no network under '{part}'")
    averaged = [prefix for prefix in prefixes if EMA.search(prefix)]
    if ema:
        if not averaged:
            raise Refused(f'{path}: has no moving averages (ema) of a network')
        prefixes = averaged
    elif len(averaged) < len(prefixes):
        prefixes = [prefix for prefix in prefixes if prefix not in averaged]
    plain = [prefix for prefix in prefixes if PLAIN.issuperset(prefix.split('.')[:-1])]
    prefixes = plain or prefixes
    if len(prefixes) > 1:
        raise Refused(f'{path}: holds {len(prefixes)} networks ({", ".join(prefix or "at the top" for prefix in prefixes)}); '
                      '--part says which')
    return prefixes[0] if prefixes else ''


class Found(NamedTuple):
    """A network's tensors by official name, the names they came with, what lies beside them, and what names do not say."""

    tensors: dict
    origins: dict
    beside: dict
    dialect: dialects.Dialect | None
    settings: dialects.Settings
    metadata: dict


def load(path, ema=False, part=None):
    """What a file holds of one network, as Found."""
    if storage.is_safetensors(path):
        tensors, metadata = storage.read(path)
        if metadata.get('precision'):
            raise Refused(f"{path}: its weights are {metadata['precision']} already, in replk's own form")
        return find(path, tensors, ema, part, dialects.config_beside(path), metadata)
    try:
        checkpoint = unpickle(path)
    except ImportError as error:
        raise Refused(f'{path}: is no .safetensors file, and to read others {error.name} is needed') from error
    except Exception as error:  # whatever a broken file makes of the unpickler
        raise Refused(f'{path}: not a checkpoint that can be loaded: {reason_of(error)}') from error
    if not isinstance(checkpoint, dict):
        raise Refused(f'{path}: holds a {type(checkpoint).__name__}; a dict of tensors is wanted')
    tensors = dict(flatten(checkpoint))
    if not tensors:
        raise Refused(f'{path}: holds no tensors (keys: {", ".join(map(str, list(checkpoint)[:8]))})')
    return find(path, tensors, ema, part, dialects.config_beside(path), {})


def find(source, tensors, ema, part, config, metadata):
    """One network among tensors; config is transformers', or empty.

    mmpretrain's names become the official ones: a `backbone.` is taken away, `head.fc` is the head and, where there is one,
    the last stage's norm is the network's (without a head it is what it says, one of the norms of features).
    """
    dialect = dialects.dialect_of(source, tensors)
    official = {name: dialect.official(name) if dialect else name for name in tensors}
    prefix = choose(source, networks_in(official.values()), ema, part)
    around = re.sub(rf'(^|\.)({"|".join(BACKBONE)})\.$', r'\1', prefix)
    names = set(official.values())
    has_outer_head = prefix != around and f'{around}head.fc.weight' in names
    own, origins, beside = {}, {}, {}
    for origin, name in official.items():
        if name.startswith(prefix):
            new = re.sub(r'^head\.cls_22k\.', 'head.', name[len(prefix):])
            if has_outer_head:
                new = re.sub(r'^(stages\.3\.norm|norm3)\.', 'norm.', new)
        elif name.startswith(around + 'head.fc.'):
            new = 'head.' + name[len(around + 'head.fc.'):]
        elif name.startswith(around + 'classifier.1.'):
            new = name[len(around):]
        else:
            if name.startswith(around):
                beside[name[len(around):]] = tensors[origin]
            continue
        if new in own:
            raise Refused(f"{source}: two tensors would be '{new}': '{origins[new]}' and '{origin}'")
        own[new], origins[new] = tensors[origin], origin
    return Found(own, origins, beside, dialect, dialects.settings_of(source, dialect, config), metadata)
