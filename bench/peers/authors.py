#!/usr/bin/env python3
"""Runs the repositories of RepLKNet, SLaK and UniRepLKNet, unmodified, with the drop-in for their CUDA extension: forward and
backward in float32. Every layer that the drop-in computes is compared with nn.Conv2d in float64 on the same input and the
same gradient of its result, and the whole network with the whole network in float64.

    PYTHONPATH=python REPLK_LIBRARY=build/libreplk_cpu.so python3 bench/peers/authors.py FOLDER [--size 224]

FOLDER has checkouts of DingXiaoH/RepLKNet-pytorch, VITA-Group/SLaK and AILab-CVC/UniRepLKNet under their repository's name.
torch and timm are needed. Each repository is run in a process of its own, and finds the drop-in in another of the ways that
docs/pytorch.md names.
"""
import argparse
import contextlib
import copy
import io
import os
import subprocess
import sys
import types
import warnings

TOLERANCE = 1e-5  # of the largest value of each tensor
EXTENSION = "depthwise_conv2d_implicit_gemm"


def replknet_31b(folder):
    sys.path.insert(0, os.path.join(folder, "RepLKNet-pytorch"))
    import replknet

    return replknet.create_RepLKNet31B(drop_path_rate=0.0, use_checkpoint=False)


def slak_t(folder):
    sys.path.insert(0, os.path.join(folder, "SLaK"))
    from models.SLaK import SLaK

    return SLaK(depths=[3, 3, 9, 3], dims=[96, 192, 384, 768], kernel_size=[51, 49, 47, 13, 5], width_factor=1.3, Decom=True,
                layer_scale_init_value=0.2)


def unireplknet_t(folder):
    sys.path.insert(0, os.path.join(folder, "UniRepLKNet"))
    import unireplknet

    return unireplknet.UniRepLKNet(depths=(3, 3, 18, 3), dims=(80, 160, 320, 640), layer_scale_init_value=0.2)


NETWORKS = {"replknet-31b": replknet_31b, "slak-t": slak_t, "unireplknet-t": unireplknet_t}


@contextlib.contextmanager
def silent():
    """Their constructors print much, and timm warns of the names by which they import it."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def plain_extension():
    """A module of the extension's name whose convolution is an nn.Conv2d: what the networks are without it."""
    from torch import nn

    module = types.ModuleType(EXTENSION)
    module.DepthWiseConv2dImplicitGEMM = lambda channels, kernel, bias=False: nn.Conv2d(
        channels, channels, kernel, padding="same", groups=channels, bias=bias)
    return module


def build(name, folder, plain=False):
    """A network with seeded weights; `plain`: of nn.Conv2d alone."""
    import torch

    torch.manual_seed(1)
    if plain:
        sys.modules[EXTENSION] = plain_extension()
    with silent():
        return NETWORKS[name](folder)


# The drop-in found in three ways -------------------------------------------------------------------------------------
def enter(name):
    import replk.torch
    from replk.torch.implicit_gemm import DIRECTORY

    if name == "replknet-31b":
        os.environ["LARGE_KERNEL_CONV_IMPL"] = DIRECTORY
        return "LARGE_KERNEL_CONV_IMPL"
    if name == "slak-t":  # its repository has the Python half of the extension, which wants the compiled one
        sys.path.append(DIRECTORY)
        return "the end of sys.path"
    replk.torch.install_drop_in()
    return "install_drop_in()"


def is_theirs(m):
    return type(m).__name__ == "DepthWiseConv2dImplicitGEMM"


def relative(found, expected):
    return ((found.double() - expected).abs().max() / expected.abs().max()).item()


