#!/usr/bin/env python3
"""The whole benchmark: machine limits, depthwise suites against oneDNN, networks against other runtimes, report.

    ./run bench [--quick] [--against OLD.json]

Writes build/bench/run.json (bench/schema.json), report.html and PNGs. Exit codes: 0 done, 1 a kernel was wrong or a row
became slower than --limit allows, 2 wrong use.
"""
import argparse
import json
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path.insert(0, HERE)

import compare  # noqa: E402
import report  # noqa: E402

QUICK_SUITES, ALL_SUITES = "replknet,slak,convnext", "replknet,slak,convnext,table1,sizes,ragged"
NETWORKS = [("replknet-31b", "224"), ("swin-b", "224"), ("slak-t", "224"), ("convnext-b", "224"), ("replknet-31b", "384"),
            ("swin-b", "384"), ("replknet-31b:k=3,3,3,3", "224")]
QUICK_NETWORKS = [("replknet-31b", "224")]
LAYERS = ["n1c128h56w56k31", "n1c256h28w28k29", "n1c512h14w14k27", "n1c1024h7w7k13", "n1c128h56w56k51x5", "n1c96h56w56k7"]


def say(message):
    print(message, file=sys.stderr, flush=True)


def provenance(args):
    """Date, commit and versions, for the record."""
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    info = json.loads(subprocess.run([os.path.join(args.build, "replk"), "info", "--json"], check=True,
                                     capture_output=True, text=True).stdout)
    return {"date": time.strftime("%Y-%m-%d"), "commit": commit.stdout.strip() or "unknown",
            "versions": {k: info[k] for k in ("version", "onednn") if k in info}}


def peers_python(build, quick):
    """The interpreter of the environment with the other runtimes, made where it is missing (not in a quick run), or None."""
    python = os.path.join(build, "peers", "bin", "python")
    if not os.path.exists(python):
        if quick:
            return None
        say("making build/peers, the environment of the other runtimes (once; some minutes)")
        made = subprocess.run([sys.executable, "-m", "venv", os.path.join(build, "peers")]).returncode == 0
        requirements = os.path.join(HERE, "peers", "requirements.txt")
        if not made or subprocess.run([python, "-m", "pip", "install", "-q", "-r", requirements]).returncode:
            return None
    return python


def run_suites(args):
    """(context, limits, rows) from the Google Benchmark binary. It ends with 1 where a kernel computes a wrong result."""
    out = os.path.join(args.out, "suites.json")
    command = [os.path.join(args.build, "replk_bench"), f"--suites={args.suites}", f"--out={out}",
               f"--threads={args.threads}"] + (["--quick"] if args.quick else [])
    code = subprocess.run(command).returncode
    if code:
        raise SystemExit(code)
    with open(out) as file:
        return json.load(file)


def run_networks(args, python):
    """Rows of the networks: against the other runtimes where they are installed, else ours alone."""
    rows = []
    program = os.path.join(args.build, "replk")
    for model, size in QUICK_NETWORKS if args.quick else NETWORKS:
        say(f"network {model} {size}")
        if python:
            out = os.path.join(args.out, "network.json")
            done = subprocess.run([python, os.path.join(HERE, "peers", "networks.py"), model, "--size", size, "--threads",
                                   str(args.threads), "--runtimes", args.runtimes, "--rounds", "3" if args.quick else "5", "--replk", program, "--json",
                                   out], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            if done.returncode == 0:
                with open(out) as file:
                    rows += json.load(file)["rows"]
                continue
            say(f"  not compared: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
        if model.startswith("swin"):
            continue
        done = subprocess.run([program, "bench", "model", model, "--size", size, "--threads", str(args.threads), "--profile",
                               "--json"], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{model}: {done.stderr.strip()}")
        ours = json.loads(done.stdout)
        rows.append({"model": model, "size": ours["size"], "batch": 1, "threads": ours["threads"], "replk": ours,
                     "ms": {"replk": ours["ms"]}, "ratio": None, "best_peer": None})
    return rows


def run_layers(args, python):
    """Depthwise layers in the other runtimes."""
    out = os.path.join(args.out, "layers.json")
    say("depthwise layers in the other runtimes")
    done = subprocess.run([python, os.path.join(HERE, "peers", "networks.py"), *LAYERS, "--threads", str(args.threads), "--runtimes",
                           args.runtimes,
                           "--inner", "20", "--replk", os.path.join(args.build, "replk"), "--json", out],
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        say(f"  not compared: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
        return []
    with open(out) as file:
        return json.load(file)["rows"]


def validate(run):
    """Against schema.json, where the package jsonschema is at hand."""
    try:
        import jsonschema
    except ImportError:
        run["missing"].append("schema check: python3-jsonschema is not installed")
        return
    with open(os.path.join(HERE, "schema.json")) as file:
        jsonschema.validate(run, json.load(file))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer suites and rounds, under 4 minutes")
    parser.add_argument("--suites", help=f"of {ALL_SUITES}")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--build", default=os.path.join(ROOT, "build"))
    parser.add_argument("--out", help="folder for the results (default: bench/ in the build folder)")
    parser.add_argument("--against", metavar="OLD.json", help="compare with an earlier run")
    parser.add_argument("--limit", type=float, default=0.05, help="slower than this fails with --against (0.05 is 5 %%)")
    parser.add_argument("--runtimes", default="onnxruntime,openvino,torch,torch-compiled", help="the other runtimes")
    parser.add_argument("--no-networks", action="store_true", help="depthwise suites only")
    args = parser.parse_args()
    args.suites = args.suites or (QUICK_SUITES if args.quick else ALL_SUITES)
    args.out = args.out or os.path.join(args.build, "bench")
    old = None
    if args.against:
        try:
            with open(args.against) as file:
                old = json.load(file)
        except (OSError, ValueError) as error:
            parser.error(f"--against {args.against}: {error}")
    os.makedirs(args.out, exist_ok=True)
    start = time.time()
    run = run_suites(args)
    run.update(schema=1, networks=[], layers=[], missing=[])
    run["context"].update(provenance(args))
    python = peers_python(args.build, args.quick)
    if not python:
        run["missing"].append("other runtimes: not installed; ./run bench without --quick installs them under build/peers")
    if not args.no_networks:
        run["networks"] = run_networks(args, python)
        run["layers"] = run_layers(args, python) if python and not args.quick else []
    if "torch-compiled" not in args.runtimes:
        run["missing"].append("torch.compile: left out of this run (--runtimes)")
    if args.suites != ALL_SUITES:
        run["missing"].append("suites: " + ", ".join(s for s in ALL_SUITES.split(",") if s not in args.suites.split(",")))
    validate(run)
    path = os.path.join(args.out, "run.json")
    with open(path, "w") as file:
        json.dump(run, file, indent=1)
    with open(os.path.join(args.out, "report.html"), "w") as file:
        file.write(report.page(run))
    try:
        report.write_pngs(run, args.out)
    except ImportError:
        say("no PNGs: matplotlib is not installed (apt-get install python3-matplotlib)")
    say(f"{len(run['rows'])} rows in {time.time() - start:.0f} s: {path}, {os.path.join(args.out, 'report.html')}")
    return 1 if old and compare.report(old, run, args.limit) else 0


if __name__ == "__main__":
    sys.exit(main())
