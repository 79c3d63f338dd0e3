#!/usr/bin/env python3
"""The frameworks' and the authors' own modules, at full size, against replk: by Model.from_torch and by converted files.

    REPLK_LIBRARY=build/libreplk_cpu.so.0 PYTHONPATH=python python3 tests/parity/frameworks.py [--authors DIR] [NAME...]

Each network gets random weights and statistics; one line each: the largest difference of logits (or of a backbone's maps)
over the largest value, the module's in float64. Exits with 1 where a figure is above 1e-5. A package that is not installed
is said and passed over. --authors: a folder with the checkouts RepLKNet-pytorch, SLaK, UniRepLKNet, ConvNeXt and
ConvNeXt-V2, whose code is imported and not changed. Needs torch, and timm, torchvision,
transformers, mmpretrain (with mmengine and mmcv-lite) for theirs; 3 GB of memory.
"""
import argparse
import contextlib
import importlib
import io
import os
import pathlib
import sys
import tempfile
import types
import warnings

import torch
from torch import nn

import replk
from definitions import randomise

BOUND = 1e-5
SIDE = 96


class DepthWise(nn.Conv2d):
    """What SLaK's code imports from an extension for CUDA: a depthwise layer of any sides."""

    def __init__(self, channels, kernel, bias=False):
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        super().__init__(channels, channels, sides, padding=(sides[0] // 2, sides[1] // 2), groups=channels, bias=bias)


def timm(name, **options):
    import timm
    return timm.create_model(name, **options)


def torchvision(name):
    import torchvision
    return getattr(torchvision.models, name)()


def mmpretrain(name):
    import mmpretrain
    if name != "RepLKNet-31B":
        return mmpretrain.get_model(name, pretrained=False)
    from mmpretrain.registry import MODELS  # its file of this network is one that today's mmengine does not read
    return MODELS.build({
        "type": "ImageClassifier", "backbone": {"type": "RepLKNet", "arch": "31B", "out_indices": [3]},
        "neck": {"type": "GlobalAveragePooling"}, "head": {"type": "LinearClsHead", "num_classes": 1000, "in_channels": 1024}})


def transformers(kind, config, **options):
    import transformers
    settings = getattr(transformers, config)(**options)
    if hasattr(settings, "hidden_sizes"):
        settings.hidden_sizes = list(settings.hidden_sizes)  # its backbones add lists to it
    return getattr(transformers, kind)(settings)


def authors(folder, repository, file, make, **options):
    """A network of a checkout. It is imported as its own users do, with timm's names where it has moved them."""
    if folder is None or not (pathlib.Path(folder) / repository / file).exists():
        raise ImportError(f"no {repository}/{file} (--authors DIR)")
    import timm.layers
    sys.modules.setdefault("timm.models.layers", timm.layers)
    sys.modules.setdefault("timm.models.registry", importlib.import_module("timm.models"))
    extension = types.ModuleType("depthwise_conv2d_implicit_gemm")
    extension.DepthWiseConv2dImplicitGEMM = DepthWise
    sys.modules["depthwise_conv2d_implicit_gemm"] = extension
    sys.modules.setdefault("MinkowskiEngine", types.SimpleNamespace(SparseTensor=object))  # for V2's sparse training
    path = pathlib.Path(folder) / repository / file
    package = str(path.parent.relative_to(pathlib.Path(folder) / repository)).replace("/", ".")
    name = path.stem if package == "." else f"{package}.{path.stem}"
    for known in [known for known in sys.modules if known == name or known.partition(".")[0] == "models"]:
        del sys.modules[known]
    sys.path.insert(0, str(pathlib.Path(folder) / repository))
    try:
        module = importlib.import_module(name)
    finally:
        sys.path.pop(0)
    module.use_sync_bn = False
    return getattr(module, make)(**options)


STAGES = {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
STRIPES = {"Decom": True, "kernel_size": [51, 49, 47, 13, 5]}
B31 = dict(large_kernel_sizes=[31, 29, 27, 13], layers=[2, 2, 18, 2], channels=[128, 256, 512, 1024], drop_path_rate=0.0,
           use_sync_bn=False)


def networks(folder):
    def of(repository, file, make, **options):
        return lambda: authors(folder, repository, file, make, **options)
    replknet = ("RepLKNet-pytorch", "replknet.py", "RepLKNet")
    return {
        **{f"timm {name}": lambda name=name: timm(name) for name in (
            "convnext_atto", "convnext_tiny", "convnext_small", "convnext_base", "convnext_large", "convnext_xlarge",
            "convnextv2_atto", "convnextv2_tiny", "convnextv2_large", "mobilenetv2_100")},
        "timm convnext_tiny features_only": lambda: timm("convnext_tiny", features_only=True),
        "timm convnext_tiny ls_init_value=None": lambda: timm("convnext_tiny", ls_init_value=None),
        **{f"torchvision {name}": lambda name=name: torchvision(name) for name in (
            "convnext_tiny", "convnext_large", "mobilenet_v2")},
        "transformers ConvNext": lambda: transformers("ConvNextForImageClassification", "ConvNextConfig"),
        "transformers ConvNextBackbone": lambda: transformers("ConvNextBackbone", "ConvNextConfig", **STAGES),
        "transformers ConvNextV2": lambda: transformers("ConvNextV2ForImageClassification", "ConvNextV2Config"),
        "transformers ConvNextV2Backbone": lambda: transformers("ConvNextV2Backbone", "ConvNextV2Config", **STAGES),
        "transformers MobileNetV2": lambda: transformers("MobileNetV2ForImageClassification", "MobileNetV2Config",
                                                         tf_padding=False),
        **{f"mmpretrain {name}": lambda name=name: mmpretrain(name) for name in (
            "convnext-tiny_32xb128_in1k", "convnext-v2-tiny_fcmae-pre_3rdparty_in1k", "mobilenet-v2_8xb32_in1k",
            "RepLKNet-31B")},
        **{f"authors' RepLKNet-31B small={small}": of(*replknet, small_kernel=small, num_classes=1000, **B31)
           for small in (5, 3, None)},
        "authors' RepLKNet-31B backbone, norms": of(*replknet, small_kernel=5, num_classes=None, out_indices=[0, 1, 2, 3],
                                                    norm_intermediate_features=True, **B31),
        "authors' SLaK-T": of("SLaK", "models/SLaK.py", "SLaK_tiny", width_factor=1.3, **STRIPES),
        "authors' SLaK-T width 1": of("SLaK", "models/SLaK.py", "SLaK_tiny", width_factor=1.0, **STRIPES),
        "authors' SLaK-L": of("SLaK", "models/SLaK.py", "SLaK_large", width_factor=1.3, **STRIPES),
        "authors' UniRepLKNet-T": of("UniRepLKNet", "unireplknet.py", "unireplknet_t"),
        "authors' ConvNeXt-T": of("ConvNeXt", "models/convnext.py", "convnext_tiny"),
        "authors' ConvNeXt V2-A": of("ConvNeXt-V2", "models/convnextv2.py", "convnextv2_atto"),
    }


def outputs(given):
    """Logits, or the maps of a backbone."""
    given = getattr(given, "logits", None) if getattr(given, "logits", None) is not None else \
        getattr(given, "feature_maps", given)
    return [given] if isinstance(given, torch.Tensor) else list(given)


def figure(model, pixels, wanted):
    ours = pixels.float().permute(0, 2, 3, 1).contiguous().numpy()
    found = [model.logits(ours)] if wanted[0].dim() == 2 else model.features(ours)
    return max((torch.from_numpy(mine).double() - theirs).abs().max().item() / theirs.abs().max().item()
               for mine, theirs in zip(found, wanted, strict=True))


def compare(title, module, folder):
    # What has normed features as the module has them.
    model = replk.Model.from_torch(module)
    config = getattr(module, "config", None)
    if config is not None:
        (folder / "config.json").write_text(config.to_json_string())
    torch.save({"state_dict": module.state_dict()}, folder / "in.pth")
    replk.convert(folder / "in.pth", folder / "out.safetensors")
    norms = not model.classes and "norms" in title or "Backbone" in title
    from_file = replk.Model(model.name, folder / "out.safetensors", norm_features=norms)
    pixels = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    with torch.no_grad():
        wanted = outputs(module.double()(pixels.float().double()))
    figures = figure(model, pixels, wanted), figure(from_file, pixels, wanted)
    print(f"{title}: {model.name}: from_torch {figures[0]:.1e}, converted {figures[1]:.1e}", flush=True)
    return max(figures) <= BOUND


def main():
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--authors", metavar="DIR", default=os.environ.get("REPLK_AUTHORS"), help="their checkouts")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only networks whose title has one of these in it")
    options = parser.parse_args()
    good = True
    for title, make in networks(options.authors).items():
        if options.names and not any(name in title for name in options.names):
            continue
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # the authors' code prints each block
                module = make()
        except ImportError as error:
            print(f"{title}: skipped: {error}")
            continue
        with tempfile.TemporaryDirectory() as folder:
            good &= compare(title, randomise(module, 5), pathlib.Path(folder))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
