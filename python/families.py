"""The names that networks of each family give their tensors, and which network of replk's a set of tensors is.

The names are those of the official repositories (MobileNetV2: torchvision's). What a block must have follows from what it
has: train form has batch norms and branches, merged form one kernel with a bias, fused form a bias in a batch norm's place.
"""
import collections
import re

# UniRepLKNet's branches beside a large kernel: kernel: ((side, dilation), ...)
DILATED = {
    17: ((5, 1), (9, 2), (3, 4), (3, 5), (3, 7)), 15: ((5, 1), (7, 2), (3, 3), (3, 5), (3, 7)),
    13: ((5, 1), (7, 2), (3, 3), (3, 4), (3, 5)), 11: ((5, 1), (5, 2), (3, 3), (3, 4), (3, 5)),
    9: ((5, 1), (5, 2), (3, 3), (3, 4)), 7: ((5, 1), (3, 2), (3, 3)),
}


def side(tensors, name, axis):
    """A side of a tensor's shape; 0 where there is no such tensor or side."""
    shape = tensors[name].shape if name in tensors else ()
    return int(shape[axis]) if -len(shape) <= axis < len(shape) else 0


class Inventory:
    """Goes through the tensors of a network: notes which names it may have, and which it must have and has not."""

    def __init__(self, tensors):
        self.tensors = tensors
        self.known, self.missing = set(), []
        self.layers = {name[:end.start()] for name in tensors for end in re.finditer(r'\.', name)}

    def has(self, layer):
        return layer in self.layers

    def count(self, layer):
        """How many blocks there are under a name. One tensor alone is no block, but one that is somewhere by mistake."""
        places = (re.match(rf'{re.escape(layer)}\.([0-9]{{1,4}})\.', name) for name in self.tensors)
        return sum(tensors > 1 for tensors in collections.Counter(found[1] for found in places if found).values())

    def need(self, layer, *fields):
        for name in (f'{layer}.{field}' for field in fields):
            self.known.add(name)
            if name not in self.tensors:
                self.missing.append(name)

    def batch_norm(self, layer):
        self.need(layer, 'weight', 'bias', 'running_mean', 'running_var')
        self.known.add(layer + '.num_batches_tracked')

    def convolution(self, conv, batch_norm):
        """One without a bias and its batch norm, or with a bias instead."""
        self.need(conv, 'weight')
        if f'{conv}.bias' in self.tensors:
            self.known.add(conv + '.bias')
            if not self.has(batch_norm):
                return
        self.batch_norm(batch_norm)

    def conv_bn(self, layer):
        self.convolution(layer + '.conv', layer + '.bn')

    def head(self, norm):
        """Both may be absent: a backbone. A norm alone may be one too."""
        if self.has('norm') or self.has('head'):
            norm('norm')
        if self.has('head'):
            self.need('head', 'weight', 'bias')


def replknet(net):
    for i in range(4):
        net.conv_bn(f'stem.{i}')
    small = max((side(net.tensors, name, -1) for name in net.tensors if name.endswith('.small_conv.conv.weight')), default=0)
    for stage in range(4):
        for block in range(max(net.count(f'stages.{stage}.blocks') + 1 & ~1, 2)):
            name = f'stages.{stage}.blocks.{block}'
            net.batch_norm(name + ('.preffn_bn' if block % 2 else '.prelkb_bn'))
            net.conv_bn(name + '.pw1')
            net.conv_bn(name + '.pw2')
            if block % 2 == 0:
                large_kernel(net, name + '.large_kernel', small)
        if net.has(f'stages.{stage}.norm'):  # of features for another network
            net.batch_norm(f'stages.{stage}.norm')
        if stage < 3:
            net.conv_bn(f'transitions.{stage}.0')
            net.conv_bn(f'transitions.{stage}.1')
    net.head(net.batch_norm)


def large_kernel(net, name, small):
    if net.has(name + '.lkb_reparam'):
        net.need(name + '.lkb_reparam', 'weight', 'bias')
        return
    net.conv_bn(name + '.lkb_origin')
    # All blocks have the small branch or none has, but one whose large kernel is smaller still.
    if net.has(name + '.small_conv') or 0 < small <= side(net.tensors, name + '.lkb_origin.conv.weight', -1):
        net.conv_bn(name + '.small_conv')


