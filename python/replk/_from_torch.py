"""Model.from_torch: a module's weights, by name and shape, and a check that it computes what replk would."""
import contextlib
import copy
import os

import numpy as np

from .convert import checkpoint, model_of, numbers_of, storage, whole_network
from .convert.errors import Refused
from .errors import BadFile, InvalidArgument

SIDE = 64  # of the picture that is compared: small, and no stride leaves less than a map of 2x2
# What fp32 sums of two orders may differ by is about 1e-6; another activation, stride or padding by far more.
LARGEST_DIFFERENCE = 1e-3


def load(model_class, module, precision, norm_features, verify, options):
    """See Model.from_torch."""
    import torch
    if not isinstance(module, torch.nn.Module):
        raise InvalidArgument(f"module is a {type(module).__name__}; allowed: a torch.nn.Module")
    title = f"module {type(module).__name__}"
    try:
        state = module.state_dict()
        found = checkpoint.find(title, state, False, None, configuration(module), {})
        family, net, foreign = whole_network(title, found)
        name = model_of(family, net)
        if name is None:
            raise Refused(f"{title}: a {family} whose depths and channels replk has no name for")
        if left := foreign + sorted(state.keys() - set(found.origins.values())):
            raise Refused(f"{title}: holds more than a {name}, for example {', '.join(left[:4])}; give the part that is one")
        network, metadata = numbers_of(title, found, net, epsilons=epsilons_of(title, module, found.origins))
    except Refused as refused:
        raise InvalidArgument(str(refused)) from refused
    if norm_features is None:
        norm_features = gives_normed_features(family, net, network)

    def loaded(wanted):
        with in_memory(network, metadata) as path:
            try:
                return model_class(name, path, wanted, norm_features=norm_features, **options)
            except BadFile as error:  # a shape that does not follow from its name and place
                raise InvalidArgument(str(error).replace(path, title)) from error

    if not verify:
        return loaded(precision)
    exact = loaded(None)
    compare(title, module, exact)
    if precision in (None, exact.precision):
        return exact
    del exact
    return loaded(precision)


def configuration(module):
    """transformers', where the module has one."""
    config = getattr(module, "config", None)
    return config.to_dict() if hasattr(config, "to_dict") else {}


def epsilons_of(title, module, origins):
    """Of the norms, by official name: what state_dict does not hold. Those that cannot be allowed for are refused."""
    official = {origin: name for name, origin in origins.items()}
    epsilons = {}
    for place, layer in module.named_modules():
        epsilon = getattr(layer, "eps", None)
        name = official.get(f"{place}.weight", "").removesuffix(".weight").removesuffix(".gamma")
        if epsilon is None or not name:
            continue
        epsilons[name] = float(epsilon)
        free = name == "norm" or f"{name}.running_var" in origins
        if not free and epsilon != 1e-6:
            raise Refused(f"{title}: {place} has epsilon {epsilon:g}; only 1e-06 can be computed")
    return epsilons


def gives_normed_features(family, net, network):
    """Whether it is a backbone that passes its features through norms."""
    norm = "stages.{}.norm" if family == "replknet" else "norm{}"
    return not net.has("head") and not net.has("classifier") and all(
        f"{norm.format(stage)}.weight" in network for stage in range(4))


@contextlib.contextmanager
def in_memory(network, metadata):
    """The path of a .safetensors file that lies in memory alone."""
    descriptor = os.memfd_create("replk-weights")
    with open(descriptor, "wb", buffering=0) as file:
        storage.write(file, network, metadata)
        yield f"/proc/self/fd/{descriptor}"


def compare(title, module, model):
    """One random picture through both; what the module gives besides logits and maps is not compared."""
    import torch
    first = next(module.parameters())
    if first.element_size() < 4:  # PyTorch's half precision is coarse on a CPU, and slow
        module = copy.deepcopy(module).float()
        first = next(module.parameters())
    pixels = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        with torch.no_grad():
            given = module(pixels.to(first.device, first.dtype))
    except Exception as error:
        raise InvalidArgument(f"{title}: does not run on a picture of {SIDE}x{SIDE}, so it cannot be compared "
                              f"(verify=False leaves that out): {error}") from error
    finally:
        for part in training:
            part.training = True
    ours = pixels.permute(0, 2, 3, 1).contiguous().numpy()
    for name, theirs, mine in results(given, model, ours):
        theirs = theirs.detach().float().cpu().numpy()
        difference = np.abs(theirs - mine).max() / max(np.abs(theirs).max(), 1e-30)
        if not difference <= LARGEST_DIFFERENCE:
            raise InvalidArgument(f"{title}: its {name} of a random picture differ from those of {model.name} by "
                                  f"{difference:.2g} of the largest: it has the names and shapes, but computes something else")


def results(given, model, pixels):
    """What can be compared: pairs of logits, or of maps."""
    logits = getattr(given, "logits", given)
    maps = getattr(given, "feature_maps", None) or (given if isinstance(given, list | tuple) else ())
    if hasattr(logits, "dim") and logits.dim() == 2 and model.classes:
        yield "logits", logits, model.logits(pixels)
    elif maps and all(hasattr(one, "dim") and one.dim() == 4 for one in maps):
        features = {feature.shape: feature for feature in model.features(pixels)}
        for one in maps:
            if tuple(one.shape) in features:
                yield "maps", one, features[tuple(one.shape)]
