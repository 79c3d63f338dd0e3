"""How far a job is: one line that changes on a terminal, lines of JSON elsewhere."""
import json
import sys
import time

PERIODS = {True: 0.2, False: 10.0}  # seconds between two lines: terminal, elsewhere


class Progress:
    """done: inputs that were finished before. Rate and time left are those of this run."""

    def __init__(self, total, done, stream=None):
        self._total, self._done, self._before = total, done, done
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._errors = 0
        self.begin()

    def begin(self):
        """Tuning and loading are over."""
        self._start = self._shown = time.monotonic()

    def add(self, inputs, errors):
        self._done += inputs
        self._errors += errors
        if time.monotonic() - self._shown >= PERIODS[self._terminal]:
            self._shown = time.monotonic()
            self._show()

    def end(self):
        self._show()
        if self._terminal:
            print(file=self._stream)

    def figures(self):
        seconds = time.monotonic() - self._start
        rate = (self._done - self._before) / seconds if seconds > 0 else 0.0
        left = (self._total - self._done) / rate if rate > 0 else None
        return {
            "done": self._done, "total": self._total, "errors": self._errors, "images_per_second": round(rate, 2),
            "seconds_left": None if left is None else round(left, 1)
        }

    def _show(self):
        figures = self.figures()
        if not self._terminal:
            print(json.dumps(figures), file=self._stream, flush=True)
            return
        left = figures["seconds_left"]
        ends = "" if left is None else f", {int(left) // 3600}:{int(left) // 60 % 60:02}:{int(left) % 60:02} left"
        errors = f", {self._errors} errors" if self._errors else ""
        text = f"{self._done} of {self._total} images, {figures['images_per_second']} a second{ends}{errors}"
        print(f"\r{text}\033[K", end="", file=self._stream, flush=True)
