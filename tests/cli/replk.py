"""What the tests of the program share: running it, and files to run it on."""
import json
import struct
import subprocess
import sys
import tempfile
import unittest
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = sys.argv.pop(1) if len(sys.argv) > 1 and not sys.argv[1].startswith("-") else ROOT / "build" / "replk"
MODEL = "replknet-test"
IMAGE = ROOT / "examples" / "chelsea.png"


def run(*arguments):
    command = [str(PROGRAM), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)


class ProgramTest(unittest.TestCase):
    def succeed(self, *arguments):
        done = run(*arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def json(self, *arguments, code=0):
        """The one JSON object of a command; nothing else may stand beside it on standard output."""
        done = run(*arguments, "--json")
        self.assertEqual(done.returncode, code, done.stderr)
        return json.loads(done.stdout)

    def refuse(self, *arguments, names=(), code=2):
        """One line on standard error that has all of `names`, nothing on standard output; as JSON, the same line."""
        done = run(*arguments)
        self.assertEqual(done.returncode, code, f"{arguments}: {done.stdout}{done.stderr}")
        self.assertEqual(done.stdout, "")
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertTrue(done.stderr.startswith("replk: "), done.stderr)
        for name in names:
            self.assertIn(str(name), done.stderr)
        answer = self.json(*arguments, code=code)
        self.assertEqual(f"replk: {answer['error']}\n", done.stderr)
        self.assertIn(answer["status"], range(1, 7), "of replk_status; 7 would be a fault of ours")
        return done.stderr


class FolderTest(ProgramTest):
    """With a folder of its own for each test."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def file(self, name, content):
        path = self.folder / name
        path.write_bytes(content)
        return path


# --- weights ------------------------------------------------------------------------------------


def nano_shapes(classes=10):
    """The train-form tensors of replknet-test by name (RepLKNet's own names)."""
    shapes = {}
    channels, kernels, depths = (16, 32, 64, 128), (31, 29, 27, 13), (1, 1, 2, 1)

    def norm(name, c):
        shapes.update({f"{name}.{field}": (c,) for field in ("weight", "bias", "running_mean", "running_var")})

    def conv(name, *shape):
        shapes[f"{name}.conv.weight"] = shape
        norm(f"{name}.bn", shape[0])

    c = channels[0]
    for i, shape in enumerate([(c, 3, 3, 3), (c, 1, 3, 3), (c, c, 1, 1), (c, 1, 3, 3)]):
        conv(f"stem.{i}", *shape)
    for s, (c, k, depth) in enumerate(zip(channels, kernels, depths)):
        for j in range(depth):
            block = f"stages.{s}.blocks.{2 * j}"
            norm(f"{block}.prelkb_bn", c)
            conv(f"{block}.pw1", c, c, 1, 1)
            conv(f"{block}.large_kernel.lkb_origin", c, 1, k, k)
            conv(f"{block}.large_kernel.small_conv", c, 1, 5, 5)
            conv(f"{block}.pw2", c, c, 1, 1)
            block = f"stages.{s}.blocks.{2 * j + 1}"
            norm(f"{block}.preffn_bn", c)
            conv(f"{block}.pw1", 4 * c, c, 1, 1)
            conv(f"{block}.pw2", c, 4 * c, 1, 1)
        if s < 3:
            conv(f"transitions.{s}.0", channels[s + 1], c, 1, 1)
            conv(f"transitions.{s}.1", channels[s + 1], 1, 3, 3)
    norm("norm", channels[3])
    shapes["head.weight"], shapes["head.bias"] = (classes, channels[3]), (classes,)
    return shapes


def elements(shape):
    count = 1
    for side in shape:
        count *= side
    return count


def safetensors(shapes, metadata=None, value=0.01, given=None):
    """A .safetensors file whose variances are 1 and whose other numbers are `value`, but for the `given` tensors."""
    header, data = {}, bytearray()
    if metadata:
        header["__metadata__"] = metadata
    for name, shape in shapes.items():
        begin = len(data)
        number = 1.0 if name.endswith("running_var") else value
        numbers = (given or {}).get(name) or [number] * elements(shape)
        data += struct.pack(f"<{elements(shape)}f", *numbers)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + bytes(data)


def passing_network(classes=10):
    """Tensors by name for safetensors(value=0) that make replknet-test pass red, green and blue through as channels 0 to
    2: every stride-2 layer keeps the pixels of even rows and columns, so stage s holds those at multiples of 2^(s+1) as
    they were normalised, and the head's first three logits are their means."""
    given = {}
    shapes = nano_shapes(classes)
    for name, shape in shapes.items():
        if not name.startswith(("stem", "transitions", "norm", "head")):
            continue  # the blocks stay zero and add nothing
        values = [0.0] * elements(shape)
        if name.endswith((".bn.weight", "norm.weight", "running_var")):
            values = [1.0] * elements(shape)
        elif name.endswith("conv.weight") and shape[1] == 1:  # depthwise: the middle tap of each channel
            for c in range(shape[0]):
                values[c * 9 + 4] = 1.0
        elif name.endswith(("conv.weight", "head.weight")):  # dense: channel c from channel c
            taps = shape[2] * shape[3] if len(shape) == 4 else 1
            for c in range(3):
                values[(c * shape[1] + c) * taps + taps // 2] = 1.0
        given[name] = values
    return given


def normalised(pixel):
    """Red, green and blue bytes as replknet-test gets them."""
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return [(v / 255 - m) / s for v, m, s in zip(pixel, mean, std)]


def read_safetensors(path):
    """{name: (shape, bytes)} of a file, and its metadata."""
    whole = Path(path).read_bytes()
    (length,) = struct.unpack_from("<Q", whole)
    header = json.loads(whole[8 : 8 + length])
    metadata = header.pop("__metadata__", None)
    data = whole[8 + length :]
    return {n: (t["shape"], data[slice(*t["data_offsets"])]) for n, t in header.items()}, metadata


# --- images -------------------------------------------------------------------------------------


def png(height, width, rows=None):
    """An 8-bit RGB PNG; without `rows`, of bytes, it has a header that promises more than there is."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    out = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data = b"".join(b"\0" + row for row in rows) if rows else b"\0"
    return out + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def gradient(y, x):
    """A colour for each place: red changes down, green across, blue along both, all brighter than the means."""
    return 130 + y % 100, 130 + x % 120, 250 - y // 2 - x // 2


def gradient_png(height, width):
    return png(height, width, [bytes(v for x in range(width) for v in gradient(y, x)) for y in range(height)])
