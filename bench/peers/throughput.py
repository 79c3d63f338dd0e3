#!/usr/bin/env python3
"""Images a second of a network in batches: here, runs side by side on one copy of the weights, as replk.batch does it, beside
OpenVINO in throughput mode (its own number of streams, asynchronous requests). Random weights; alternating processes, medians.

    python bench/peers/throughput.py replknet-31b --precisions fp32,bf16,int8 --batches 8,16,32 --cpus 2

Needs openvino, nncf (for int8), torch and onnx; replk from python/ and REPLK_LIBRARY.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))


def ours(model, precision, batch, cpus, seconds, threads):
    """A child of the name `ours` runs this."""
    import threading
    import time

    import numpy as np
    import replk

    network = replk.Model(model, precision=precision, threads=threads)
    pixels = np.random.default_rng(1).standard_normal((batch, network.size, network.size, 3)).astype(np.float32)
    network.logits(pixels)
    counts, start, cpu = [0] * (cpus // threads), time.perf_counter(), time.process_time()

    def run(i):
        while time.perf_counter() - start < seconds:
            network.logits(pixels)
            counts[i] += 1

    workers = [threading.Thread(target=run, args=(i,)) for i in range(len(counts))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    images = batch * sum(counts)
    return {"images_per_second": images / (time.perf_counter() - start),
            "images_per_cpu_second": images / (time.process_time() - cpu)}


def openvino(path, precision, batch, cpus, seconds):
    """A child of the name `openvino` runs this."""
    import time

    import numpy as np
    import openvino as ov

    core = ov.Core()
    model = core.read_model(path)
    size = model.input(0).partial_shape[2].get_length()
    model.reshape([batch, 3, size, size])
    config = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_NUM_THREADS": cpus}
    if precision != "int8":
        config["INFERENCE_PRECISION_HINT"] = {"fp32": "f32"}.get(precision, precision)
    compiled = core.compile_model(model, "CPU", config)
    queue = ov.AsyncInferQueue(compiled)
    x = np.random.default_rng(1).standard_normal((batch, 3, size, size)).astype(np.float32)
    for _ in range(len(queue)):
        queue.start_async({0: x})
    queue.wait_all()
    done, start, cpu = [0], time.perf_counter(), time.process_time()
    queue.set_callback(lambda request, _: done.__setitem__(0, done[0] + 1))
    while time.perf_counter() - start < seconds:
        queue.start_async({0: x})
    queue.wait_all()
    streams = compiled.get_property("NUM_STREAMS")
    images = batch * done[0]
    return {"images_per_second": images / (time.perf_counter() - start),
            "images_per_cpu_second": images / (time.process_time() - cpu), "streams": streams}


def export(model, precision, path):
    """The network as a file for OpenVINO; in int8 quantised by NNCF with eight images of noise."""
    import numpy as np
    import openvino as ov
    import torch

    sys.path.insert(0, HERE)
    import networks_torch

    torch.manual_seed(1)
    size = 224
    module, _ = networks_torch.build(model, (size, size), False)
    with tempfile.TemporaryDirectory() as folder:
        torch.onnx.export(module, torch.zeros(1, 3, size, size), f"{folder}/m.onnx", opset_version=17, dynamo=False)
        network = ov.Core().read_model(f"{folder}/m.onnx")
        if precision == "int8":
            import nncf

            noise = np.random.default_rng(2).standard_normal((8, 1, 3, size, size)).astype(np.float32)
            network = nncf.quantize(network, nncf.Dataset(list(noise)), subset_size=8)
        ov.save_model(network, path, compress_to_fp16=False)


def child(*arguments):
    done = subprocess.run([sys.executable, __file__, "--child", json.dumps(arguments)], check=True,
                          capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="replknet-31b")
    parser.add_argument("--precisions", default="fp32,bf16,int8")
    parser.add_argument("--batches", default="8,16,32")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="of one run of ours")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where the exported networks are kept")
    parser.add_argument("--prepare", action="store_true", help="export and tune, and time nothing")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.child:
        kind, *rest = json.loads(a.child)
        print(json.dumps({"ours": ours, "openvino": openvino}[kind](*rest)))
        return
    for precision in a.precisions.split(","):
        path = os.path.join(a.folder, f"{a.model}-{'int8' if precision == 'int8' else 'fp32'}.xml")
        if not os.path.exists(path):
            export(a.model, precision, path)
        if a.prepare:
            os.environ["REPLK_TUNING"] = "now"
            print(precision, child("ours", a.model, precision, 8, a.cpus, 0.1, a.threads), flush=True)
            continue
        for batch in map(int, a.batches.split(",")):
            rows = [(child("ours", a.model, precision, batch, a.cpus, a.seconds, a.threads),
                     child("openvino", path, precision, batch, a.cpus, a.seconds)) for _ in range(a.rounds)]
            mine, theirs = (statistics.median(row[i]["images_per_second"] for row in rows) for i in (0, 1))
            # What a busy machine spoils least: neither side waits by spinning.
            cpu = [statistics.median(row[i]["images_per_cpu_second"] for row in rows) for i in (0, 1)]
            print(json.dumps({
                "model": a.model, "precision": precision, "batch": batch, "here": round(mine, 2), "openvino": round(theirs, 2),
                "ratio": round(mine / theirs, 3), "images_per_cpu_second": [round(c, 2) for c in cpu],
                "cpu_ratio": round(cpu[0] / cpu[1], 3),
                "rounds": [[round(side["images_per_second"], 2) for side in row] for row in rows],
                "streams": rows[0][1]["streams"]
            }), flush=True)


if __name__ == "__main__":
    main()
