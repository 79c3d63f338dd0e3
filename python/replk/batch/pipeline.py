"""Decoding, preprocessing and network side by side, in bounded memory."""
import queue
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from ..errors import Error
from .contents import Reader


class Batch(NamedTuple):
    """Inputs that go through the network together: up to the batch size of them, of one shard."""

    shard: int
    rows: list
    contents: list  # for each row None, or what a table had: bytes, or an error
    last: bool  # of its shard


class Result(NamedTuple):
    """batch; for each row None or a message; what Wanted.run gave for all slots, None where all rows have a message."""

    batch: Batch
    errors: list
    results: dict


class Pipeline:
    """Runs batches. Several threads may use it at once.

    A batch has `size` slots of pixels whatever it holds, and input i of it is in slot i, so that a result depends neither on the
    inputs beside it nor on how a job was cut off and resumed. `runs` batches are in the network at one time, each on the
    model's threads; `readers` threads read and decode what comes next, two batches and more where that many readers need more.
    """

    def __init__(self, model, wanted, image_size, size, runs, readers):
        self._model, self._wanted = model, wanted
        self._reader = Reader(model)
        self._readers, self._read_ahead = readers, ThreadPoolExecutor(readers, "read")
        self._run = ThreadPoolExecutor(runs, "run")
        ahead = max(2, -(-readers // size))
        self._depth = 2 * runs + ahead  # batches that are begun and not taken yet
        self._free = queue.SimpleQueue()
        for _ in range(runs + ahead):
            self._free.put(np.zeros((size, *image_size, 3), np.float32))

    def results(self, batches):
        """Takes Batches, gives a Result for each, in their order."""
        pending = deque()
        try:
            for batch in batches:
                while len(pending) >= self._depth or (pending and pending[0].done()):
                    yield pending.popleft().result()
                pending.append(self._begin(batch))
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.exception()  # waits, so that nothing of this call is under way any more

    def close(self):
        self._read_ahead.shutdown()
        self._run.shutdown()

    def _begin(self, batch):
        pixels, future = self._free.get(), Future()
        errors = [None] * len(batch.rows)
        slices = min(self._readers, len(batch.rows))
        left, lock = [slices], threading.Lock()

        def decode(start):
            try:
                for i in range(start, len(batch.rows), slices):
                    errors[i] = self._read(batch, i, pixels[i])
            except BaseException as error:  # none of an input: a fault of this program
                errors[start] = error
            with lock:
                left[0] -= 1
                if left[0] == 0:
                    self._run.submit(self._finish, batch, pixels, errors, future)

        for start in range(slices):
            self._read_ahead.submit(decode, start)
        return future

    def _read(self, batch, i, out):
        """None, or what is wrong with the input, in one line."""
        try:
            self._reader.read(batch.rows[i], batch.contents[i], out)
            return None
        except Error as error:
            message = str(error)
        except OSError as error:
            message = f"{batch.rows[i].name}: {error.strerror or error}"
        except ValueError as error:  # a path with a zero byte
            message = f"{batch.rows[i].name}: {error}"
        out[...] = 0
        return " ".join(message.split()) or "unknown"

    def _finish(self, batch, pixels, errors, future):
        try:
            for error in errors:
                if isinstance(error, BaseException):
                    raise error
            results = None
            if not all(errors):
                pixels[len(batch.rows):] = 0
                results = self._wanted.run(self._model, pixels)
            result = Result(batch, errors, results)
        except BaseException as error:
            self._free.put(pixels)
            future.set_exception(error)
            return
        self._free.put(pixels)
        future.set_result(result)
