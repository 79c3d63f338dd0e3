"""One runtime in a process of its own: prepares networks, one at a time, and runs the present one whenever it is asked to.

Protocol: `python runtimes.py RUNTIME THREADS`, then a line of JSON for each line on standard input:
`load JOB.json` → {"version"}; the job has "onnx" and "module" (a pickled torch module) and "input" (an .npy file, N x 3 x H x W)
`run K` → {"ms": [K times]}; `output FILE.npz` → {}, the results written there, in their order; an empty line ends it.
"""
import json
import os
import re
import sys
import time


def onnxruntime(job, x, threads):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(job["onnx"], options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return ort.__version__, lambda: session.run(None, {name: x})


def openvino(job, x, threads):
    import openvino as ov

    core = ov.Core()
    compiled = core.compile_model(job["onnx"], "CPU", {
        "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"})
    request = compiled.create_infer_request()
    request.set_input_tensor(ov.Tensor(x, shared_memory=True))

    def run(keep=(core, compiled, x)):  # the request alone keeps none of them alive
        request.infer()
        return [request.get_output_tensor(i).data for i in range(len(compiled.outputs))]
    return ov.__version__.split("-")[0], run


def torch_runtime(job, x, threads, compiled=False):
    import torch

    torch.set_num_threads(threads)
    module = torch.load(job["module"], weights_only=False).eval()  # a file this benchmark wrote itself
    data = torch.from_numpy(x)
    module, data = module.to(memory_format=torch.channels_last), data.to(memory_format=torch.channels_last)
    if compiled:
        torch.compiler.reset()  # else the network before it counts as a recompilation
        module = torch.compile(module)

    def run():
        with torch.inference_mode():
            result = module(data)
            return [y.numpy() for y in (result if isinstance(result, (list, tuple)) else [result])]
    onednn = re.search(r"(?:MKL-DNN|oneDNN) v([\d.]+)", torch.__config__.show())
    return f"{torch.__version__}, oneDNN {onednn[1]}" if onednn else torch.__version__, run


RUNTIMES = {
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "torch": torch_runtime,
    "torch-compiled": lambda job, x, threads: torch_runtime(job, x, threads, compiled=True),
}


def main():
    import numpy as np

    runtime, threads = sys.argv[1], int(sys.argv[2])
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:threads]))
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # else its pool of processes stays beside the timing
    run = None
    for line in sys.stdin:
        words = line.split(maxsplit=1)
        if not words:
            break
        answer = {}
        if words[0] == "load":
            run = None  # its memory, before there is more
            with open(words[1].strip()) as file:
                job = json.load(file)
            answer["version"], run = RUNTIMES[runtime](job, np.load(job["input"]), threads)
            run()
        elif words[0] == "run":
            answer["ms"] = []
            for _ in range(int(words[1])):
                start = time.perf_counter()
                run()
                answer["ms"].append(1e3 * (time.perf_counter() - start))
        else:
            np.savez(words[1].strip(), *run())
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
