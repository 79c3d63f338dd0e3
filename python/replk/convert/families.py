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


def is_layer_scale(name):
    """stages.2.0.gamma, and not the deeper gamma of a GRN."""
    return name.count('.') == 3 and name.startswith('stages.') and name.endswith('.gamma')


class Inventory:
    """Goes through the tensors of a network: notes which names it may have, and which it must have and has not."""

    def __init__(self, tensors):
        self.tensors = tensors
        self.known, self.missing = set(), []
        self.has_layer_scale = any(map(is_layer_scale, tensors))  # all blocks have it, or none
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
        if net.has(f'norm{stage}'):  # of features for another network
            net.need(f'norm{stage}', 'weight', 'bias')
    net.head(lambda layer: net.need(layer, 'weight', 'bias'))


def feedforward(net, name):
    for layer in 'norm', 'pwconv1', 'pwconv2':
        net.need(f'{name}.{layer}', 'weight', 'bias')
    if net.has_layer_scale:
        net.need(name, 'gamma')


def convnext(net):
    def block(net, name):
        net.need(name + '.dwconv', 'weight', 'bias')
        feedforward(net, name)
    staged(net, ((0, 1), (0, 1)), block)


def convnextv2(net):
    def block(net, name):
        net.need(name + '.dwconv', 'weight', 'bias')
        net.need(name + '.grn', 'gamma', 'beta')
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
            if net.has_layer_scale:
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


FAMILIES = {'replknet': replknet, 'slak': slak, 'convnext': convnext, 'convnextv2': convnextv2, 'unireplknet': unireplknet,
            'mobilenetv2': mobilenetv2}


def inventory(tensors):
    """The family that knows most of the names, and its Inventory; of several the one that misses least."""
    nets = {}
    for family, visit in FAMILIES.items():
        nets[family] = Inventory(tensors)
        visit(nets[family])
    family = max(nets, key=lambda name: (len(nets[name].known & tensors.keys()), -len(nets[name].missing)))
    return family, nets[family]
