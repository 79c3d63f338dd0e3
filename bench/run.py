#!/usr/bin/env python3
"""The whole benchmark: machine limits, depthwise suites against oneDNN, networks against other runtimes, report.

    ./run bench [--quick] [--against OLD.json]
    ./run bench [--quick] --against COMMIT [--json]

Writes build/bench/run.json (bench/schema.json), report.html and PNGs. Against a commit it only times this tree and that
commit, which it builds below build/against/, in turns, and writes build/bench/against.json (bench/against.py). Exit codes: 0
done, 1 a result was wrong or a row became slower than --limit allows, 2 wrong use.
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

import against  # noqa: E402
import compare  # noqa: E402
import report  # noqa: E402

QUICK_SUITES, ALL_SUITES = "replknet,slak,convnext", "replknet,slak,convnext,table1,sizes,ragged"
# A network at a size; what else bench/peers/networks.py can do (31L, XL, 2048x512 features) takes minutes each.
NETWORKS = ["replknet-31b@224", "swin-b@224", "slak-t@224", "convnext-b@224", "replknet-31b:k=3,3,3,3@224", "replknet-31b@384",
            "swin-b@384"]
QUICK_NETWORKS = ["replknet-31b@224"]
# Compiling takes minutes, so PyTorch compiles only these.
COMPILED = ["replknet-31b@224"]
# README's shapes and a few more: with the oneDNN that PyTorch carries, newer than ours.
LAYERS = ["n1c128h56w56k31", "n1c256h28w28k29", "n1c512h14w14k27", "n1c1024h7w7k13", "n1c128h96w96k31", "n1c128h56w56k51x5",
          "n1c128h56w56k9", "n1c128h56w56k5", "n1c128h56w56k3", "n1c96h56w56k7"]


def say(message):
    print(message, file=sys.stderr, flush=True)


def commit():
    """What is measured; unknown where there is no git, or no repository."""
    try:
        asked = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    except FileNotFoundError:
        return "unknown"
    return asked.stdout.strip() or "unknown"


def provenance(args):
    """Date, commit and versions, for the record."""
    info = json.loads(subprocess.run([os.path.join(args.build, "replk"), "info", "--json"], check=True,
                                     capture_output=True, text=True).stdout)
    return {"date": time.strftime("%Y-%m-%d"), "commit": commit(),
            "versions": {k: info[k] for k in ("version", "onednn") if k in info}}


def install_peers(python):
    """Whether all is there: what is pinned by hash, and torch as run's install_torch takes it."""
    def pinned(*path, **options):
        command = [python, "-m", "pip", "install", "-q", "--no-deps", "--require-hashes", "-r", os.path.join(ROOT, *path)]
        return subprocess.run(command, **options).returncode == 0

    def torch_with_cuda():
        return (pinned("tests", "torch.txt")
                and subprocess.run([python, "-m", "pip", "install", "-q", "torch"]).returncode == 0)

    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return pinned("bench", "peers", "requirements.txt") and (pinned("tests", "torch-cpu.txt", **quiet) or torch_with_cuda())


def peers_python(build, quick):
    """The interpreter of the environment with the other runtimes, made where it is missing (not in a quick run), or None."""
    python = os.path.join(build, "peers", "bin", "python")
    if not os.path.exists(python):
        if quick:
            return None
        say("making build/peers, the environment of the other runtimes (once; some minutes)")
        made = subprocess.run([sys.executable, "-m", "venv", os.path.join(build, "peers")]).returncode == 0
        if not made or not install_peers(python):
            return None
    return python


def no_peers(build):
    """What is said where the other runtimes are missing."""
    peers = os.path.relpath(os.path.join(build, "peers"), ROOT)
    return (f"other runtimes (PyTorch, ONNX Runtime, OpenVINO): not installed; ./run bench without --quick installs them, or: "
            f"python3 -m venv {peers} && {peers}/bin/python -m pip install --no-deps --require-hashes -r bench/peers/requirements.txt "
            "-r tests/torch-cpu.txt")


def run_suites(args):
    """(context, limits, rows) from the Google Benchmark binary. It ends with 1 if a result is wrong."""
    out = os.path.join(args.out, "suites.json")
    command = [os.path.join(args.build, "replk_bench"), f"--suites={args.suites}", f"--out={out}",
               f"--threads={args.threads}"] + (["--quick"] if args.quick else [])
    code = subprocess.run(command).returncode
    if code:
        raise SystemExit(code)
    with open(out) as file:
        return json.load(file)


