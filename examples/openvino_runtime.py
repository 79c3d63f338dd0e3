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
result = compiled([np.zeros(port.shape, np.float32) for port in compiled.inputs])[0]
print("result:", result.shape)
