"""At how many nodes reading becomes the limit: a simulation of nodes that share one store.

    python -m replk.batch.simulate --rate 28 --bytes 110000 --bandwidth 5e9

Each node reads ahead into a bounded buffer with a number of readers, each of which waits for the store's first byte and then
for its turn on the node's link, which has the node's share of the store's bandwidth at most. It computes at the rate that
was measured for it (`python -m replk.batch plan`).
"""
import argparse
import json
import math
from collections import deque


def simulate(nodes, rate, image_bytes, bandwidth, link=1.25e9, latency=0.02, readers=None, seconds=10.0):
    """Images a second of all nodes together, once the beginning is over.

    rate: of one node, in images a second. bandwidth, link: bytes a second of the store and of a node's network. latency: seconds
    until an image's first byte. readers: images that a node reads at a time; None: as many as its rate needs, and half more.
    """
    readers = readers or max(16, math.ceil(1.5 * rate * (latency + image_bytes / link)))
    ahead = 2 * readers  # images that a node keeps, being read or read
    # Nodes are alike and start together: one stands for all, with its share of the store.
    flow = min(link, bandwidth / nodes)
    steps = math.ceil(seconds / min(latency / 4, ahead / rate / 8, seconds / 1000))
    step = seconds / steps
    waiting, receiving = deque(), deque()  # of each reader that is busy: when its first byte comes; bytes to come
    read, counted = 0, 0.0
    for now in range(steps):
        budget = flow * step
        while waiting and waiting[0] <= now * step:
            waiting.popleft()
            receiving.append(image_bytes)
        while receiving and budget > 0:  # one after another: shared at once, all would end and begin at the same moments for ever
            portion = min(receiving[0], budget)
            budget -= portion
            receiving[0] -= portion
            if receiving[0] <= 1e-6:
                receiving.popleft()
                read += 1
        while len(waiting) + len(receiving) < readers and read + len(waiting) + len(receiving) < ahead:
            waiting.append(now * step + latency)
        done = min(read, rate * step)
        read -= done
        if now >= steps // 2:
            counted += done
    return nodes * counted / (seconds - step * (steps // 2))


def limit(rate, image_bytes, bandwidth, most=1 << 20, **others):
    """The largest number of nodes of which each still computes at 95 % of its rate; 0 where one alone does not."""
    def kept(nodes):
        return simulate(nodes, rate, image_bytes, bandwidth, **others) >= 0.95 * nodes * rate

    if not kept(1):
        return 0
    low = 1
    while low < most and kept(2 * low):
        low *= 2
    high = 2 * low
    while high - low > max(1, low // 64):
        middle = (low + high) // 2
        low, high = (middle, high) if kept(middle) else (low, middle)
    return low


def main():
    program = argparse.ArgumentParser(prog="python -m replk.batch.simulate", description=__doc__.splitlines()[0])
    program.add_argument("--rate", type=float, required=True, help="images a second of one node")
    program.add_argument("--bytes", type=float, required=True, help="bytes of one image as it is stored")
    program.add_argument("--bandwidth", type=float, nargs="+", default=[1.25e9, 5e9, 12.5e9], help="bytes a second of the store; one line of output for each (default: 10, 40 and 100 Gbit/s)")
    program.add_argument("--link", type=float, default=1.25e9, help="bytes a second that a node's link carries (default: 10 Gbit/s)")
    program.add_argument("--latency", type=float, default=0.02, help="seconds until the first byte (default: 0.02)")
    program.add_argument("--readers", type=int, help="reads in flight of a node (default: as many as are needed)")
    a = program.parse_args()
    for bandwidth in a.bandwidth:
        nodes = limit(a.rate, a.bytes, bandwidth, link=a.link, latency=a.latency, readers=a.readers)
        print(json.dumps({
            "bandwidth": bandwidth, "nodes": nodes, "images_per_second": round(nodes * a.rate, 1),
            "readers_needed": round(a.rate * a.latency, 2), "bytes_per_second_of_a_node": round(a.rate * a.bytes)
        }))


if __name__ == "__main__":
    main()
