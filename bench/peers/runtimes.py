"""One runtime in a process of its own: prepares a network, then runs it whenever it is asked to.

Protocol: `python runtimes.py RUNTIME JOB.json`, where the job has "onnx" or "module" (a pickled torch module), "input" (an
.npy file, N x 3 x H x W) and "threads". It prints one JSON line {"ready": true, "version": ...} and then answers each line
on standard input: `run K` with {"ms": [K times]}, `output FILE` by writing the result there as .npy, an empty line by ending.
"""
import json
import os
import sys
import time


def onnxruntime(job, x):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = job["threads"]
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(job["onnx"], options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return ort.__version__, lambda: session.run(None, {name: x})[0]


def openvino(job, x):
    import openvino as ov

    core = ov.Core()
    compiled = core.compile_model(job["onnx"], "CPU", {
        "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": job["threads"], "PERFORMANCE_HINT": "LATENCY"})
    request = compiled.create_infer_request()
    request.set_input_tensor(ov.Tensor(x, shared_memory=True))

    def run(keep=(core, compiled, x)):  # the request alone keeps none of them alive
        request.infer()
        return request.get_output_tensor(0).data
    return ov.__version__.split("-")[0], run


def torch_runtime(job, x, channels_last=True, compiled=False):
    import torch

    torch.set_num_threads(job["threads"])
    torch.set_num_interop_threads(1)
    module = torch.load(job["module"], weights_only=False).eval()  # a file this benchmark wrote itself
    data = torch.from_numpy(x)
    if channels_last:
        module, data = module.to(memory_format=torch.channels_last), data.to(memory_format=torch.channels_last)
    if compiled:
        module = torch.compile(module)

    def run():
        with torch.inference_mode():
            return module(data).numpy()
    return torch.__version__, run


RUNTIMES = {
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "torch": torch_runtime,
    "torch-compiled": lambda job, x: torch_runtime(job, x, compiled=True),
}


def main():
    import numpy as np

    runtime, path = sys.argv[1:]
    with open(path) as file:
        job = json.load(file)
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:job["threads"]]))
    version, run = RUNTIMES[runtime](job, np.load(job["input"]))
    run()
    print(json.dumps({"ready": True, "version": version}), flush=True)
    for line in sys.stdin:
        words = line.split()
        if not words:
            break
        if words[0] == "run":
            times = []
            for _ in range(int(words[1])):
                start = time.perf_counter()
                run()
                times.append(1e3 * (time.perf_counter() - start))
            print(json.dumps({"ms": times}), flush=True)
        else:
            np.save(words[1], np.asarray(run()))
            print("{}", flush=True)


if __name__ == "__main__":
    main()
