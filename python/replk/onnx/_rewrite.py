"""Depthwise layers of a graph become nodes of the library's op."""
from dataclasses import dataclass, field

import numpy as np
from onnx import helper

from . import _epilogue, _linear
from ._graph import Graph, attributes, is_op, to_tensor
from ._linear import Left

DOMAIN = "com.replk"
UNREADABLE = (TypeError, ValueError, IndexError)  # what Python says where a file has text for a number, or nothing for a name


@dataclass
class Entry:
    """What happened to one convolution of the model."""

    node: str  # its name, or its output's where it has none
    action: str  # "swapped" or "left"
    reason: str = ""  # why it was left
    channels: int = 0
    layer: str = ""  # what was swapped, as a shape spells it: kernels, activation, residual
    layout: str = ""
    absorbed: list = field(default_factory=list)  # the other nodes that went into it


def _label(node):
    return node.name or (node.output[0] if node.output else node.op_type)


class Finder:
    """The linear forms of a graph, largest first to last: ``forms`` by the tensor that they give."""

    def __init__(self, graph):
        self.graph, self.forms, self.left = graph, {}, {}
        for node in graph.graph.node:
            try:
                form = _linear.read_conv(graph, node) if is_op(node, "Conv") else self._behind(node)
            except (Left, *UNREADABLE) as reason:
                if is_op(node, "Conv"):
                    self.left[id(node)] = (node, str(reason) if isinstance(reason, Left) else "an attribute is not of its kind")
                continue
            if form is not None:
                for inner in form.nodes:
                    for name in inner.output:
                        self.forms.pop(name, None)
                self.forms[form.output] = form

    def _alone(self, name):
        """The form that a tensor is, where one node reads it."""
        form = self.forms.get(name)
        return form if form is not None and self.graph.only_use(name) is not None else None

    def _behind(self, node):
        if len([name for name in node.output if name]) != 1 or not node.input:
            return None
        if is_op(node, "BatchNormalization"):
            form = self._alone(node.input[0])
            factors = _linear.norm_factors(self.graph, node) if form else None
            return _linear.scaled(form, *factors, node) if factors else None
        if not is_op(node, "Mul", "Div", "Add", "Sub") or len(node.input) != 2:
            return None
        first, second = (self._alone(name) for name in node.input)
        if first is None and second is None:
            return None
        return self._sum(node, first, second) or self._with_constant(node, first, second)

    def _with_constant(self, node, first, second):
        form, at = (first, 1) if first is not None else (second, 0)
        values = _linear.channel_values(self.graph.floats(node.input[at]), form.bias.size, form.rank)
        if values is None:
            return None
        one, zero = np.ones_like(values), np.zeros_like(values)
        if node.op_type == "Mul":
            return _linear.scaled(form, values, zero, node)
        if node.op_type == "Add":
            return _linear.scaled(form, one, values, node)
        if node.op_type == "Sub":
            return _linear.scaled(form, *((one, -values) if at else (-one, values)), node)
        return _linear.scaled(form, 1 / values, zero, node) if at and np.abs(values).min() > 1e-30 else None

    def _sum(self, node, first, second):
        """Of two forms, or of one and what it reads, as it is or normalised."""
        if not is_op(node, "Add") or node.input[0] == node.input[1]:
            return None
        if first is not None and second is not None:
            return _linear.merged(first, second, node)
        form, other = (first, node.input[1]) if first is not None else (second, node.input[0])
        norm = self.graph.producer.get(other)
        if other == form.source:
            factors, nodes = (np.ones(form.channels), np.zeros(form.channels)), []
        elif is_op(norm, "BatchNormalization") and norm.input[0] == form.source and self.graph.only_use(other) is not None:
            factors, nodes = _linear.norm_factors(self.graph, norm), [norm]
        else:
            return None
        branch = _linear.pointwise(form, *factors, nodes) if factors else None
        return _linear.merged(form, branch, node) if branch else None