class Record:
    """Inputs, results and gradients of results of the layers that the drop-in computes."""

    def __init__(self, network):
        self.seen = {}
        for name, m in network.named_modules():
            if is_theirs(m):
                m.register_forward_hook(self.note(name, m))

    def note(self, name, m):
        def hook(_, inputs, y):
            x = inputs[0].detach()
            self.seen[name] = [m, x, y.detach()]
            y.register_hook(lambda dy: self.seen[name].append(dy.detach()))

        return hook

    def worst(self):
        """Largest errors of y, dx and dw over the layers."""
        import torch
        from torch.nn.functional import conv2d

        errors = [0.0, 0.0, 0.0]
        for m, x, y, dy in self.seen.values():
            wide = [t.double().requires_grad_() for t in (x, m.weight.detach())]
            padding = [k // 2 for k in m.kernel_size]
            exact = conv2d(*wide, None if m.bias is None else m.bias.detach().double(), 1, padding, 1, m.groups)
            dx, dw = torch.autograd.grad(exact, wide, dy.double())
            ours = x.clone().requires_grad_()
            found = torch.autograd.grad(m(ours), [ours, m.weight], dy)
            for i, error in enumerate((relative(y, exact.detach()), relative(found[0], dx), relative(found[1], dw))):
                errors[i] = max(errors[i], error)
        return errors


def step(network, x):
    """Logits, and the gradients of all parameters of a loss that weighs each logit differently."""
    import torch

    logits = network(x)
    weights = torch.linspace(-1, 1, logits.numel(), dtype=logits.dtype).view_as(logits)
    return [logits.detach(), *torch.autograd.grad((logits * weights).sum(), list(network.parameters()))]


def in_float64(network):
    """With nn.Conv2d in the place of every convolution of theirs."""
    from torch import nn

    wide = copy.deepcopy(network).double()
    for m in wide.modules():
        if is_theirs(m):
            m.__class__, m.padding = nn.Conv2d, tuple(k // 2 for k in m.kernel_size)
    return wide


def check(name, folder, size):
    import torch

    way = enter(name)
    network = build(name, folder).eval()
    for m in network.modules():  # statistics far from identity
        if isinstance(m, torch.nn.modules.batchnorm._BatchNorm):
            m.running_mean.normal_(0, 0.2), m.running_var.uniform_(0.5, 2)
    x = torch.randn(1, 3, size, size)
    wide = in_float64(network)
    layers = sum(is_theirs(m) for m in network.modules())
    if not layers:
        raise SystemExit(f"{name}: no layer was made by the drop-in")
    names = ["logits", *(name for name, _ in network.named_parameters())]
    exact = step(wide, x.double())
    whole = [relative(a, b) for a, b in zip(step(network, x), exact)]
    record = Record(network)
    step(network, x)
    errors = record.worst()
    print(f"{name} at {size}x{size}, found through {way}: {layers} layers; off from float64, of the largest: results "
          f"{errors[0]:.1e}, gradients of inputs {errors[1]:.1e}, of weights {errors[2]:.1e}; the network's logits "
          f"{whole[0]:.1e}, its gradients at most {max(whole[1:]):.1e} ({names[whole.index(max(whole[1:]))]})", flush=True)
    return max(*errors, whole[0], merged(network, x, exact[0])) <= TOLERANCE


def merged(network, x, exact):
    """The error of the logits after the repository's own merging of branches, where it has one that takes this network."""
    import torch

    merge = getattr(network, "structural_reparam", None) or getattr(network, "reparameterize_unireplknet", None)
    if merge is None:
        return 0.0
    with silent(), torch.no_grad():
        merge()
        error = relative(network(x), exact)
    print(f"  merged by its own code: logits off by {error:.1e}", flush=True)
    return error


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", help="of the checkouts")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--network", choices=NETWORKS, help="this one alone, in this process")
    arguments = parser.parse_args()
    if arguments.network:
        return 0 if check(arguments.network, arguments.folder, arguments.size) else 1
    command = [sys.executable, __file__, arguments.folder, "--size", str(arguments.size), "--network"]
    return max(subprocess.run([*command, name]).returncode for name in NETWORKS)


if __name__ == "__main__":
    sys.exit(main())
