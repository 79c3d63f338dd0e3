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


CALIBRATION = 8  # images of noise, for peers that want some before they quantise


def noise(x):
    import numpy as np

    generator = np.random.default_rng(2)
    return [generator.standard_normal(x.shape, np.float32) for _ in range(CALIBRATION)]


def onnxruntime(job, x, threads):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(job["onnx"], options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return ort.__version__, lambda: session.run(None, {name: x})


def onnxruntime_int8(job, x, threads):
    """As its documentation has it for x86-64 with VNNI: QDQ, activations u8, weights s8 a channel."""
    import onnx
    from onnxruntime import quantization as q

    name = onnx.load(job["onnx"]).graph.input[0].name

    class Noise(q.CalibrationDataReader):
        images = iter([{name: image} for image in noise(x)])

        def get_next(self):
            return next(self.images, None)

    prepared, quantised = job["onnx"] + ".prepared", job["onnx"] + ".int8"
    q.shape_inference.quant_pre_process(job["onnx"], prepared, skip_symbolic_shape=True)
    q.quantize_static(prepared, quantised, Noise(), quant_format=q.QuantFormat.QDQ, per_channel=True,
                      activation_type=q.QuantType.QUInt8, weight_type=q.QuantType.QInt8)
    return onnxruntime({**job, "onnx": quantised}, x, threads)


def openvino(job, x, threads, precision="f32", quantised=False):
    """precision None: what it takes by itself."""
    import openvino as ov

    core = ov.Core()
    model = core.read_model(job["onnx"])
    if quantised:
        import nncf

        model = nncf.quantize(model, nncf.Dataset(noise(x)), subset_size=CALIBRATION)
    config = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    compiled = core.compile_model(model, "CPU", config | ({"INFERENCE_PRECISION_HINT": precision} if precision else {}))
    request = compiled.create_infer_request()
    request.set_input_tensor(ov.Tensor(x, shared_memory=True))

    def run(keep=(core, compiled, x)):  # the request alone keeps none of them alive
        request.infer()
        return [request.get_output_tensor(i).data for i in range(len(compiled.outputs))]
    took = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    return ov.__version__.split("-")[0] + (f", took {took}" if not precision else ""), run


def torch_runtime(job, x, threads, compiled=False, bf16=False):
    import torch

    torch.set_num_threads(threads)
    module = torch.load(job["module"], weights_only=False).eval()  # a file this benchmark wrote itself
    data = torch.from_numpy(x)
    module, data = module.to(memory_format=torch.channels_last), data.to(memory_format=torch.channels_last)
    if bf16:
        module, data = module.bfloat16(), data.bfloat16()
    if compiled:
        torch.compiler.reset()  # else the network before it counts as a recompilation
        module = torch.compile(module)

    def run():
        with torch.inference_mode():
            result = module(data)
            return [y.float().numpy() for y in (result if isinstance(result, (list, tuple)) else [result])]
    onednn = re.search(r"(?:MKL-DNN|oneDNN) v([\d.]+)", torch.__config__.show())
    return f"{torch.__version__}, oneDNN {onednn[1]}" if onednn else torch.__version__, run


RUNTIMES = {
    "onnxruntime": onnxruntime,
    "onnxruntime-int8": onnxruntime_int8,
    "openvino": openvino,
    "openvino-as-installed": lambda job, x, threads: openvino(job, x, threads, precision=None),
    "openvino-bf16": lambda job, x, threads: openvino(job, x, threads, precision="bf16"),
    "openvino-int8": lambda job, x, threads: openvino(job, x, threads, precision=None, quantised=True),
    "torch": torch_runtime,
    "torch-compiled": lambda job, x, threads: torch_runtime(job, x, threads, compiled=True),
    "torch-bf16": lambda job, x, threads: torch_runtime(job, x, threads, bf16=True),
}


def main():
    import numpy as np

    runtime, threads = sys.argv[1], int(sys.argv[2])
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:threads]))
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # else its pool of processes stays beside the timing
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a runtime prints is no answer
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
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
