#!/usr/bin/env python3
"""The same in OpenVINO: python openvino_runtime.py IN.onnx OUT.onnx"""
import sys

import numpy as np
import openvino
import replk.onnx
import replk.openvino

src, dst = sys.argv[1:]
print(replk.onnx.rewrite(src, dst))

core = openvino.Core()
print("the op:", replk.openvino.add_extension(core))
compiled = core.compile_model(core.read_model(dst), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
# A size that the model leaves open: 64 for this example.
shapes = [[d.get_length() if d.is_static else 64 for d in port.partial_shape] for port in compiled.inputs]
result = compiled([np.zeros(shape, np.float32) for shape in shapes])[0]
print("result:", result.shape)