def staged(net, downsampling, block):
    """ConvNeXt's outline: downsampling has the numbers of its layers with parameters, first stage and later ones."""
    for stage in range(4):
        for i in downsampling[min(stage, 1)]:
            net.need(f'downsample_layers.{stage}.{i}', 'weight', 'bias')
        for i in range(max(net.count(f'stages.{stage}'), 1)):
            block(net, f'stages.{stage}.{i}')
    net.head(lambda layer: net.need(layer, 'weight', 'bias'))


def feedforward(net, name):
    for layer in 'norm', 'pwconv1', 'pwconv2':
        net.need(f'{name}.{layer}', 'weight', 'bias')
    net.need(name, 'gamma')


def convnext(net):
    def block(net, name):
        net.need(name + '.dwconv', 'weight', 'bias')
        feedforward(net, name)
    staged(net, ((0, 1), (0, 1)), block)


def slak(net):
    def block(net, name):
        stripe = name + '.large_kernel.LoRA1'
        net.conv_bn(stripe)
        net.conv_bn(name + '.large_kernel.LoRA2')
        small_conv = name + '.large_kernel.small_conv'
        shape = [side(net.tensors, stripe + '.conv.weight', axis) for axis in (-2, -1)]
        if net.has(small_conv) or shape[1] < shape[0]:
            net.conv_bn(small_conv)
        feedforward(net, name)
    staged(net, ((0, 1), (0, 1)), block)


def unireplknet(net):
    def block(net, name):
        dwconv = name + '.dwconv'
        if not net.has(dwconv + '.lk_origin'):
            net.convolution(dwconv, name + '.norm')
        elif f'{dwconv}.lk_origin.bias' in net.tensors:
            net.need(dwconv + '.lk_origin', 'weight', 'bias')
            if net.has(name + '.norm'):
                net.batch_norm(name + '.norm')
        else:
            net.convolution(dwconv + '.lk_origin', dwconv + '.origin_bn')
            for kernel, dilation in DILATED.get(side(net.tensors, dwconv + '.lk_origin.weight', -1), ()):
                net.need(f'{dwconv}.dil_conv_k{kernel}_{dilation}', 'weight')
                net.batch_norm(f'{dwconv}.dil_bn_k{kernel}_{dilation}')
            net.batch_norm(name + '.norm')
        for layer in 'se.down', 'se.up', 'pwconv1.1':
            net.need(f'{name}.{layer}', 'weight', 'bias')
        net.need(name + '.act.1', 'gamma')
        net.convolution(name + '.pwconv2.0', name + '.pwconv2.2')
        # The deploy form has folded both into pwconv2.
        affine = f'{name}.act.1.beta', f'{name}.gamma'
        if net.has(name + '.pwconv2.2') or f'{name}.pwconv2.0.bias' not in net.tensors or any(a in net.tensors for a in affine):
            net.need(name + '.act.1', 'beta')
            net.need(name, 'gamma')
    staged(net, ((0, 1, 3, 4), (0, 1)), block)


def mobilenetv2(net):
    net.convolution('features.0.0', 'features.0.1')
    count = max(net.count('features'), 3)
    has_head = net.has('classifier') or not net.has(f'features.{count - 1}.conv')
    for i in range(1, count - has_head):
        name = f'features.{i}.conv'
        expansions = 2 if i > 1 else 1  # the first block has none
        for j in range(expansions):
            net.convolution(f'{name}.{j}.0', f'{name}.{j}.1')
        net.convolution(f'{name}.{expansions}', f'{name}.{expansions + 1}')
    if has_head:
        net.convolution(f'features.{count - 1}.0', f'features.{count - 1}.1')
        net.need('classifier.1', 'weight', 'bias')


FAMILIES = {'replknet': replknet, 'slak': slak, 'convnext': convnext, 'unireplknet': unireplknet, 'mobilenetv2': mobilenetv2}


