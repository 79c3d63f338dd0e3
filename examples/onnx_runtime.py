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
    feeds = {i.name: np.zeros([s if isinstance(s, int) else 1 for s in i.shape], np.float32) for i in session.get_inputs()}
    session.run(None, feeds)
    start = time.perf_counter()
    session.run(None, feeds)
    print(f"{path}: {1e3 * (time.perf_counter() - start):.2f} ms")
