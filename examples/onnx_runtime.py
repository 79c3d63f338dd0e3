#!/usr/bin/env python3
"""An ONNX model with large depthwise layers, rewritten and run in ONNX Runtime: python onnx_runtime.py IN.onnx OUT.onnx"""
import sys
import time

import numpy as np
import onnxruntime
import replk.onnx

src, dst = sys.argv[1:]
print(replk.onnx.rewrite(src, dst))

options = onnxruntime.SessionOptions()
options.register_custom_ops_library(replk.onnx.library_path())
for path in (src, dst):
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    # A size that the model leaves open: 64 for this example.
    shapes = {i.name: [s if isinstance(s, int) and s > 0 else 64 for s in i.shape] for i in session.get_inputs()}
    feeds = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    session.run(None, feeds)
    start = time.perf_counter()
    session.run(None, feeds)
    print(f"{path}: {1e3 * (time.perf_counter() - start):.2f} ms")
