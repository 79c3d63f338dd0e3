#!/usr/bin/env python3
"""replk.convert on the names that timm, torchvision, transformers and mmpretrain give to tensors, and on .safetensors files.

The goldens' tensors are renamed here by rules of this test's own; NAMES says what the packages' state dicts really hold
(timm 1.0.31, torchvision 0.28, transformers 5.24; mmpretrain 1.2), so that the rules cannot be of one mind with the
converter's and wrong. tests/parity/frameworks.py compares the packages' own logits. NumPy is all that is needed.
"""
import json
import pathlib
import re
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "tests" / "python")]
from needs import needs  # noqa: E402

needs("numpy", "apt-get install python3-numpy")

import numpy as np  # noqa: E402

import convert as program  # noqa: E402,F401  (makes replk_source: the package replk without its library)
from replk_source.convert import convert, storage  # noqa: E402
from replk_source.convert.errors import Refused  # noqa: E402
from replk_source.convert.models import MODELS  # noqa: E402
from replk_source.convert.tensors import Tensor, of_values  # noqa: E402

GOLDENS = ROOT / "tests" / "model" / "goldens"
WB, BN = ("weight", "bias"), ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def with_fields(layers, fields=WB):
    return {f"{layer}.{field}" for layer in layers.split() for field in fields}


# Every number is '#'.
NAMES = {
    "timm convnext": with_fields("stem.# stages.#.downsample.# stages.#.blocks.#.conv_dw stages.#.blocks.#.norm "
                                 "stages.#.blocks.#.mlp.fc# head.norm head.fc") | {"stages.#.blocks.#.gamma"},
    "timm convnextv2": with_fields("stem.# stages.#.downsample.# stages.#.blocks.#.conv_dw stages.#.blocks.#.norm "
                                   "stages.#.blocks.#.mlp.fc# stages.#.blocks.#.mlp.grn head.norm head.fc"),
    "torchvision convnext": with_fields("features.#.# features.#.#.block.# classifier.#") | {"features.#.#.layer_scale"},
    "transformers convnext": with_fields(
        "convnext.embeddings.patch_embeddings convnext.embeddings.layernorm convnext.encoder.stages.#.downsampling_layer.# "
        "convnext.encoder.stages.#.layers.#.dwconv convnext.encoder.stages.#.layers.#.layernorm "
        "convnext.encoder.stages.#.layers.#.pwconv# convnext.layernorm classifier"
    ) | {"convnext.encoder.stages.#.layers.#.layer_scale_parameter"},
    "transformers convnextv2": with_fields(
        "convnextv2.embeddings.patch_embeddings convnextv2.embeddings.layernorm convnextv2.encoder.stages.#.layers.#.grn "
        "convnextv2.encoder.stages.#.downsampling_layer.# convnextv2.encoder.stages.#.layers.#.dwconv "
        "convnextv2.encoder.stages.#.layers.#.layernorm convnextv2.encoder.stages.#.layers.#.pwconv# convnextv2.layernorm "
        "classifier"),
    "mmpretrain convnext": with_fields(
        "backbone.downsample_layers.#.# backbone.stages.#.#.depthwise_conv backbone.stages.#.#.norm "
        "backbone.stages.#.#.pointwise_conv# backbone.norm# head.fc") | {"backbone.stages.#.#.gamma"},
    "mmpretrain convnextv2": with_fields(
        "backbone.downsample_layers.#.# backbone.stages.#.#.depthwise_conv backbone.stages.#.#.norm "
        "backbone.stages.#.#.pointwise_conv# backbone.norm# head.fc"
    ) | {"backbone.stages.#.#.grn.gamma", "backbone.stages.#.#.grn.beta"},
    "timm mobilenetv2": with_fields("conv_stem blocks.#.#.conv_dw blocks.#.#.conv_pw blocks.#.#.conv_pwl conv_head",
                                    ("weight",)) | with_fields("bn# blocks.#.#.bn#", BN) | with_fields("classifier"),
    "transformers mobilenetv2": {
        f"mobilenet_v2.{layer}.{part}" for layer in (
            "conv_stem.first_conv", "conv_stem.conv_#x#", "conv_stem.reduce_#x#", "layer.#.expand_#x#", "layer.#.conv_#x#",
            "layer.#.reduce_#x#", "conv_#x#")
        for part in ("convolution.weight", *(f"normalization.{field}" for field in BN))} | with_fields("classifier"),
    "mmpretrain mobilenetv2": {
        f"backbone.{layer}.{part}" for layer in ("conv#", "layer#.#.conv.#")
        for part in ("conv.weight", *(f"bn.{field}" for field in BN))} | with_fields("head.fc"),
}
V2_TIMM = (r"\.grn\.gamma$", ".mlp.grn.weight"), (r"\.grn\.beta$", ".mlp.grn.bias")
TIMM = ((r"^downsample_layers\.0\.", "stem."), (r"^downsample_layers\.(\d)\.", r"stages.\1.downsample."),
        (r"^stages\.(\d)\.(\d+)\.", r"stages.\1.blocks.\2."), (r"\.dwconv\.", ".conv_dw."), (r"\.pwconv", ".mlp.fc"),
        *V2_TIMM, (r"^norm\.", "head.norm."), (r"^head\.(weight|bias)", r"head.fc.\1"))
