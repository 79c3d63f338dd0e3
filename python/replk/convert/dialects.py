"""Other projects' names for the tensors of these networks, and what the official ones would be.

A dialect is recognised by a name that only it has. Its rules change names wherever they stand, whatever prefix is in front;
what no rule changes keeps its name, and is refused later where it begins as the dialect's own names do.
"""
import json
import pathlib
import re
from dataclasses import dataclass

from .errors import Refused

START = r"(?<![^.])"  # of a part of a name
MOBILENETV2_DEPTHS = 1, 2, 3, 4, 3, 3, 1


@dataclass(frozen=True)
class Dialect:
    """marker: a pattern of a name that is there in each of its networks. rules: patterns and what takes their place, one
    after another. roots: first parts of its own names. without: a name (a pattern) whose lack is refused for `because`."""

    title: str
    marker: str
    rules: tuple
    roots: frozenset = frozenset()
    without: str = ""
    because: str = ""
    hidden_act: str = ""  # of transformers' configuration, which is read where this is not empty

    def official(self, name):
        for pattern, replacement in self.rules:
            name = re.sub(pattern, replacement, name, count=1)
        return name


@dataclass(frozen=True)
class Settings:
    """What the names do not say."""

    batch_norm_epsilon: float = 1e-5
    head_norm_epsilon: float = 1e-6


def feature(place):
    """The number of an inverted residual in torchvision's MobileNetV2, from its group and place in it."""
    group, block = (int(number) for number in place)
    return 1 + sum(MOBILENETV2_DEPTHS[:group]) + block


def timm_inverted_residual(found):
    group, block, layer = int(found[1]), int(found[2]), found[3]
    single = {"conv_dw": "0.0", "bn1": "0.1", "conv_pw": "1", "bn2": "2"}  # the first block does not expand
    usual = {"conv_pw": "0.0", "bn1": "0.1", "conv_dw": "1.0", "bn2": "1.1", "conv_pwl": "2", "bn3": "3"}
    place = (usual if group else single).get(layer)
    return f"features.{feature((group, block))}.conv.{place}." if place else found[0]


def mm_inverted_residual(found):
    group, block, index, layer = int(found[1]) - 1, int(found[2]), int(found[3]), found[4]
    last = index == (2 if group else 1)  # has no activation, and so no box of its own in torchvision's
    part = index + (layer == "bn") if last else f"{index}.{int(layer == 'bn')}"
    return f"features.{feature((group, block))}.conv.{part}."


def transformers_inverted_residual(found):
    number = 1 if found[1] else int(found[2]) + 2
    index = ("expand_1x1", "conv_3x3", "reduce_1x1").index(found[3]) - (number == 1)
    norm, last = found[4] == "normalization", found[3] == "reduce_1x1"
    return f"features.{number}.conv.{index + norm if last else f'{index}.{int(norm)}'}."


def torchvision_stage(found):
    number = int(found[1])
    return f"stages.{number // 2}." if number % 2 else f"downsample_layers.{number // 2}."


GRN = (r"\.grn\.weight$", ".grn.gamma"), (r"\.grn\.bias$", ".grn.beta")

