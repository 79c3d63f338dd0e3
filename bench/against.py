"""The speed of this tree against another commit's, on this machine, back to back: ./run bench --quick --against COMMIT.

The other commit is built in a git worktree of its own. Each visit of a row runs both programs in turns, twice each (one, the
other, the other, the one), in processes of their own with a tune cache each, and keeps the lesser time of each side: what the
machine does meanwhile falls on both. A row's figure is the middle ratio of its visits (over 1: slower now); it became slower
where the ratio of every visit is above the limit.
"""
import json
import math
import os
import random
import statistics
import subprocess

MEAN_LIMIT, ROW_LIMIT = 0.02, 0.07  # of the geometric mean over all rows; of one row in every visit


def output(command, **options):
    """What a command prints. Ends the program with its complaint where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


def resolve(root, commit):
    """The commit's full name; None where there is none."""
    try:
        asked = subprocess.run(["git", "-C", root, "rev-parse", "--verify", "--quiet", commit + "^{commit}"], capture_output=True,
                               text=True)
    except FileNotFoundError:
        return None
    return asked.stdout.strip() or None


def build_commit(root, build, sha):
    """The commit's program, built once below build/against/."""
    source = os.path.join(build, "against", sha[:12], "source")
    binaries = os.path.join(source, "build")  # as near to its sources as ours, so that a compiler cache knows the files
    if not os.path.exists(os.path.join(source, "CMakeLists.txt")):
        output(["git", "-C", root, "worktree", "prune"])
        output(["git", "-C", root, "worktree", "add", "--detach", "--force", source, sha])
    output(["cmake", "-S", source, "-B", binaries, "-G", "Ninja", "-DREPLK_BUILD_TESTS=OFF", "-DREPLK_BUILD_BENCH=OFF",
            f"-DREPLK_ONEDNN_WHEELS={os.path.join(build, 'onednn-wheels')}"])
    output(["cmake", "--build", binaries, "--target", "replk"])
    return os.path.join(binaries, "replk")


def rows_of(build, suites, networks):
    """What is timed: ("depthwise", shape) and ("model", "name@size")."""
    listed = output([os.path.join(build, "replk_bench"), f"--suites={suites}", "--benchmark_list_tests"])
    shapes = dict.fromkeys(line.split("/")[1] for line in listed.split() if "/" in line)
    return [("depthwise", shape) for shape in shapes] + [("model", name) for name in networks]


def time_row(program, row, threads, cache):
    """(ms, what computes it) of one row in a process of its own. What has no record in the tune cache is tuned before."""
    kind, name = row
    if kind == "depthwise":
        words = ["depthwise", name, "--no-peers", "--seconds", "0.25"]
    else:
        model, _, size = name.partition("@")
        words = ["model", model, "--size", size, "--rounds", "3"]
    answer = json.loads(output([program, "bench", *words, "--threads", str(threads), "--json"],
                               env={**os.environ, "REPLK_CACHE_DIR": cache}))
    result = answer["rows"][0] if kind == "depthwise" else answer
    return result["ms"], result.get("tiling", "")


def visit_rows(rows, timed, visits, say=lambda message: None, seed=1):
    """{row: [(old ms, new ms) of each visit]}. timed(side, row) gives the milliseconds of side "old" or "new". Rows come in
    another order each time, and so do the two sides of each."""
    order = random.Random(seed)
    found = {row: [] for row in rows}
    for visit in range(visits):
        for row in order.sample(rows, len(rows)):
            first, second = order.sample(["old", "new"], 2)
            ms = {"old": [], "new": []}
            for side in (first, second, second, first):
                ms[side].append(timed(side, row))
            found[row].append((min(ms["old"]), min(ms["new"])))
        say(f"visit {visit + 1} of {visits}")
    return found


def summary(found, mean_limit=MEAN_LIMIT, row_limit=ROW_LIMIT):
    """Rows as ratios of new over old, slowest first; their geometric mean; the worst row by what every visit agrees on."""
    rows = []
    for (kind, name), visits in found.items():
        ratios = [new / old for old, new in visits]
        rows.append({"kind": kind, "name": name, "ratio": statistics.median(ratios), "ratios": ratios,
                     "in_every_visit": min(ratios), "old_ms": [old for old, _ in visits], "new_ms": [new for _, new in visits]})
    rows.sort(key=lambda row: -row["ratio"])
    mean = math.exp(sum(math.log(row["ratio"]) for row in rows) / len(rows))
    worst = max(rows, key=lambda row: row["in_every_visit"])
    slower = [row["name"] for row in rows if row["in_every_visit"] > 1 + row_limit]
    return {"rows": rows, "geometric_mean": mean, "worst": worst["name"], "worst_in_every_visit": worst["in_every_visit"],
            "slower": slower, "passed": mean <= 1 + mean_limit and not slower}


def lines(result):
    """For people."""
    for row in result["rows"]:
        visits = " ".join(f"{ratio:.3f}" for ratio in row["ratios"])
        yield (f"{row['ratio']:6.3f}  {row['name']:34} {min(row['old_ms']):9.4g} {min(row['new_ms']):9.4g} ms  "
               f"visits {visits}" + ("  other tiling" if row.get("other_tiling") else ""))
    yield (f"{len(result['rows'])} rows, new over {result['old_commit'][:12]}: geometric mean {result['geometric_mean']:.3f}; "
           f"worst in every visit {result['worst_in_every_visit']:.3f} ({result['worst']}); "
           f"slower: {', '.join(result['slower']) or 'none'}")


def run(root, args, sha, networks, say):
    """Builds, times and says; returns the exit code: 1 where the mean or a row is beyond its limit."""
    say(f"building {sha[:12]} in {os.path.join(args.build, 'against')}")
    programs = {"old": build_commit(root, args.build, sha), "new": os.path.join(args.build, "replk")}
    caches = {side: os.path.join(args.build, "against", sha[:12], "tune-" + side) for side in programs}
    rows = rows_of(args.build, args.suites, networks)
    tilings = {}

    def timed(side, row):
        ms, tilings[side, row] = time_row(programs[side], row, args.threads, caches[side])
        return ms

    say(f"{len(rows)} rows, {args.visits} visits of each; the first visit tunes")
    result = summary(visit_rows(rows, timed, args.visits, say), row_limit=args.limit)
    for row in result["rows"]:
        key = (row["kind"], row["name"])
        row["other_tiling"] = tilings["old", key] != tilings["new", key]
    result = {"old_commit": sha, "threads": args.threads, **result}
    path = os.path.join(args.out, "against.json")
    with open(path, "w") as file:
        json.dump(result, file, indent=1)
    print(json.dumps(result, indent=1) if args.json else "\n".join(lines(result)))
    say(path)
    return 0 if result["passed"] else 1
