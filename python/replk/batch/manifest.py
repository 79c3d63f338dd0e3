"""What a job may be asked for, and what its manifest.json may hold, which lies where other machines write: hostile until checked."""
import json
import os

from ..errors import BadFile, InvalidArgument
from .wanted import Wanted

FORMAT = 1
MOST_BYTES = 64 << 20
MOST_INPUTS = 10**12


def _whole(low, high):
    return lambda value: type(value) is int and low <= value <= high


def _text(value):
    """What can be a path, of bytes that are no UTF-8 too."""
    if not isinstance(value, str) or not 0 < len(value) <= 4096 or "\0" in value:
        return False
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        return False
    return True


def _hash(value):
    return isinstance(value, str) and len(value) == 64 and not set(value) - set("0123456789abcdef")


def _flag(value):
    return isinstance(value, bool)


def _size(value):
    return isinstance(value, list) and len(value) == 2 and all(map(_whole(1, 16384), value))


def _seconds(value):
    return type(value) in (int, float) and 0 < value <= 3600


def _one_of(*words):
    return lambda value: isinstance(value, str) and value in words


def _or_null(check):
    return lambda value: value is None or check(value)


def _want(value):
    try:
        return _text(value) and bool(Wanted(value))
    except InvalidArgument:
        return False


def _inputs(value):
    return (isinstance(value, dict) and _whole(1, MOST_INPUTS)(value.get("count")) and _hash(value.get("sha256"))
            and _whole(0, MOST_INPUTS)(value.get("passed_over")) and isinstance(value.get("given"), list)
            and all(map(_text, value["given"])))


# What each field may be, and how that is said.
FIELDS = {
    "format": (_whole(FORMAT, FORMAT), f"{FORMAT}, which this version reads"),
    "model": (_text, "a name"),
    "weights": (_or_null(_text), "a path or null"),
    "weights_sha256": (_or_null(_hash), "64 hexadecimal digits or null"),
    "precision": (_or_null(_one_of("fp32", "bf16", "bf16x3", "int8")), "fp32, bf16, bf16x3, int8 or null"),
    "exact": (_flag, "true or false"),
    "seed": (_or_null(_whole(0, 2**64 - 1)), "0 to 2^64 - 1 or null"),
    "size": (_or_null(_size), "[height, width], 1 to 16384 each, or null"),
    "want": (_want, "topK, logits, stage1 to stage4 and embedding, each once, between commas"),
    "shard_size": (_whole(1, 65536), "1 to 65536"),
    "column": (_or_null(_text), "a name or null"),
    "batch": (_or_null(_whole(1, 1024)), "1 to 1024 or null"),
    "threads": (_or_null(_whole(1, 1024)), "1 to 1024 or null"),
    "runs": (_or_null(_whole(1, 1024)), "1 to 1024 or null"),
    "tune": (_one_of("auto", "now", "off"), "auto, now, off"),
    "tune_budget": (_seconds, "above 0, at most 3600 seconds"),
    "inputs": (_inputs, "given, count, passed_over and sha256 of the inputs"),
}


def fault(manifest, names=FIELDS):
    """What is wrong with the first of these fields that is missing or holds what it must not; None where all are right."""
    for name in FIELDS:
        check, allowed = FIELDS[name]
        if name in names and (name not in manifest or not check(manifest[name])):
            shown = repr(manifest[name])[:60] if name in manifest else "missing"
            return f"{name} is {shown}; allowed: {allowed}"
    return None


def read(path):
    """The manifest of a file, checked. FileNotFoundError where there is none; BadFile, naming the field, where it is none."""
    try:
        with open(path, "rb") as file:
            text = file.read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            raise BadFile(f"{path}: more than {MOST_BYTES} bytes")
        manifest = json.loads(text)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise BadFile(f"{path}: {error}") from None
    if not isinstance(manifest, dict):
        raise BadFile(f"{path}: no object")
    wrong = fault(manifest)
    if wrong:
        raise BadFile(f"{path}: {wrong}")
    return manifest