DIALECTS = (
    Dialect("timm's ConvNeXt", r"stages[._]\d+\.blocks\.\d+\.conv_dw\.weight$", (
        (START + r"stem[._](\d+)\.", r"downsample_layers.0.\1."),
        (START + r"stages[._](\d+)\.downsample\.", r"downsample_layers.\1."),
        (START + r"stages[._](\d+)\.blocks\.", r"stages.\1."),
        (r"\.conv_dw\.", ".dwconv."), (r"\.mlp\.fc([12])\.", r".pwconv\1."), (r"\.mlp\.grn\.", ".grn."), *GRN,
        (START + r"head\.norm\.", "norm."), (START + r"head\.fc\.", "head."),
    ), frozenset({"stem", "stages", "norm_pre"})),
    Dialect("torchvision's ConvNeXt", START + r"features\.1\.0\.block\.0\.weight$", (
        (START + r"features\.(\d+)\.", torchvision_stage),
        (r"\.layer_scale$", ".gamma"), (r"\.block\.0\.", ".dwconv."), (r"\.block\.2\.", ".norm."),
        (r"\.block\.3\.", ".pwconv1."), (r"\.block\.5\.", ".pwconv2."),
        (START + r"classifier\.0\.", "norm."), (START + r"classifier\.2\.", "head."),
    ), frozenset({"features", "classifier"})),
    Dialect("transformers' ConvNeXt", r"encoder\.stages\.\d+\.layers\.\d+\.dwconv\.weight$", (
        (START + r"embeddings\.patch_embeddings\.", "downsample_layers.0.0."),
        (START + r"embeddings\.layernorm\.", "downsample_layers.0.1."),
        (START + r"encoder\.stages\.(\d+)\.downsampling_layer\.", r"downsample_layers.\1."),
        (START + r"encoder\.stages\.(\d+)\.layers\.(\d+)\.layernorm\.", r"stages.\1.\2.norm."),
        (START + r"encoder\.stages\.(\d+)\.layers\.", r"stages.\1."),
        (r"\.layer_scale_parameter$", ".gamma"), *GRN,
        (START + r"hidden_states_norms\.stage(\d)\.", lambda found: f"norm{int(found[1]) - 1}."),
        (START + r"layernorm\.", "norm."), (START + r"classifier\.", "head.fc."),
    ), frozenset({"embeddings", "encoder", "hidden_states_norms"}), hidden_act="gelu"),
    Dialect("mmpretrain's ConvNeXt", r"stages\.\d+\.\d+\.depthwise_conv\.weight$", (
        (r"\.depthwise_conv\.", ".dwconv."), (r"\.pointwise_conv([12])\.", r".pwconv\1."),
    )),
    Dialect("timm's MobileNetV2", START + r"blocks\.0\.0\.conv_pw\.weight$", (
        (START + r"blocks\.([0-6])\.(\d+)\.(\w+)\.", timm_inverted_residual),
        (START + r"conv_stem\.", "features.0.0."), (START + r"bn1\.", "features.0.1."),
        (START + r"conv_head\.", "features.18.0."), (START + r"bn2\.", "features.18.1."),
        (START + r"classifier\.", "classifier.1."),
    ), frozenset({"blocks", "conv_stem", "conv_head"})),
    Dialect("transformers' MobileNetV2", START + r"conv_stem\.first_conv\.convolution\.weight$", (
        (START + r"conv_stem\.first_conv\.convolution\.", "features.0.0."),
        (START + r"conv_stem\.first_conv\.normalization\.", "features.0.1."),
        (START + r"(?:(conv_stem)|layer\.(\d+))\.(expand_1x1|conv_3x3|reduce_1x1)\.(convolution|normalization)\.",
         transformers_inverted_residual),
        (START + r"conv_1x1\.convolution\.", "features.18.0."), (START + r"conv_1x1\.normalization\.", "features.18.1."),
        (START + r"classifier\.", "classifier.1."),
    ), frozenset({"conv_stem", "layer", "conv_1x1"}), hidden_act="relu6"),
    Dialect("mmpretrain's MobileNetV2", START + r"layer1\.0\.conv\.0\.conv\.weight$", (
        (START + r"conv1\.conv\.", "features.0.0."), (START + r"conv1\.bn\.", "features.0.1."),
        (START + r"layer([1-7])\.(\d+)\.conv\.(\d)\.(conv|bn)\.", mm_inverted_residual),
        (START + r"conv2\.conv\.", "features.18.0."), (START + r"conv2\.bn\.", "features.18.1."),
        (START + r"head\.fc\.", "classifier.1."),
    ), frozenset({f"layer{group}" for group in range(1, 8)}), START + r"conv2\.conv\.weight$",
        "it is mmsegmentation's, whose strides and dilations are not in the file"),
    Dialect("SLaK's later names", r"\.large_kernel\.Decom1\.conv\.weight$", ((r"\.Decom([12])\.", r".LoRA\1."),)),
)


def dialect_of(source, names):
    """The dialect of these names; None: the official ones."""
    for dialect in DIALECTS:
        if any(re.search(dialect.marker, name) for name in names):
            if dialect.without and not any(re.search(dialect.without, name) for name in names):
                raise Refused(f"{source}: {dialect.title}, refused: {dialect.because}")
            return dialect
    return None


def config_beside(path):
    """transformers' config.json in a file's folder; empty where there is none."""
    try:
        config = json.loads(pathlib.Path(path).with_name("config.json").read_text())
    except OSError:
        return {}
    except ValueError as error:
        raise Refused(f"{pathlib.Path(path).with_name('config.json')}: no JSON: {error}") from error
    return config if isinstance(config, dict) else {}


def settings_of(source, dialect, config):
    """What transformers' configuration says besides the names. config: a dict, empty where it is not known."""
    if dialect is None or not dialect.hidden_act:
        return Settings()
    if config.get("hidden_act", dialect.hidden_act) != dialect.hidden_act:
        raise Refused(f"{source}: {dialect.title}, refused: hidden_act is {config['hidden_act']}; "
                      f"only {dialect.hidden_act} can be read")
    if dialect.hidden_act == "gelu":
        return Settings(head_norm_epsilon=number(source, config, "layer_norm_eps", 1e-12))
    if "tf_padding" not in config:
        raise Refused(f"{source}: {dialect.title} needs its config.json beside it, which says how it pads")
    if config["tf_padding"]:
        raise Refused(f"{source}: {dialect.title}, refused: tf_padding is true (TensorFlow's padding, on one side); "
                      "only false can be read")
    if config.get("output_stride", 32) != 32:
        raise Refused(f"{source}: {dialect.title}, refused: output_stride is {config['output_stride']}; only 32 can be read")
    return Settings(batch_norm_epsilon=number(source, config, "layer_norm_eps", 1e-3))


def number(source, config, key, usual):
    value = config.get(key, usual)
    if not isinstance(value, float | int) or not 0 < value <= 1:
        raise Refused(f"{source}: config.json: {key} is {value}; allowed: numbers above 0, at most 1")
    return float(value)