TRANSFORMERS = ((r"^downsample_layers\.0\.0\.", "embeddings.patch_embeddings."),
                (r"^downsample_layers\.0\.1\.", "embeddings.layernorm."),
                (r"^downsample_layers\.(\d)\.", r"encoder.stages.\1.downsampling_layer."), (r"\.norm\.", ".layernorm."),
                (r"^norm\.", "layernorm."), (r"^stages\.(\d)\.(\d+)\.gamma$", r"stages.\1.\2.layer_scale_parameter"),
                (r"\.grn\.gamma$", ".grn.weight"), (r"\.grn\.beta$", ".grn.bias"),
                (r"^stages\.(\d)\.(\d+)\.", r"encoder.stages.\1.layers.\2."), (r"^head\.", "classifier."))
MM = ((r"dwconv", "depthwise_conv"), (r"pwconv", "pointwise_conv"), (r"^norm\.", "norm3."), (r"^(?!head)", "backbone."),
      (r"^head\.", "head.fc."))
CONVNEXT_RULES = {
    "timm": TIMM,
    "torchvision": (
        (r"^downsample_layers\.(\d)", lambda found: f"features.{2 * int(found[1])}"),
        (r"^stages\.(\d)\.", lambda found: f"features.{2 * int(found[1]) + 1}."), ("gamma", "layer_scale"),
        ("dwconv", "block.0"), (r"(\d\.\d+)\.norm", r"\1.block.2"), ("pwconv1", "block.3"), ("pwconv2", "block.5"),
        ("^norm", "classifier.0"), ("^head", "classifier.2")),
    "transformers": TRANSFORMERS,
    "mmpretrain": MM,
}


def renamed(tensors, rules):
    result = {}
    for name, tensor in tensors.items():
        for pattern, text in rules:
            name = re.sub(pattern, text, name, count=1)
        result[name] = tensor
    return result


def group_and_block(number):
    """Where torchvision's features.N is in the table of MobileNetV2."""
    for group, depth in enumerate((1, 2, 3, 4, 3, 3, 1)):
        if number <= depth:
            return group, number - 1
        number -= depth
    raise AssertionError(number)


def residual(name):
    """Number, layer (0: expansion, 1: depthwise, 2: projection), whether it is the norm, and field of a name of features."""
    number, places, field = re.fullmatch(r"features\.(\d+)\.conv\.([\d.]+)\.(\w+)", name).groups()
    places, first = [int(place) for place in places.split(".")], number == "1"
    layer, norm = (places[0], places[1]) if len(places) == 2 else (1, places[0] - 1) if first else (2, places[0] - 2)
    return int(number), layer + first, norm, field


def mobilenetv2_name(framework, name):
    """The framework's name of one that torchvision gives."""
    ends = {"timm": (("conv_stem", "bn1"), ("conv_head", "bn2"), "classifier"),
            "transformers": (("conv_stem.first_conv.convolution", "conv_stem.first_conv.normalization"),
                             ("conv_1x1.convolution", "conv_1x1.normalization"), "classifier"),
            "mmpretrain": (("conv1.conv", "conv1.bn"), ("conv2.conv", "conv2.bn"), "head.fc")}[framework]
    prefix = {"timm": "", "transformers": "mobilenet_v2.", "mmpretrain": "backbone."}[framework]
    if name.startswith("classifier."):
        return name.replace("classifier.1", ends[2])
    if found := re.fullmatch(r"features\.(0|18)\.([01])\.(\w+)", name):
        return f"{prefix}{ends[found[1] == '18'][int(found[2])]}.{found[3]}"
    number, layer, norm, field = residual(name)
    group, block = group_and_block(number)
    if framework == "timm":
        if number == 1:
            part = ("conv_dw", "bn1") if layer == 1 else ("conv_pw", "bn2")
            return f"blocks.0.0.{part[norm]}.{field}"
        return f"blocks.{group}.{block}.{f'bn{layer + 1}' if norm else ('conv_pw', 'conv_dw', 'conv_pwl')[layer]}.{field}"
    if framework == "mmpretrain":
        return f"backbone.layer{group + 1}.{block}.conv.{layer - (number == 1)}.{'bn' if norm else 'conv'}.{field}"
    place = "conv_stem" if number == 1 else f"layer.{number - 2}"
    part = ("expand_1x1", "conv_3x3", "reduce_1x1")[layer]
    return f"{prefix}{place}.{part}.{('convolution', 'normalization')[norm]}.{field}"


