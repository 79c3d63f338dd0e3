#!/usr/bin/env python3
"""Says what became faster or slower between two runs: python3 bench/compare.py OLD.json NEW.json [--limit 0.05]

A row counts as changed when its median moved by more than the limit, a two-sided Mann-Whitney U test on the ratio of its
rounds to the run's peers is significant, and no visit of one run lies among those of the other: rounds of one visit share
that visit's luck, so that their number alone proves little. Exit code 1 where a row became slower.
"""
import argparse
import json
import math
import statistics
import sys


def mann_whitney_p(a, b):
    """Two-sided p of the U test, normal approximation with ties and continuity corrected (n >= 9 as is usual)."""
    pooled = sorted([(v, 0) for v in a] + [(v, 1) for v in b])
    rank_sum, ties, i = 0.0, 0.0, 0
    while i < len(pooled):
        j = i
        while j < len(pooled) and pooled[j][0] == pooled[i][0]:
            j += 1
        rank = (i + j + 1) / 2
        rank_sum += rank * sum(1 for k in range(i, j) if pooled[k][1] == 0)
        ties += (j - i) ** 3 - (j - i)
        i = j
    n, m = len(a), len(b)
    total = n + m
    u = rank_sum - n * (n + 1) / 2
    variance = n * m / 12 * (total + 1 - ties / (total * (total - 1))) if total > 1 else 0
    if variance <= 0:
        return 1.0
    z = max(0.0, abs(u - n * m / 2) - 0.5) / math.sqrt(variance)
    return math.erfc(z / math.sqrt(2))


def relative_rounds(row):
    """Our rounds as a multiple of the best peer's median where there is one: the clock's drift cancels."""
    scale = row["best_peer_ms"] or 1.0
    return [t / scale for t in row["rounds"]]


def visits_apart(old_row, new_row):
    """Whether all visits of one run are slower than all of the other's. Rows without a record of visits count as one."""
    def figures(row):
        visits = row.get("visits") or [{"ms": statistics.median(row["rounds"]), "best_peer_ms": row["best_peer_ms"]}]
        return [v["ms"] / (v["best_peer_ms"] or 1.0) for v in visits]
    a, b = figures(old_row), figures(new_row)
    return max(a) < min(b) or max(b) < min(a)


def changes(old, new, alpha=0.01):
    """[(key, new over old, p)] for rows that both runs hold, slowest change first. Over 1 is slower."""
    before = {(r["suite"], r["shape"]): r for r in old["rows"]}
    found = []
    for row in new["rows"]:
        key = (row["suite"], row["shape"])
        if key not in before or bool(before[key]["best_peer_ms"]) != bool(row["best_peer_ms"]):
            continue
        a, b = relative_rounds(before[key]), relative_rounds(row)
        p = mann_whitney_p(a, b)
        factor = statistics.median(b) / statistics.median(a)
        found.append((key, factor, p, p < alpha and visits_apart(before[key], row)))
    return sorted(found, key=lambda f: -f[1])


def report(old, new, limit):
    """Prints the changes; returns how many rows are significantly slower than the limit (0.05 is 5 %) allows."""
    found = changes(old, new)
    if old["context"]["cpu"] != new["context"]["cpu"]:
        print(f"note: the runs are of different CPUs: {old['context']['cpu']}, {new['context']['cpu']}")
    if not found:
        print("no row is in both runs")
    slower = 0
    for (suite, shape), factor, p, significant in found:
        if significant and abs(factor - 1) > limit:
            word = "slower" if factor > 1 else "faster"
            print(f"{word:>6} {abs(factor - 1) * 100:5.1f} %  {suite:9} {shape}  (p = {p:.1e})")
            slower += factor > 1
    moved = sum(1 for f in found if abs(f[1] - 1) > 0.05)
    print(f"{len(found)} rows compared, {moved} moved by more than 5 %, {slower} significantly slower than the limit of "
          f"{limit * 100:.0f} %")
    return slower


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--limit", type=float, default=0.05, help="0.05 is 5 %%")
    args = parser.parse_args()
    runs = []
    for path in (args.old, args.new):
        try:
            with open(path) as file:
                runs.append(json.load(file))
        except (OSError, ValueError) as error:
            parser.error(f"{path}: {error}")
    return 1 if report(*runs, args.limit) else 0


if __name__ == "__main__":
    sys.exit(main())
