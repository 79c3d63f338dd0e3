"""Byte strings sorted in bounded memory: runs that fit are sorted and put on disk, and merged from there."""
import heapq
import tempfile

RUN = 50_000  # strings of a run: some 10 MB of paths


def in_order(strings, run=RUN):
    """The same strings, ascending. The temporary files have no names, so that nothing is left behind."""
    files, held = [], []
    for string in strings:
        held.append(string)
        if len(held) == run:
            files.append(_written(sorted(held)))
            held = []
    return heapq.merge(sorted(held), *map(_read, files))


def _written(strings):
    file = tempfile.TemporaryFile()
    for string in strings:
        file.write(len(string).to_bytes(4, "little"))
        file.write(string)
    file.seek(0)
    return file


def _read(file):
    with file:
        while size := file.read(4):
            yield file.read(int.from_bytes(size, "little"))