def mobilenetv2():
    """Random tensors of the whole network at a few channels, in torchvision's names."""
    generator = np.random.default_rng(1)
    tensors = {}

    def conv_bn(conv, norm, *shape):
        tensors[f"{conv}.weight"] = of_values(generator.standard_normal(shape), "F32")
        for field in BN[:4]:
            tensors[f"{norm}.{field}"] = of_values(generator.uniform(0.5, 2, shape[0]), "F32")
        tensors[f"{norm}.num_batches_tracked"] = Tensor("I64", np.array(7))

    conv_bn("features.0.0", "features.0.1", 4, 3, 3, 3)
    for number in range(1, 18):
        at, hidden = 0, 4 if number == 1 else 24
        if number > 1:
            conv_bn(f"features.{number}.conv.0.0", f"features.{number}.conv.0.1", hidden, 4, 1, 1)
            at = 1
        conv_bn(f"features.{number}.conv.{at}.0", f"features.{number}.conv.{at}.1", hidden, 1, 3, 3)
        conv_bn(f"features.{number}.conv.{at + 1}", f"features.{number}.conv.{at + 2}", 4, hidden, 1, 1)
    conv_bn("features.18.0", "features.18.1", 8, 4, 1, 1)
    tensors["classifier.1.weight"] = of_values(generator.standard_normal((5, 8)), "F32")
    tensors["classifier.1.bias"] = of_values(generator.standard_normal(5), "F32")
    return tensors