def inventory(tensors):
    """The family that knows most of the names, and its Inventory; of several the one that misses least."""
    nets = {}
    for family, visit in FAMILIES.items():
        nets[family] = Inventory(tensors)
        visit(nets[family])
    family = max(nets, key=lambda name: (len(nets[name].known & tensors.keys()), -len(nets[name].missing)))
    return family, nets[family]


# Which network it is ---------------------------------------------------------------------------------------------------
# The rows of lib/model/architecture.cpp: depths, channels and kernels by stage (MobileNetV2: by group).
SLAK, CONVNEXT, BASE = (124, 249, 499, 998), (96, 192, 384, 768), (128, 256, 512, 1024)
MODELS = {
    'replknet-31b': ((2, 2, 18, 2), BASE, (31, 29, 27, 13)),
    'replknet-31l': ((2, 2, 18, 2), (192, 384, 768, 1536), (31, 29, 27, 13)),
    'replknet-xl': ((2, 2, 18, 2), (256, 512, 1024, 2048), (27, 27, 27, 13)),
    'replknet-nano': ((1, 2, 1, 1), (24, 48, 96, 128), (13, 13, 7, 3)),
    'slak-t': ((3, 3, 9, 3), SLAK, (51, 49, 47, 13)),
    'slak-s': ((3, 3, 27, 3), SLAK, (51, 49, 47, 13)),
    'slak-b': ((3, 3, 27, 3), (166, 332, 665, 1331), (51, 49, 47, 13)),
    'convnext-t': ((3, 3, 9, 3), CONVNEXT, (7, 7, 7, 7)),
    'convnext-s': ((3, 3, 27, 3), CONVNEXT, (7, 7, 7, 7)),
    'convnext-b': ((3, 3, 27, 3), BASE, (7, 7, 7, 7)),
    'unireplknet-a': ((2, 2, 6, 2), (40, 80, 160, 320), (3, 13, 13, 13)),
    'unireplknet-f': ((2, 2, 6, 2), (48, 96, 192, 384), (3, 13, 13, 13)),
    'unireplknet-p': ((2, 2, 6, 2), (64, 128, 256, 512), (3, 13, 13, 13)),
    'unireplknet-n': ((2, 2, 8, 2), (80, 160, 320, 640), (3, 13, 13, 13)),
    'unireplknet-t': ((3, 3, 18, 3), (80, 160, 320, 640), (3, 13, 13, 13)),
    'unireplknet-s': ((3, 3, 27, 3), CONVNEXT, (3, 13, 13, 13)),
    'unireplknet-b': ((3, 3, 27, 3), BASE, (3, 13, 13, 13)),
    'unireplknet-l': ((3, 3, 27, 3), (192, 384, 768, 1536), (3, 13, 13, 13)),
    'unireplknet-xl': ((3, 3, 27, 3), (256, 512, 1024, 2048), (3, 13, 13, 13)),
    'mobilenetv2': ((1, 2, 3, 4, 3, 3, 1), (16, 24, 32, 64, 96, 160, 320), (3,) * 7),
}
# Of a family: where a stage's blocks are, how many names there are to a block, and in a stage's first block the tensor
# whose second side is the stage's channels and those whose third is its kernel.
PLACES = {
    'replknet': ('stages.{}.blocks', 2, 'pw1.conv.weight',
                 ('large_kernel.lkb_origin.conv.weight', 'large_kernel.lkb_reparam.weight')),
    'slak': ('stages.{}', 1, 'pwconv1.weight', ('large_kernel.LoRA1.conv.weight',)),
    'convnext': ('stages.{}', 1, 'pwconv1.weight', ('dwconv.weight',)),
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


def model_of(family, net):
    """The name replk has for a network, its kernels included; None where it has none."""
    depths, channels, kernels = outline(family, net)
    for model, row in MODELS.items():
        if model.startswith(family) and row[:2] == (depths, channels):
            if kernels == row[2]:
                return model
            if all(kernel % 2 and kernel <= 63 for kernel in kernels):
                return f'{model}:k={",".join(map(str, kernels if len(set(kernels)) > 1 else kernels[:1]))}'
    return None
