"""How batch size, threads of a run and runs at a time trade on this machine, for one job: measured."""
import threading
import time

import numpy as np

import replk

from ..errors import InvalidArgument
from .worker import load_model

DEFAULT_BATCH = 8
BATCHES = 4, 16, 32
SECONDS = 0.7  # of one measurement, at least
GLANCE = 0.1  # of the first, where it shows that the whole job takes no time to speak of
WORTH_MEASURING = 60  # seconds that the whole job takes on one node
WORTH_TUNING = 600
ALIKE = 0.97  # of the best rate: then the setting that needs least memory is taken


def choose(job, cpus):
    """The batch, threads and runs of a job on this machine, why, and what was measured. Tunes where that is worth it,
    or asked for."""
    m = job.manifest
    most = min(job.shard_size, job.count)
    if m["threads"] and m["threads"] * (m["runs"] or 1) > cpus:
        raise InvalidArgument(
            f"threads x runs is {m['threads']} x {m['runs'] or 1}; allowed: at most {cpus}, the CPUs of this node"
        )
    trial = Trial(job)
    threads = [m["threads"]] if m["threads"] else splits(cpus)
    runs = {t: m["runs"] or max(1, cpus // t) for t in threads}
    batches = [min(m["batch"] or DEFAULT_BATCH, most)]
    first = (batches[0], threads[0], runs[threads[0]])
    why = []
    given = bool(m["batch"] and m["threads"])
    seconds = None
    if m["tune"] == "auto" or not given:
        seconds = job.count / trial.rate(*first, GLANCE)
        if 4 * seconds >= WORTH_MEASURING:
            seconds = job.count / trial.rate(*first)
        why.append(f"{job.count} images take one node some {seconds:.0f} s")
    if m["tune"] == "now" or (m["tune"] == "auto" and seconds >= WORTH_TUNING):
        why.append("tuning was asked for" if m["tune"] == "now" else "long enough to be worth tuning")
        trial.tuned = True
    if not trial.tuned and (given or seconds < WORTH_MEASURING):
        best = first
        why.append("settings were given" if given else "too short to be worth more measurements")
    else:
        for t in threads:
            trial.rate(batches[0], t, runs[t])
        split = max(threads, key=lambda t: trial.rates[batches[0], t, runs[t]])
        for batch in () if m["batch"] else BATCHES:
            if batch <= most:
                trial.rate(batch, split, runs[split])
        best = pick(trial.rates)
        why += reasons(trial.rates, best)
    batch, t, r = best
    return {
        "batch": batch, "threads": t, "runs": r, "why": why,
        "measured": [
            {"batch": b, "threads": t, "runs": r, "images_per_second": round(rate, 2)} for (b, t, r), rate in trial.rates.items()
        ]
    }


def splits(cpus):
    """Threads of one run that are tried: 1, 4, 16, ... and all."""
    return sorted({min(4**i, cpus) for i in range(7)} | ({2} if cpus in (2, 3) else set()))


def pick(rates):
    """(batch, threads, runs): of those near the fastest the one with the fewest inputs under way."""
    fastest = max(rates.values())
    return min((key for key in rates if rates[key] >= ALIKE * fastest), key=lambda key: (key[0] * key[2], -rates[key]))


def reasons(rates, best):
    batch, threads, runs = best
    lines = []
    for b, t, r in rates:
        if (b, t, r) != best:
            what = f"batch {b}, {t} threads a run, {r} runs at a time"
            ratio = rates[b, t, r] / rates[best]
            lines.append(f"{what}: {ratio:.2f} times as fast" + (", and needs more memory" if ratio > 1 else ""))
    return [f"batch {batch}, {threads} threads a run, {runs} runs at a time: {rates[best]:.1f} images a second", *lines]


class Trial:
    """Rates of one job's network on this machine, decoding left out. tuned: choices that are not known are measured first."""

    def __init__(self, job):
        self._job, self._loaded = job, (None, None)
        self.tuned = False
        self.rates = {}  # {(batch, threads, runs): images a second}

    def rate(self, batch, threads, runs, seconds=SECONDS):
        replk.set_tuning("now" if self.tuned else "cached", self._job.manifest["tune_budget"])
        try:
            if self._loaded[0] != (threads, self.tuned):
                self._loaded = None, None  # one at a time in memory
                self._loaded = (threads, self.tuned), load_model(self._job, threads)
            model = self._loaded[1]
            self._job.wanted.check(model)
            self.rates[batch, threads, runs] = self._measured(model, batch, runs, seconds)
        finally:
            replk.set_tuning("cached")
        return self.rates[batch, threads, runs]

    def _measured(self, model, batch, runs, seconds):
        pixels = np.zeros((batch, *self._job.image_size(model), 3), np.float32)
        self._job.wanted.run(model, pixels)  # plans
        counts, errors, start = [0] * runs, [], time.perf_counter()

        def run(number):
            try:
                while counts[number] < 1 or time.perf_counter() - start < seconds:
                    self._job.wanted.run(model, pixels)
                    counts[number] += 1
            except Exception as error:
                errors.append(error)

        workers = [threading.Thread(target=run, args=(number,)) for number in range(runs)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if errors:
            raise errors[0]
        return batch * sum(counts) / (time.perf_counter() - start)