class Test(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def convert(self, tensors, metadata=None, **options):
        storage.save(self.folder / "in.safetensors", tensors, metadata or {})
        self.done = convert(self.folder / "in.safetensors", self.folder / "out.safetensors", **options)
        return storage.read(self.folder / "out.safetensors")

    def refuse(self, tensors, *words, metadata=None):
        (self.folder / "out.safetensors").unlink(missing_ok=True)
        with self.assertRaises(Refused) as caught:
            self.convert(tensors, metadata)
        self.assertNotIn("\n", str(caught.exception))
        for word in words:
            self.assertIn(word, str(caught.exception))
        self.assertFalse((self.folder / "out.safetensors").exists())

    def same(self, found, expected):
        self.assertEqual(found.keys(), expected.keys())
        for name, tensor in expected.items():
            self.assertEqual((found[name].kind, found[name].shape), (tensor.kind, tensor.shape), name)
            np.testing.assert_array_equal(found[name].array, tensor.array, name)

    def test_the_library_s_networks_are_recognised_and_no_others(self):
        text = (ROOT / "lib" / "model" / "architecture.cpp").read_text()
        rows = re.findall(r'rows\.push_back\([^;"]*"([^"]+)"', text)
        self.assertGreater(len(rows), 30)
        self.assertEqual(set(rows) - {"replknet-test"}, set(MODELS))  # which no file is of

    def test_convnext(self):
        for golden, frameworks in (("convnext", "timm torchvision transformers mmpretrain"),
                                   ("convnextv2", "timm transformers mmpretrain")):
            official = storage.read(GOLDENS / f"{golden}.safetensors")[0]
            for framework in frameworks.split():
                with self.subTest(f"{framework} {golden}"):
                    tensors = renamed(official, CONVNEXT_RULES[framework])
                    if framework == "transformers":
                        tensors = {name if name.startswith("classifier") else f"{golden}.{name}": tensor
                                   for name, tensor in tensors.items()}
                    self.assertEqual({re.sub(r"\d+", "#", name.replace(golden, golden.replace("2", "TWO"))).replace("TWO", "2")
                                      for name in tensors}, NAMES[f"{framework} {golden}"])
                    for name, tensor in tensors.items():  # the frameworks' shapes, where they differ
                        if name.endswith("layer_scale"):
                            tensors[name] = tensor.reshaped((-1, 1, 1))
                        elif re.search(r"grn\.\w+$", name) and framework != "transformers":
                            tensors[name] = tensor.reshaped((-1,))
                    found, metadata = self.convert(tensors)
                    self.same(found, official)
                    self.assertEqual(metadata.get("head_norm_epsilon"), "1e-12" if framework == "transformers" else None)
                    lost = sorted(tensors)[len(tensors) // 2]
                    self.refuse({name: tensor for name, tensor in tensors.items() if name != lost}, "missing")
                    inner = next(name for name in tensors if re.search(r"(stages|features)\.\d", name))
                    self.refuse(tensors | {inner + "_more": tensors[inner]}, "without a place")

    def test_backbones_keep_the_norms_of_their_features(self):
        official = {name: tensor for name, tensor in storage.read(GOLDENS / "convnext_bare.safetensors")[0].items()
                    if not re.match(r"norm\.|head\.", name)}
        self.assertIn("norm2.weight", official)
        transformers = renamed(official, ((r"^norm(\d)\.", lambda found: f"hidden_states_norms.stage{int(found[1]) + 1}."),
                                          *TRANSFORMERS))
        mm = renamed(official, MM)
        for tensors in (official, transformers, mm, {f"backbone.{name}": tensor for name, tensor in official.items()},
                        mm | {"decode_head.conv_seg.weight": official["norm2.weight"]}):
            self.same(self.convert(tensors)[0], official)
        del mm["backbone.norm1.bias"]
        self.refuse(mm, "norm1.bias")

    def test_layer_scale_is_in_all_blocks_or_in_none(self):
        official = storage.read(GOLDENS / "convnext.safetensors")[0]
        without = {name: tensor for name, tensor in official.items() if not name.endswith(".gamma")}
        self.same(self.convert(without)[0], without)
        del official["stages.2.1.gamma"]
        self.refuse(official, "stages.2.1.gamma")

    def test_slak_s_later_names(self):
        official = storage.read(GOLDENS / "slak.safetensors")[0]
        later = renamed(official, (("LoRA", "Decom"),))
        self.assertIn("stages.0.0.large_kernel.Decom1.conv.weight", later)
        self.same(self.convert(later)[0], official)
        del later["stages.1.0.large_kernel.Decom2.bn.bias"]
        self.refuse(later, "LoRA2.bn.bias")
        name = "stages.1.0.large_kernel.LoRA1.conv.weight"
        self.refuse(later | {name: official[name]}, "two tensors would be")

    def test_mobilenetv2(self):
        official = mobilenetv2()
        self.same(self.convert(official)[0], official)
        for framework in ("timm", "mmpretrain"):
            tensors = {mobilenetv2_name(framework, name): tensor for name, tensor in official.items()}
            self.assertEqual({re.sub(r"\d+", "#", name) for name in tensors}, NAMES[f"{framework} mobilenetv2"])
            self.same(self.convert(tensors)[0], official)
            more = "blocks.3.1.se.conv_reduce.weight" if framework == "timm" else "backbone.layer3.1.se.weight"
            self.refuse(tensors | {more: tensors[next(iter(tensors))]}, more, "without a place")
        # mmsegmentation's has no conv2.
        self.refuse({name: tensor for name, tensor in tensors.items() if "conv2" not in name}, "mmsegmentation")

    def test_transformers_mobilenetv2_needs_its_configuration(self):
        official = mobilenetv2()
        names = {name: re.sub("mobilenet_v#", "mobilenet_v2", re.sub(r"\d+", "#", mobilenetv2_name("transformers", name)))
                 for name in official}
        self.assertEqual(set(names.values()), NAMES["transformers mobilenetv2"])
        tensors = {mobilenetv2_name("transformers", name): tensor for name, tensor in official.items()}
        self.refuse(tensors, "config.json")
        config = self.folder / "config.json"
        for values, word in (({"tf_padding": True}, "tf_padding"), ({"tf_padding": False, "output_stride": 8}, "output_stride"),
                             ({"tf_padding": False, "layer_norm_eps": -1}, "layer_norm_eps"), ([], "config.json"),
                             ({"tf_padding": False, "hidden_act": "silu"}, "hidden_act")):
            config.write_text(json.dumps(values))
            self.refuse(tensors, word)
        config.write_text("{")
        self.refuse(tensors, "config.json")
        config.write_text(json.dumps({"tf_padding": False, "layer_norm_eps": 1e-3}))
        found = self.convert(tensors)[0]
        self.assertEqual(found.keys(), official.keys())
        for name, tensor in official.items():
            norm = name.removesuffix(".weight")
            if f"{norm}.running_var" not in official:
                np.testing.assert_array_equal(found[name].array, tensor.array, name)
                continue
            # The same as its own epsilon gives, with the one that replk adds.
            variance = official[f"{norm}.running_var"].array.astype(np.float64)
            np.testing.assert_allclose(found[name].array / np.sqrt(variance + 1e-5), tensor.array / np.sqrt(variance + 1e-3),
                                       rtol=1e-7)

    def test_variants_of_timm_that_compute_something_else(self):
        tensors = renamed(storage.read(GOLDENS / "convnext.safetensors")[0], TIMM)
        vector = tensors["head.norm.weight"]
        self.refuse(tensors | {"stem.2.weight": vector, "stem.2.bias": vector}, "stem.2.weight")  # overlapping stem
        self.refuse(tensors | {"head.pre_logits.fc.weight": vector}, "head.pre_logits")
        first = {name.replace("head.norm", "norm_pre"): tensor for name, tensor in tensors.items()}
        self.refuse(first, "norm.weight", "norm_pre.weight")
        self.refuse({name: tensor for name, tensor in tensors.items() if not re.search(r"norm\.bias$", name)}, "norm.bias")

    def test_what_a_file_says_besides_is_kept(self):
        official = storage.read(GOLDENS / "convnext.safetensors")[0]
        metadata = self.convert(official, {"labels": "a\nb", "other": "x"}, model="mine")[1]
        self.assertEqual(metadata, {"format": "pt", "labels": "a\nb", "model": "mine"})
        self.refuse(official, "int8", metadata={"precision": "int8"})
        bare, metadata = storage.read(GOLDENS / "convnext_bare.safetensors")
        self.assertEqual(self.convert(bare, metadata)[1]["head_norm_epsilon"], metadata["head_norm_epsilon"])

    def test_types(self):
        official = storage.read(GOLDENS / "replknet.safetensors")[0]
        for dtype, kind in (("fp16", "F16"), ("bf16", "BF16"), ("fp32", "F32")):
            found = self.convert(official, dtype=dtype)[0]
            self.same(found, {name: tensor if tensor.kind == "I64" else of_values(tensor.values(), kind)
                              for name, tensor in official.items()})
        doubles = {name: tensor if tensor.kind == "I64" else Tensor("F64", tensor.array.astype(np.float64))
                   for name, tensor in official.items()}
        self.same(self.convert(doubles)[0], official)
        name = "head.weight"
        large = Tensor("F64", np.full(official[name].shape, 1e39))
        self.refuse(official | {name: large}, name, "1e+39")
        self.refuse(official | {name: Tensor("I8", np.zeros(official[name].shape, np.int8))}, name, "I8")
        with self.assertRaises(Refused):
            self.convert(official, dtype="fp64")

    def test_rounding_to_bf16_is_to_nearest_even(self):
        values = np.array([1, 1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8 - 2**-20, np.inf, np.nan, 3.4e38], np.float32)
        expected = [1, 1, 1 + 2**-6, -1 - 2**-7, np.inf, np.nan, np.inf]
        np.testing.assert_array_equal(of_values(values, "BF16").values(), np.array(expected, np.float32))

    def test_hostile_files(self):
        storage.save(self.folder / "in.safetensors", storage.read(GOLDENS / "convnext.safetensors")[0], {})
        whole = (self.folder / "in.safetensors").read_bytes()
        length = int.from_bytes(whole[:8], "little")
        header = json.loads(whole[8:8 + length])
        name = next(name for name in header if name != "__metadata__")

        def changed(**fields):
            text = json.dumps(header | {name: header[name] | fields}).encode()
            return len(text).to_bytes(8, "little") + text + whole[8 + length:]

        twice = b'{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"a":{}}'
        cases = [whole[:-1], whole[:8 + length // 2], changed(shape=[1 << 60]), changed(shape=[-1]), changed(shape=None),
                 changed(shape=[True]), changed(shape=[1] * 9), changed(dtype="F128"), changed(dtype=None),
                 changed(data_offsets=[0, len(whole)]), changed(data_offsets=[0]), changed(data_offsets=[4, 0]),
                 (2**63).to_bytes(8, "little") + b"{", (1 << 20).to_bytes(8, "little") + b"{}",
                 len(twice).to_bytes(8, "little") + twice,
                 (60000).to_bytes(8, "little") + b'{"a":' * 10000 + b" " * 10000, (2).to_bytes(8, "little") + b"{}"]
        for case in cases:
            (self.folder / "in.safetensors").write_bytes(case)
            with self.subTest(case[:40]), self.assertRaises(Refused) as caught:
                convert(self.folder / "in.safetensors", self.folder / "out.safetensors")
            self.assertNotIn("\n", str(caught.exception))
        self.assertFalse((self.folder / "out.safetensors").exists())


if __name__ == "__main__":
    unittest.main()