def ours_alone(args, model):
    """A network's row where no other runtime is installed."""
    name, _, size = model.partition("@")
    done = subprocess.run([os.path.join(args.build, "replk"), "bench", "model", name, "--size", size, "--threads",
                           str(args.threads), "--profile", "--json"], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{model}: {done.stderr.strip()}")
    ours = json.loads(done.stdout)
    return {"model": name, "size": ours["size"], "batch": 1, "threads": ours["threads"], "replk": ours,
            "ms": {"replk": ours["ms"]}, "ratio": None, "best_peer": None}


def run_peers(args, python, models, runtimes, *more):
    """Rows of bench/peers/networks.py, with what it could not do said and left out."""
    out = os.path.join(args.out, "peers.json")
    if os.path.exists(out):
        os.remove(out)
    if models and runtimes:
        subprocess.run([python, os.path.join(HERE, "peers", "networks.py"), *models, "--threads", str(args.threads), "--runtimes",
                        ",".join(runtimes), "--patience", "150", "--replk", os.path.join(args.build, "replk"), "--json", out,
                        *more], stdout=sys.stderr)
    if not os.path.exists(out):
        return []
    with open(out) as file:
        return json.load(file)["rows"]


def run_networks(args, python):
    """Rows of the networks: against the other runtimes where they are installed, else ours alone."""
    models = QUICK_NETWORKS if args.quick else NETWORKS
    if not python or not args.runtimes:
        return [ours_alone(args, m) for m in models if not m.startswith("swin")]
    uncompiled = [r for r in args.runtimes if r != "torch-compiled"]
    rows = []
    for compiled in (True, False):
        chosen = [m for m in models if (m in COMPILED and not args.quick) == compiled]
        rows += run_peers(args, python, chosen, args.runtimes if compiled else uncompiled, "--inner", "2",
                          "--rounds", "3" if args.quick else "5")
    return sorted(rows, key=lambda row: models.index(f"{row['model']}@{row['size'].split('x')[0]}"))


def validate(run):
    """Against schema.json, where the package jsonschema is at hand."""
    try:
        import jsonschema
    except ImportError:
        run["missing"].append("schema check: python3-jsonschema is not installed")
        return
    with open(os.path.join(HERE, "schema.json")) as file:
        jsonschema.validate(run, json.load(file))


def against_commit(args, parser):
    """Times this tree and another commit's in turns; returns the exit code."""
    sha = against.resolve(ROOT, args.against)
    if not sha:
        parser.error(f"--against {args.against}: neither a file nor a commit")
    if args.visits < 1:
        parser.error(f"--visits is {args.visits}, allowed is 1 or more")
    args.limit = against.ROW_LIMIT if args.limit is None else args.limit
    os.makedirs(args.out, exist_ok=True)
    networks = [] if args.no_networks else QUICK_NETWORKS if args.quick else NETWORKS
    return against.run(ROOT, args, sha, [n for n in networks if not n.startswith("swin")], say)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer suites and rounds, under 4 minutes")
    parser.add_argument("--suites", help=f"of {ALL_SUITES}")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--build", default=os.path.join(ROOT, "build"))
    parser.add_argument("--out", help="folder for the results (default: bench/ in the build folder)")
    parser.add_argument("--against", metavar="OLD.json|COMMIT", help="compare with an earlier run, or time another commit beside")
    parser.add_argument("--visits", type=int, default=3, help="of each row, against a commit")
    parser.add_argument("--json", action="store_true", help="against a commit: print JSON")
    parser.add_argument("--limit", type=float, help="a row slower than this fails with --against (default: 0.05, which is 5 %%; "
                        f"against a commit {against.ROW_LIMIT}, in every visit)")
    parser.add_argument("--runtimes", default="onnxruntime,openvino,torch,torch-compiled", help="the other runtimes")
    parser.add_argument("--no-networks", action="store_true", help="depthwise suites only")
    args = parser.parse_args()
    args.runtimes = [r for r in args.runtimes.split(",") if r]
    args.suites = args.suites or (QUICK_SUITES if args.quick else ALL_SUITES)
    args.out = args.out or os.path.join(args.build, "bench")
    old = None
    if args.against and not os.path.exists(args.against):
        return against_commit(args, parser)
    if args.json:
        parser.error("--json goes with --against COMMIT")
    args.limit = 0.05 if args.limit is None else args.limit
    if args.against:
        try:
            with open(args.against) as file:
                old = json.load(file)
        except (OSError, ValueError) as error:
            parser.error(f"--against {args.against}: {error}")
    os.makedirs(args.out, exist_ok=True)
    start = time.time()
    run = run_suites(args)
    say(f"depthwise suites: {time.time() - start:.0f} s")
    run.update(schema=1, networks=[], layers=[], missing=[])
    run["context"].update(provenance(args))
    python = peers_python(args.build, args.quick)
    if not python:
        run["missing"].append(no_peers(args.build))
        say(run["missing"][-1])
    if not args.no_networks:
        run["networks"] = run_networks(args, python)
        if python and not args.quick:
            say("depthwise layers in the other runtimes")
            run["layers"] = run_peers(args, python, LAYERS, [r for r in args.runtimes if r != "torch-compiled"], "--inner", "20")
    uncompiled = [m for m in NETWORKS if m not in COMPILED or "torch-compiled" not in args.runtimes]
    if python and not args.no_networks and uncompiled:
        run["missing"].append("torch.compile, which takes minutes to compile: " + ", ".join(uncompiled) + ", and the layers")
    for row in run["networks"] + run["layers"]:
        run["missing"] += [f"{row['model']} {row['size']}: {name}: {why}" for name, why in row.get("failed", {}).items()]
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
