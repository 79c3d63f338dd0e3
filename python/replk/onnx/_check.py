"""A rewritten model against the one it came from, on random data, in ONNX Runtime."""
import importlib.util

import numpy as np

from ..errors import Error

_TYPES = {
    "tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16, "tensor(int64)": np.int64,
    "tensor(int32)": np.int32, "tensor(uint8)": np.uint8, "tensor(int8)": np.int8, "tensor(bool)": np.bool_,
}  # fmt: skip
# Sizes for those that a model leaves open, except a first one, the batch: what it takes is found out by trying.
_SIDES = (64, 224, 32, 48, 320, 8)


class Unchecked(Exception):
    """Why there was no comparison."""


def _session(path, library=None, plain=False):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if plain:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    if library is not None:
        options.register_custom_ops_library(str(library))
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _feeds(session, side, generator):
    feeds = {}
    for value in session.get_inputs():
        if value.type not in _TYPES:
            raise Unchecked(f"input '{value.name}' is a {value.type}, of which no random data is made")
        sizes = [
            size if isinstance(size, int) and size >= 0 else (2 if axis == 0 else side) for axis, size in enumerate(value.shape)
        ]
        if np.prod(sizes, dtype=float) > 1 << 28:
            raise Unchecked(f"input '{value.name}' is too large for random data")
        kind = _TYPES[value.type]
        if np.issubdtype(kind, np.floating):
            feeds[value.name] = generator.standard_normal(sizes, np.float32).astype(kind)
        else:
            feeds[value.name] = generator.integers(0, 2, sizes).astype(kind)
    return feeds


def _first_run(session):
    """Random data that the model takes, and what it gives for it."""
    generator = np.random.default_rng(0)
    failure = ""
    for side in _SIDES:
        feeds = _feeds(session, side, generator)
        try:
            return feeds, session.run(None, feeds)
        except Exception as error:  # ONNX Runtime's own, of no common kind
            failure = str(error).splitlines()[0]
    raise Unchecked(f"the input model does not run on random data: {failure}")


def difference(expected, found):
    """The largest difference of two results over the largest value; None of what has no floats, or the same bits."""
    expected, found = np.asarray(expected), np.asarray(found)
    if expected.shape != found.shape:
        return float("inf")
    if expected.dtype.kind != "f":
        return 0.0 if np.array_equal(expected, found) else float("inf")
    if expected.size == 0:
        return 0.0
    finite = np.isfinite(expected)
    if not np.array_equal(expected[~finite], found[~finite], equal_nan=True):
        return float("inf")
    a, b = expected[finite].astype(np.float64), found[finite].astype(np.float64)
    return float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-30)) if a.size else 0.0


def compare(before, after, library, narrow, inputs=None):
    """{"outputs": {name: difference}, "limit"}. Error where one is above the limit."""
    if importlib.util.find_spec("onnxruntime") is None:
        raise Unchecked("onnxruntime is not installed")
    try:
        reference = _session(before)
    except Exception as error:
        raise Unchecked(f"ONNX Runtime refuses the input model: {str(error).splitlines()[0]}") from error
    feeds, expected = (inputs, reference.run(None, inputs)) if inputs is not None else _first_run(reference)
    names = [output.name for output in reference.get_outputs()]
    del reference
    try:
        found = _session(after, library).run(None, feeds)
    except Exception as error:
        raise Error(f"the rewritten model does not run: {str(error).splitlines()[0]}") from error
    limit = 3e-2 if narrow else 1e-4
    outputs = dict(zip(names, _differences(expected, found)))
    if not max(outputs.values(), default=0.0) <= limit:
        # Some models amplify roundings: their own results move as much when the runtime optimises nothing.
        own = dict(zip(names, _differences(expected, _session(before, plain=True).run(None, feeds))))
        for name, found_difference in outputs.items():
            allowed = max(limit, 4 * own[name] if own[name] < 0.25 else 0.0)
            if not found_difference <= allowed:
                raise Error(
                    f"output '{name}' of the rewritten model differs by {found_difference:.2g} of its largest value; "
                    f"allowed: {allowed:.2g}"
                )
    return {"outputs": outputs, "limit": limit}


def _differences(expected, found):
    return [difference(a, b) if isinstance(a, np.ndarray) else 0.0 for a, b in zip(expected, found)]
