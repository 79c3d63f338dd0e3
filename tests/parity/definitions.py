"""PyTorch definitions of the networks, written for the tests: plain graphs with the official repositories' tensor names.

They are run in float64 as the reference of parity tests, so they favour plainness over speed. Where a network has a
merged (deploy) form, `merged(state)` in this file makes its tensors from those of train form.
"""
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


def conv_bn(inputs, outputs, kernel, stride=1, padding=0, groups=1):
    layer = nn.Sequential()
    layer.add_module('conv', nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False))
    layer.add_module('bn', nn.BatchNorm2d(outputs))
    return layer


class LayerNorm2d(nn.LayerNorm):
    """Over the channels of N x C x H x W; biased variance, epsilon inside the root."""

    def __init__(self, channels):
        super().__init__(channels, eps=1e-6)

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


# RepLKNet (arXiv 2203.06717) -----------------------------------------------------------------------------------------
class LargeKernel(nn.Module):
    def __init__(self, channels, kernel, small, merged):
        super().__init__()
        if merged:
            self.lkb_reparam = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)
            return
        self.lkb_origin = conv_bn(channels, channels, kernel, padding=kernel // 2, groups=channels)
        if small and small <= kernel:
            self.small_conv = conv_bn(channels, channels, small, padding=small // 2, groups=channels)

    def forward(self, x):
        if hasattr(self, 'lkb_reparam'):
            return self.lkb_reparam(x)
        y = self.lkb_origin(x)
        return y + self.small_conv(x) if hasattr(self, 'small_conv') else y


class RepLKBlock(nn.Module):
    def __init__(self, channels, hidden, kernel, small, merged):
        super().__init__()
        self.prelkb_bn = nn.BatchNorm2d(channels)
        self.pw1 = conv_bn(channels, hidden, 1)
        self.large_kernel = LargeKernel(hidden, kernel, small, merged)
        self.pw2 = conv_bn(hidden, channels, 1)

    def forward(self, x):
        y = F.relu(self.pw1(self.prelkb_bn(x)))
        return x + self.pw2(F.relu(self.large_kernel(y)))


class ConvFFN(nn.Module):
    def __init__(self, channels, hidden):
        super().__init__()
        self.preffn_bn = nn.BatchNorm2d(channels)
        self.pw1 = conv_bn(channels, hidden, 1)
        self.pw2 = conv_bn(hidden, channels, 1)

    def forward(self, x):
        return x + self.pw2(F.gelu(self.pw1(self.preffn_bn(x))))


class RepLKNetStage(nn.Module):
    def __init__(self, channels, depth, kernel, small, ratio, feedforward, merged, norm):
        super().__init__()
        blocks = []
        for _ in range(depth):
            blocks += [RepLKBlock(channels, int(channels * ratio), kernel, small, merged),
                       ConvFFN(channels, feedforward * channels)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.BatchNorm2d(channels) if norm else nn.Identity()

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


class RepLKNet(nn.Module):
    def __init__(self, depths, channels, kernels, small_kernel, ratio=1.0, classes=1000, merged=False, norm=False,
                 feedforward=4, stem_strides=(2, 2)):
        super().__init__()
        c = channels[0]
        self.stem = nn.ModuleList([conv_bn(3, c, 3, stem_strides[0], 1), conv_bn(c, c, 3, 1, 1, c), conv_bn(c, c, 1),
                                   conv_bn(c, c, 3, stem_strides[1], 1, c)])
        self.stages = nn.ModuleList([RepLKNetStage(channels[s], depths[s], kernels[s], small_kernel, ratio,
                                                   feedforward, merged, norm) for s in range(4)])
        self.transitions = nn.ModuleList([nn.ModuleList([
            conv_bn(channels[s], channels[s + 1], 1),
            conv_bn(channels[s + 1], channels[s + 1], 3, 2, 1, channels[s + 1])]) for s in range(3)])
        self.norm = nn.BatchNorm2d(channels[3])
        self.head = nn.Linear(channels[3], classes)

    def forward(self, x):
        features = []
        for layer in self.stem:
            x = F.relu(layer(x))
        for s, stage in enumerate(self.stages):
            x = stage(x)
            features.append(stage.norm(x))
            if s < 3:
                for layer in self.transitions[s]:
                    x = F.relu(layer(x))
        return self.head(self.norm(x).mean((2, 3))), features


# ConvNeXt (arXiv 2201.03545), its second version (arXiv 2301.00808), SLaK (arXiv 2207.03620) -------------------------
class Stripes(nn.Module):
    def __init__(self, channels, kernel, small):
        super().__init__()
        self.LoRA1 = conv_bn(channels, channels, (kernel, small), padding=(kernel // 2, small // 2), groups=channels)
        self.LoRA2 = conv_bn(channels, channels, (small, kernel), padding=(small // 2, kernel // 2), groups=channels)
        if small < kernel:
            self.small_conv = conv_bn(channels, channels, small, padding=small // 2, groups=channels)

    def forward(self, x):
        y = self.LoRA1(x) + self.LoRA2(x)
        return y + self.small_conv(x) if hasattr(self, 'small_conv') else y


class ConvNeXtBlock(nn.Module):
    def __init__(self, channels, kernel, small, grn, layer_scale):
        super().__init__()
        if small:
            self.large_kernel = Stripes(channels, kernel, small)
        else:
            self.dwconv = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.pwconv1 = nn.Linear(channels, 4 * channels)
        self.grn = GRN(4 * channels, merged=False) if grn else nn.Identity()
        self.pwconv2 = nn.Linear(4 * channels, channels)
        if layer_scale:
            self.gamma = nn.Parameter(torch.ones(channels))

    def forward(self, x):
        y = self.large_kernel(x) if hasattr(self, 'large_kernel') else self.dwconv(x)
        y = self.norm(y.permute(0, 2, 3, 1))
        y = self.pwconv2(self.grn(F.gelu(self.pwconv1(y))))
        if hasattr(self, 'gamma'):
            y = self.gamma * y
        return x + y.permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    """small_kernel: the short side of SLaK's stripes; 0 is ConvNeXt. grn: V2. norms: of features, as backbones have."""

    def __init__(self, depths, channels, kernels, small_kernel=0, classes=1000, grn=False, layer_scale=True, norms=False,
                 head_epsilon=1e-6):
        super().__init__()
        self.downsample_layers = nn.ModuleList(
            [nn.Sequential(nn.Conv2d(3, channels[0], 4, 4), LayerNorm2d(channels[0]))] +
            [nn.Sequential(LayerNorm2d(channels[s]), nn.Conv2d(channels[s], channels[s + 1], 2, 2)) for s in range(3)])
        self.stages = nn.ModuleList([nn.Sequential(*[
            ConvNeXtBlock(channels[s], kernels[s], small_kernel, grn, layer_scale) for _ in range(depths[s])])
            for s in range(4)])
        add_feature_norms(self, channels, norms)
        self.norm = nn.LayerNorm(channels[3], eps=head_epsilon)
        self.head = nn.Linear(channels[3], classes)

    def forward(self, x):
        features = []
        for s, (downsample, stage) in enumerate(zip(self.downsample_layers, self.stages)):
            x = stage(downsample(x))
            features.append(self.get_submodule(f'norm{s}')(x))
        return self.head(self.norm(x.mean((2, 3)))), features


def add_feature_norms(network, channels, norms):
    for s in range(4):
        network.add_module(f'norm{s}', LayerNorm2d(channels[s]) if norms else nn.Identity())


# UniRepLKNet (arXiv 2311.15599) --------------------------------------------------------------------------------------
DILATED_BRANCHES = {  # kernel: ((branch kernel, dilation), ...)
    17: ((5, 1), (9, 2), (3, 4), (3, 5), (3, 7)), 15: ((5, 1), (7, 2), (3, 3), (3, 5), (3, 7)),
    13: ((5, 1), (7, 2), (3, 3), (3, 4), (3, 5)), 11: ((5, 1), (5, 2), (3, 3), (3, 4), (3, 5)),
    9: ((5, 1), (5, 2), (3, 3), (3, 4)), 7: ((5, 1), (3, 2), (3, 3)),
}


class DilatedReparam(nn.Module):
    def __init__(self, channels, kernel, merged):
        super().__init__()
        self.lk_origin = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=merged)
        self.branches = () if merged else DILATED_BRANCHES[kernel]
        if not merged:
            self.origin_bn = nn.BatchNorm2d(channels)
        for k, r in self.branches:
            self.add_module(f'dil_conv_k{k}_{r}', nn.Conv2d(channels, channels, k, padding=(k - 1) * r // 2,
                                                            dilation=r, groups=channels, bias=False))
            self.add_module(f'dil_bn_k{k}_{r}', nn.BatchNorm2d(channels))

    def forward(self, x):
        y = self.lk_origin(x)
        if not self.branches:
            return y
        y = self.origin_bn(y)
        for k, r in self.branches:
            y = y + self.get_submodule(f'dil_bn_k{k}_{r}')(self.get_submodule(f'dil_conv_k{k}_{r}')(x))
        return y


class GRN(nn.Module):
    def __init__(self, channels, merged):
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, channels))
        if not merged:
            self.beta = nn.Parameter(torch.zeros(1, 1, 1, channels))

    def forward(self, x):  # N x H x W x C
        norm = x.pow(2).sum((1, 2), keepdim=True).sqrt()
        y = (self.gamma * norm / (norm.mean(-1, keepdim=True) + 1e-6) + 1) * x
        return y + self.beta if hasattr(self, 'beta') else y


class SqueezeExcite(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.down = nn.Conv2d(channels, channels // 4, 1)
        self.up = nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))))


class UniRepLKNetBlock(nn.Module):
    def __init__(self, channels, kernel, merged, layer_scale):
        super().__init__()
        hidden = 4 * channels
        if kernel >= 7:
            self.dwconv = DilatedReparam(channels, kernel, merged)
        else:
            self.dwconv = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=merged)
        self.norm = nn.Identity() if merged else nn.BatchNorm2d(channels)
        self.se = SqueezeExcite(channels)
        # The numbers in the official names are places in nn.Sequentials whose other members only permute.
        self.pwconv1 = nn.ModuleDict({'1': nn.Linear(channels, hidden)})
        self.act = nn.ModuleDict({'1': GRN(hidden, merged)})
        self.pwconv2 = nn.ModuleDict({'0': nn.Linear(hidden, channels, bias=merged)})
        if not merged:
            self.pwconv2['2'] = nn.BatchNorm2d(channels)
        if layer_scale and not merged:
            self.gamma = nn.Parameter(torch.ones(channels))

    def forward(self, x):
        y = self.se(self.norm(self.dwconv(x))).permute(0, 2, 3, 1)
        y = self.pwconv2['0'](self.act['1'](F.gelu(self.pwconv1['1'](y)))).permute(0, 3, 1, 2)
        if '2' in self.pwconv2:
            y = self.pwconv2['2'](y)
        if hasattr(self, 'gamma'):
            y = y * self.gamma.view(1, -1, 1, 1)
        return x + y


class UniRepLKNet(nn.Module):
    def __init__(self, depths, channels, kernels, third_stage_period=1, classes=1000, merged=False, layer_scale=True,
                 norms=False):
        super().__init__()
        c = channels[0]
        self.downsample_layers = nn.ModuleList(
            [nn.Sequential(nn.Conv2d(3, c // 2, 3, 2, 1), LayerNorm2d(c // 2), nn.GELU(),
                           nn.Conv2d(c // 2, c, 3, 2, 1), LayerNorm2d(c))] +
            [nn.Sequential(nn.Conv2d(channels[s], channels[s + 1], 3, 2, 1), LayerNorm2d(channels[s + 1]))
             for s in range(3)])
        self.stages = nn.ModuleList([nn.Sequential(*[
            UniRepLKNetBlock(channels[s], kernels[s] if s != 2 or j % third_stage_period == 0 else 3, merged, layer_scale)
            for j in range(depths[s])]) for s in range(4)])
        add_feature_norms(self, channels, norms)
        self.norm = nn.LayerNorm(channels[3], eps=1e-6)
        self.head = nn.Linear(channels[3], classes)

    forward = ConvNeXt.forward


# MobileNetV2 (arXiv 1801.04381), torchvision's names -----------------------------------------------------------------
def conv_bn_relu6(inputs, outputs, kernel, stride=1, groups=1):
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
                         nn.BatchNorm2d(outputs), nn.ReLU6())


class InvertedResidual(nn.Module):
    def __init__(self, inputs, outputs, stride, expansion, kernel):
        super().__init__()
        hidden = inputs * expansion
        layers = [] if expansion == 1 else [conv_bn_relu6(inputs, hidden, 1)]
        self.conv = nn.Sequential(*layers, conv_bn_relu6(hidden, hidden, kernel, stride, hidden),
                                  nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.conv(x) if self.shortcut else self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self, depths, channels, kernels, stem=32, last=1280, classes=1000):
        super().__init__()
        layers, inputs, self.ends = [conv_bn_relu6(3, stem, 3, 2)], stem, []
        for group, (depth, outputs) in enumerate(zip(depths, channels)):
            for block in range(depth):
                stride = 2 if block == 0 and group in (1, 2, 3, 5) else 1
                layers.append(InvertedResidual(inputs, outputs, stride, 6 if group else 1, kernels[group]))
                inputs = outputs
            if group in (1, 2, 4, 6):
                self.ends.append(len(layers) - 1)
        self.features = nn.Sequential(*layers, conv_bn_relu6(inputs, last, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, classes))

    def forward(self, x):
        features = []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.ends:
                features.append(x)
        return self.classifier(x.mean((2, 3))), features


# -----------------------------------------------------------------------------------------------------------------------
def centre_gradient(network, pixels):
    """The gradient by the pixels (float64) of ReLU of the last map's centre, summed over channels, as in the RepLKNet
    repository's erf/visualize_erf.py."""
    network.requires_grad_(False)  # autograd would take minutes for large kernels' own gradients
    pixels = pixels.double().requires_grad_()
    last = network(pixels)[1][-1]
    F.relu(last[:, :, last.shape[2] // 2, last.shape[3] // 2]).sum().backward()
    return pixels.grad


def randomise(model, seed):
    """Random fp32 tensors in every place, BN statistics far from identity, steps on the residual path small."""
    random = np.random.default_rng(seed)

    def normal(shape, deviation, mean=0.0):
        return random.normal(mean, deviation, shape)

    modules = dict(model.named_modules())
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            owner, _, field = name.rpartition('.')
            module = modules.get(owner)
            if field == 'num_batches_tracked':
                continue
            if field == 'running_var':
                value = random.uniform(0.5, 2.0, tensor.shape)
            elif field == 'running_mean':
                value = normal(tensor.shape, 0.5)
            elif isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)):
                residual = '.pw2.bn' in name or '.pwconv2.2' in name
                value = (random.uniform(0.1, 0.3, tensor.shape) if residual else random.uniform(0.5, 1.5, tensor.shape)
                         ) if field == 'weight' else normal(tensor.shape, 0.05 if residual else 0.3)
            elif field == 'gamma' and tensor.dim() == 1:
                value = random.uniform(0.1, 0.4, tensor.shape) * random.choice([-1, 1], tensor.shape)
            elif tensor.dim() in (2, 4) and field == 'weight':
                value = normal(tensor.shape, (1.6 / (tensor.numel() / tensor.shape[0])) ** 0.5)
            else:  # biases; GRN's gamma and beta
                value = normal(tensor.shape, 0.2)
            tensor.copy_(torch.from_numpy(np.ascontiguousarray(value, np.float32)))
    return model.eval()


def fold_bn(state, conv, bn, epsilon=1e-5):
    """The kernel and bias of a convolution without bias, followed by a BN."""
    scale = state[bn + '.weight'] / (state[bn + '.running_var'] + epsilon).sqrt()
    return state[conv] * scale.view(-1, 1, 1, 1), state[bn + '.bias'] - state[bn + '.running_mean'] * scale


def merged(state):
    """Train-form tensors of RepLKNet or UniRepLKNet (float64) to those of merged form, as the repositories do it."""
    state = {name: tensor for name, tensor in state.items()}

    def drop(prefix):
        for name in [name for name in state if name.startswith(prefix)]:
            del state[name]

    for name in list(state):
        if name.endswith('.lkb_origin.conv.weight'):
            prefix = name[:-len('.lkb_origin.conv.weight')]
            kernel, bias = fold_bn(state, name, prefix + '.lkb_origin.bn')
            if prefix + '.small_conv.conv.weight' in state:
                small, small_bias = fold_bn(state, prefix + '.small_conv.conv.weight', prefix + '.small_conv.bn')
                kernel, bias = kernel + F.pad(small, [(kernel.shape[-1] - small.shape[-1]) // 2] * 4), bias + small_bias
            drop(prefix + '.')
            state[prefix + '.lkb_reparam.weight'], state[prefix + '.lkb_reparam.bias'] = kernel, bias
        elif name.endswith('.dwconv.lk_origin.weight'):
            prefix = name[:-len('.lk_origin.weight')]
            kernel, bias = fold_bn(state, name, prefix + '.origin_bn')
            for k, r in DILATED_BRANCHES[kernel.shape[-1]]:
                small, small_bias = fold_bn(state, f'{prefix}.dil_conv_k{k}_{r}.weight', f'{prefix}.dil_bn_k{k}_{r}')
                spread = torch.zeros(len(small), 1, (k - 1) * r + 1, (k - 1) * r + 1, dtype=small.dtype)
                spread[:, :, ::r, ::r] = small
                kernel = kernel + F.pad(spread, [(kernel.shape[-1] - spread.shape[-1]) // 2] * 4)
                bias = bias + small_bias
            merge_block(state, prefix[:-len('.dwconv')], kernel, bias, prefix + '.lk_origin', drop)
        elif name.endswith('.dwconv.weight') and name.replace('.dwconv.weight', '.norm.running_var') in state:
            merge_block(state, name[:-len('.dwconv.weight')], state[name], 0.0, name[:-len('.weight')], drop)
    return state


def merge_block(state, prefix, kernel, bias, conv, drop):
    """UniRepLKNet: the block's BN into its depthwise convolution; GRN's beta, BN and layer scale into pwconv2."""
    scale = state[prefix + '.norm.weight'] / (state[prefix + '.norm.running_var'] + 1e-5).sqrt()
    bias = (bias - state[prefix + '.norm.running_mean']) * scale + state[prefix + '.norm.bias']
    drop(prefix + '.dwconv.')
    drop(prefix + '.norm.')
    state[conv + '.weight'], state[conv + '.bias'] = kernel * scale.view(-1, 1, 1, 1), bias
    bn = prefix + '.pwconv2.2'
    weight, beta, gamma = (state[prefix + end] for end in ('.pwconv2.0.weight', '.act.1.beta', '.gamma'))
    scale = state[bn + '.weight'] / (state[bn + '.running_var'] + 1e-5).sqrt()
    state[prefix + '.pwconv2.0.bias'] = gamma * (state[bn + '.bias'] +
                                                 (weight @ beta.flatten() - state[bn + '.running_mean']) * scale)
    state[prefix + '.pwconv2.0.weight'] = weight * (scale * gamma).view(-1, 1)
    drop(bn + '.')
    del state[prefix + '.act.1.beta'], state[prefix + '.gamma']
