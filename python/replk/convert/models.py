"""Which network of replk's a set of tensors is: its name, options included."""
from .families import side

# The rows of lib/model/architecture.cpp: depths, channels and kernels by stage (MobileNetV2: by group).
NARROW, BASE, LARGE, XL = ((c, 2 * c, 4 * c, 8 * c) for c in (96, 128, 192, 256))
A, F, P, N = ((c, 2 * c, 4 * c, 8 * c) for c in (40, 48, 64, 80))
SLAK, SLAK_B, SLAK_L = (tuple(int(side * 1.3) for side in sides) for sides in (NARROW, BASE, LARGE))
REPLKNET, STRIPES, SEVEN, UNIREPLKNET = (31, 29, 27, 13), (51, 49, 47, 13), (7, 7, 7, 7), (3, 13, 13, 13)
TINY, SMALL = (3, 3, 9, 3), (3, 3, 27, 3)
MODELS = {
    'replknet-31b': ((2, 2, 18, 2), BASE, REPLKNET),
    'replknet-31l': ((2, 2, 18, 2), LARGE, REPLKNET),
    'replknet-xl': ((2, 2, 18, 2), XL, (27, 27, 27, 13)),
    'replknet-nano': ((1, 2, 1, 1), (24, 48, 96, 128), (13, 13, 7, 3)),
    'slak-t': (TINY, SLAK, STRIPES), 'slak-s': (SMALL, SLAK, STRIPES),
    'slak-b': (SMALL, SLAK_B, STRIPES), 'slak-l': (SMALL, SLAK_L, STRIPES),
    'convnext-a': ((2, 2, 6, 2), A, SEVEN), 'convnext-f': ((2, 2, 6, 2), F, SEVEN),
    'convnext-p': ((2, 2, 6, 2), P, SEVEN), 'convnext-n': ((2, 2, 8, 2), N, SEVEN),
    'convnext-t': (TINY, NARROW, SEVEN), 'convnext-s': (SMALL, NARROW, SEVEN), 'convnext-b': (SMALL, BASE, SEVEN),
    'convnext-l': (SMALL, LARGE, SEVEN), 'convnext-xl': (SMALL, XL, SEVEN),
    'convnextv2-a': ((2, 2, 6, 2), A, SEVEN), 'convnextv2-f': ((2, 2, 6, 2), F, SEVEN),
    'convnextv2-p': ((2, 2, 6, 2), P, SEVEN), 'convnextv2-n': ((2, 2, 8, 2), N, SEVEN),
    'convnextv2-t': (TINY, NARROW, SEVEN), 'convnextv2-s': (SMALL, NARROW, SEVEN), 'convnextv2-b': (SMALL, BASE, SEVEN),
    'convnextv2-l': (SMALL, LARGE, SEVEN), 'convnextv2-h': (SMALL, (352, 704, 1408, 2816), SEVEN),
    'convnextv2-mini': ((1, 1, 2, 1), (24, 48, 96, 192), SEVEN),
    'unireplknet-a': ((2, 2, 6, 2), A, UNIREPLKNET), 'unireplknet-f': ((2, 2, 6, 2), F, UNIREPLKNET),
    'unireplknet-p': ((2, 2, 6, 2), P, UNIREPLKNET), 'unireplknet-n': ((2, 2, 8, 2), N, UNIREPLKNET),
    'unireplknet-t': ((3, 3, 18, 3), N, UNIREPLKNET), 'unireplknet-s': (SMALL, NARROW, UNIREPLKNET),
    'unireplknet-b': (SMALL, BASE, UNIREPLKNET), 'unireplknet-l': (SMALL, LARGE, UNIREPLKNET),
    'unireplknet-xl': (SMALL, XL, UNIREPLKNET),
    'mobilenetv2': ((1, 2, 3, 4, 3, 3, 1), (16, 24, 32, 64, 96, 160, 320), (3,) * 7),
}
# SLaK at ConvNeXt's own width, which several of the above have.
WIDTH_1 = {'slak-t': (TINY, NARROW), 'slak-s': (SMALL, NARROW), 'slak-b': (SMALL, BASE), 'slak-l': (SMALL, LARGE)}
USUAL_SMALL = {'replknet': 5, 'replknet-xl': 0, 'slak': 5}
# Of a family: where a stage's blocks are, how many names there are to a block, and in a stage's first block the tensor
# whose second side is the stage's channels and those whose third is its kernel.
PLACES = {
    'replknet': ('stages.{}.blocks', 2, 'pw1.conv.weight',
                 ('large_kernel.lkb_origin.conv.weight', 'large_kernel.lkb_reparam.weight')),
    'slak': ('stages.{}', 1, 'pwconv1.weight', ('large_kernel.LoRA1.conv.weight',)),
    'convnext': ('stages.{}', 1, 'pwconv1.weight', ('dwconv.weight',)),
    'convnextv2': ('stages.{}', 1, 'pwconv1.weight', ('dwconv.weight',)),
    'unireplknet': ('stages.{}', 1, 'pwconv1.1.weight', ('dwconv.lk_origin.weight', 'dwconv.weight')),
}