class Rewriter:
    """Swaps the layers of one model, in place."""

    def __init__(self, model, read, min_kernel):
        self.model, self.min_kernel = model, min_kernel
        self.graph = Graph(model, read)
        self.names = self.graph.names()
        self.taken, self.replaced, self.entries = set(), {}, []

    def run(self):
        finder = Finder(self.graph)
        entries = {}
        for form in finder.forms.values():
            convolutions = [n for n in form.nodes if n.op_type == "Conv"]
            first = convolutions[0]
            if form.side() < self.min_kernel:
                for node in convolutions:
                    reason = f"the longest side of a kernel is {form.side()}, below {self.min_kernel}"
                    entries[id(node)] = Entry(_label(node), "left", reason, form.channels, form.text())
                continue
            self.taken.update(id(n) for n in form.nodes)
            entries[id(first)] = self._swap(form)
        for at, (node, reason) in finder.left.items():
            entries[at] = Entry(_label(node), "left", reason)
        for node in self.graph.graph.node:
            if id(node) in entries:
                self.entries.append(entries[id(node)])
            elif node.op_type in ("QLinearConv", "ConvInteger", "FusedConv", "NhwcFusedConv", "ConvTranspose"):
                self.entries.append(Entry(_label(node), "left", f"{node.op_type}: not an ONNX Conv of floats"))
        if self.replaced:
            self._apply()
        return self.entries

    def _name(self, wish):
        name, count = wish, 0
        while name in self.names:
            count += 1
            name = f"{wish}_{count}"
        self.names.add(name)
        return name

    def _source(self, form):
        """(tensor, layout, pads) that the layer reads: behind a Transpose or a Pad there is another one."""
        producer = self.graph.producer.get(form.source)
        try:
            return self._before(form, producer)
        except UNREADABLE:
            return form.source, "NCHW", form.pads

    def _before(self, form, producer):
        if _epilogue.is_transpose(producer, _epilogue.to_channels_first(form.rank)):
            return producer.input[0], "NHWC", form.pads
        if is_op(producer, "Pad") and form.rank == 4 and self._zeros(producer) is not None:
            before, after = self._zeros(producer)
            pads = tuple(a + b for a, b in zip(form.pads, (*before[2:], *after[2:])))
            if min((*before, *after)) >= 0 and max(pads) <= 1023 and not any((*before[:2], *after[:2])):
                return producer.input[0], "NCHW", pads
        return form.source, "NCHW", form.pads

    def _zeros(self, pad):
        """What a Pad with zeros adds before and after each axis, or None."""
        values = attributes(pad)
        if values.get("mode", b"constant") != b"constant" or values.get("value", 0.0) != 0 or len(pad.input) > 3:
            return None
        try:
            amounts = values.get("pads") if len(pad.input) < 2 else self.graph.constant(pad.input[1])
            filler = self.graph.constant(pad.input[2]) if len(pad.input) > 2 and pad.input[2] else 0
        except ValueError:
            return None
        if amounts is None or filler is None or np.any(np.asarray(filler) != 0) or len(amounts) != 8:
            return None
        amounts = [int(a) for a in amounts]
        return amounts[:4], amounts[4:]

    def _swap(self, form):
        try:
            epilogue = _epilogue.absorb(self.graph, form, lambda node: id(node) not in self.taken)
        except UNREADABLE:
            epilogue = _epilogue.Epilogue(form.output)
        self.taken.update(id(n) for n in epilogue.nodes)
        source, layout, pads = self._source(form)
        label = _label(form.nodes[0])
        outputs = form.bias.size
        scale = np.ones(outputs) if epilogue.scale is None else epilogue.scale
        arrays = [("bias", form.bias), ("scale", scale)]
        arrays += [(f"weight{i}", branch.weight) for i, branch in enumerate(form.branches)]
        tensors = [to_tensor(array, self._name(f"{label}/replk_{what}")) for what, array in arrays]
        node = helper.make_node(
            "Depthwise" if epilogue.residual is None else "DepthwiseAdd",
            [source] + ([] if epilogue.residual is None else [epilogue.residual]) + [t.name for t in tensors],
            [epilogue.output],
            name=self._name(f"{label}/replk"),
            domain=DOMAIN,
            channels=[form.channels, form.multiplier],
            strides=list(form.strides),
            pads=list(pads),
            dilations=[d for branch in form.branches for d in branch.dilation],
            activation=epilogue.activation,
            input_layout=layout,
            output_layout=epilogue.output_layout,
            numerics="fast",
        )
        nodes = form.nodes + epilogue.nodes
        last = max(self.graph.position[id(n)] for n in nodes)
        self.replaced[last] = (node, tensors, nodes)
        changed = layout if layout == epilogue.output_layout else f"{layout}>{epilogue.output_layout}"
        others = [f"{n.op_type} {_label(n)}" for n in nodes[1:]]
        return Entry(label, "swapped", "", form.channels, form.text() + epilogue.text(), changed, others)

    def _apply(self):
        graph, gone = self.graph.graph, {id(n) for _, _, nodes in self.replaced.values() for n in nodes}
        kept = []
        for at, node in enumerate(graph.node):
            if at in self.replaced:
                kept.append(self.replaced[at][0])
            elif id(node) not in gone:
                kept.append(node)
        before = set(self.graph.producer)
        kept = self._without_unread(kept)
        _assign(graph.node, kept)
        made = {name for node in kept for name in node.output}
        read = {name for node in kept for name in node.input} | {value.name for value in graph.output}
        read |= {name for name, uses in self.graph.uses.items() if None in uses}
        tensors = [t for _, new, _ in self.replaced.values() for t in new]
        dropped = [t.name for t in graph.initializer if t.name not in read]
        _assign(graph.initializer, [t for t in graph.initializer if t.name in read] + tensors)
        if self.model.ir_version < 4:  # every initialiser is an input there
            _assign(graph.input, [v for v in graph.input if v.name not in dropped])
            graph.input.extend(helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors)
        _assign(graph.value_info, [v for v in graph.value_info if v.name in made or v.name not in before])
        self._keep_sizes()
        if all(opset.domain != DOMAIN for opset in self.model.opset_import):
            self.model.opset_import.append(helper.make_opsetid(DOMAIN, 1))

    def _keep_sizes(self):
        """What is known of the results' sizes: nobody but the op itself can say it from now on."""
        known = {v.name for v in self.graph.graph.value_info} | {v.name for v in self.graph.graph.output}
        for node, _, _ in self.replaced.values():
            info = self.graph.info(node.output[0])
            if info is not None and info.name not in known:
                self.graph.graph.value_info.append(info)

    def _without_unread(self, nodes):
        """Without the Transposes and Pads in front of layers that nobody reads any more."""
        passed = {id(self.graph.producer.get(form)) for form in self._sources()}
        read = {name for node in nodes for name in node.input}
        read |= {name for name, uses in self.graph.uses.items() if None in uses}
        return [n for n in nodes if id(n) not in passed or any(name in read for name in n.output)]

    def _sources(self):
        for _, _, nodes in self.replaced.values():
            for node in nodes:
                if node.op_type == "Conv":
                    yield node.input[0]


def _assign(field, values):
    copies = [type(v).FromString(v.SerializeToString()) for v in values]
    del field[:]
    field.extend(copies)