def outline(family, net):
    """Depths, channels and kernels as MODELS has them."""
    if family == 'mobilenetv2':
        return inverted_residuals(net)
    stages, stride, width, kernels = PLACES[family]
    stages = [stages.format(stage) for stage in range(4)]
    return (tuple(net.count(stage) // stride for stage in stages),
            tuple(side(net.tensors, f'{stage}.0.{width}', 1) for stage in stages),
            tuple(max(side(net.tensors, f'{stage}.0.{kernel}', 2) for kernel in kernels) for stage in stages))


def inverted_residuals(net):
    """MobileNetV2's blocks in the groups of its table."""
    first, channels, kernels = 1, [], []
    depths = MODELS['mobilenetv2'][0]
    for depth in depths:
        blocks = [f'features.{i}.conv.{{}}.weight' for i in range(first, first + depth)]
        channels.append({side(net.tensors, block.format(1 if first == 1 else 2), 0) for block in blocks})
        kernels.append({side(net.tensors, block.format('0.0' if first == 1 else '1.0'), 2) for block in blocks})
        first += depth
    if net.has(f'features.{first}.conv') or any(len(sides) > 1 for sides in channels + kernels):
        return (), (), ()
    return depths, tuple(sides.pop() for sides in channels), tuple(sides.pop() for sides in kernels)


def small_kernel(family, net):
    """RepLKNet's parallel kernel or the short side of SLaK's stripes; None where it cannot be seen (merged form)."""
    first = 'stages.0.{}large_kernel.'.format('blocks.0.' if family == 'replknet' else '0.')
    if family == 'slak':
        return side(net.tensors, first + 'LoRA1.conv.weight', 3)
    if family == 'replknet' and net.has(first + 'lkb_origin'):
        return side(net.tensors, first + 'small_conv.conv.weight', 2)
    return None


def model_of(family, net):
    """The name replk has for a network, its options included; None where it has none."""
    depths, channels, kernels = outline(family, net)
    rows = [(model, '', row[:2]) for model, row in MODELS.items()]
    rows += [(model, ':width=1', row) for model, row in WIDTH_1.items()]
    for model, width, row in rows:
        if model.split('-')[0] == family and row == (depths, channels):
            break
    else:
        return None
    name = model + width
    if kernels != MODELS[model][2]:
        if not all(kernel % 2 and kernel <= 63 for kernel in kernels):
            return None
        name += f':k={",".join(map(str, kernels if len(set(kernels)) > 1 else kernels[:1]))}'
    small, usual = small_kernel(family, net), USUAL_SMALL.get(model, USUAL_SMALL.get(family))
    # None beside a large kernel that is smaller still is not another network.
    if small is not None and small != usual and (small or usual <= kernels[0]):
        name += f':small={small}'
    return name
