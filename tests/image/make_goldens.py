#!/usr/bin/env python3
"""Golden values of the image tests, from Pillow; or a check of many random sizes against Pillow.

    make_goldens.py write                 writes goldens/ anew (needs Pillow)
    make_goldens.py check TOOL [COUNT]    compares build/tests/image_tool with Pillow on COUNT random sizes
    make_goldens.py damage TOOL [COUNT]   the same on COUNT damaged PNG files: what Pillow reads and what it refuses
"""
import io
import random
import struct
import subprocess
import sys
import tempfile
import warnings
import zlib
from pathlib import Path

import PIL
from PIL import Image

GOLDENS = Path(__file__).resolve().parent / "goldens"
NOISE_SIDE = 512
warnings.simplefilter("ignore")  # Pillow's, about palettes with transparency


def noise():
    """The 512x512 RGB source of the resize cases; noise() in resize_test.cpp makes the same bytes."""
    state, values = 1, bytearray()
    for _ in range(NOISE_SIDE * NOISE_SIDE * 3):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        values.append(state >> 24)
    return Image.frombytes("RGB", (NOISE_SIDE, NOISE_SIDE), bytes(values))


def checksum(image):
    return zlib.crc32(image.tobytes())


# --- pictures in every format -------------------------------------------------------------------

HEIGHT, WIDTH = 23, 37
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by PNG colour type
ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]


def pack(samples, depth):
    if depth == 16:
        return b"".join(struct.pack(">H", s) for s in samples)
    bits = "".join(format(s, f"0{depth}b") for s in samples)
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))


def chunk(kind, body, checksum=None):
    return struct.pack(">I", len(body)) + kind + body + (checksum or struct.pack(">I", zlib.crc32(kind + body)))


SIGNATURE, END = b"\x89PNG\r\n\x1a\n", chunk(b"IEND", b"")


def png(colour, depth, *, interlaced=False, palette=None, transparency=None, period=HEIGHT, wrap=None):
    """A PNG of random samples: Pillow writes only a few of the formats that it reads. Rows repeat after `period`; wrap
    makes chunks of what was compressed."""
    rng = random.Random(colour * 100 + depth)
    top = len(palette) // 3 if palette else 1 << depth
    pixels = [[[rng.randrange(top) for _ in range(CHANNELS[colour])] for _ in range(WIDTH)] for _ in range(period)]
    pixels = [pixels[row % period] for row in range(HEIGHT)]
    data = b""
    for row0, column0, row_step, column_step in ADAM7 if interlaced else [(0, 0, 1, 1)]:
        for row in pixels[row0::row_step]:
            part = row[column0::column_step]
            if part:
                data += b"\0" + pack([s for pixel in part for s in pixel], depth)

    out = SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, colour, 0, 0, interlaced))
    if palette:
        out += chunk(b"PLTE", palette)
    if transparency:
        out += chunk(b"tRNS", transparency)
    compressed = zlib.compress(data, 9)
    return out + (wrap(compressed) if wrap else chunk(b"IDAT", compressed)) + END


def pieces(data, *cuts, checksum=None):
    """IDAT chunks of data, cut at these places."""
    ends = [0, *cuts, len(data)]
    return b"".join(chunk(b"IDAT", data[a:b], checksum) for a, b in zip(ends, ends[1:]))


def small_window(data):
    """zlib's header says that nothing reaches back further than 256 bytes."""
    return bytes([0x08, 0x1D]) + data[2:]


def jpeg(image, **options):
    out = io.BytesIO()
    image.save(out, "JPEG", **options)
    return out.getvalue()


def pictures():
    rng = random.Random(1)
    for colour, name in ((0, "grey"), (4, "grey_alpha"), (2, "rgb"), (6, "rgba")):
        for depth in (8, 16):
            yield f"{name}_{depth}.png", png(colour, depth)
    for depth in (1, 2, 4):
        yield f"grey_{depth}.png", png(0, depth)
        yield f"palette_{depth}.png", png(3, depth, palette=rng.randbytes(3 << depth))
    yield "palette_8_transparent.png", png(3, 8, palette=rng.randbytes(600), transparency=rng.randbytes(150))
    yield "rgb_transparent.png", png(2, 8, transparency=bytes(6))
    yield "rgba_interlaced.png", png(6, 8, interlaced=True)
    yield "grey_16_interlaced.png", png(0, 16, interlaced=True)
    # Wrong by the letter of the format, and read by Pillow all the same.
    yield "rgb_wrong_checksum.png", png(2, 8, wrap=lambda z: pieces(z, 100, checksum=b"none"))
    yield "rgb_no_adler.png", png(2, 8, wrap=lambda z: pieces(z[:-4]))
    yield "rgba_interlaced_half_adler.png", png(6, 8, interlaced=True, wrap=lambda z: pieces(z[:-2]))
    yield "grey_16_pieces.png", png(0, 16, wrap=lambda z: pieces(z, 0, 1, 300, 300, checksum=b"none"))
    yield "rgb_small_window.png", png(2, 8, period=5, wrap=lambda z: pieces(small_window(z)))
    yield "rgb_unknown_chunk.png", png(2, 8, wrap=lambda z: chunk(b"ABCD", b"efg") + pieces(z))

    source = noise().crop((0, 0, 60, 40)).resize((97, 61), Image.BICUBIC)
    for name, subsampling in (("444", 0), ("422", 1), ("420", 2)):
        yield f"rgb_{name}.jpg", jpeg(source, subsampling=subsampling, quality=85)
    yield "progressive.jpg", jpeg(source, progressive=True, quality=85)
    yield "grey.jpg", jpeg(source.convert("L"), quality=85)
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: Pillow leaves it to the caller, so it is not applied
    yield "orientation.jpg", jpeg(source, exif=exif)
    cmyk = jpeg(Image.merge("CMYK", [*source.split(), source.convert("L")]), quality=85)
    yield "cmyk.jpg", cmyk
    adobe = cmyk.index(b"Adobe")
    yield "ycck.jpg", cmyk[: adobe + 11] + b"\2" + cmyk[adobe + 12 :]  # the marker's transform byte


# --- writing and checking -----------------------------------------------------------------------


def read(data):
    """The checksum of the pixels that Pillow reads; None where it refuses."""
    try:
        return checksum(Image.open(io.BytesIO(data)).convert("RGB"))
    except Exception:  # whatever its plugins raise
        return None


def bytes_needed(data):
    """How much of a file from its beginning is enough for Pillow."""
    least = len(data)
    while least > 0 and read(data[: least - 1]) is not None:
        least -= 1
    return least


def resized_and_cropped(image, short, height, width):
    """torchvision's Resize(short) and CenterCrop((height, width))."""
    w, h = image.size
    size = (short, int(short * h / w)) if w <= h else (int(short * w / h), short)
    image = image.resize(size, Image.BICUBIC)
    top, left = round((image.height - height) / 2), round((image.width - width) / 2)
    return image.crop((left, top, left + width, top + height))


def write():
    GOLDENS.mkdir(exist_ok=True)
    rng = random.Random(2)
    with open(GOLDENS / "pictures.txt", "w") as listing:
        for name, data in pictures():
            (GOLDENS / name).write_bytes(data)
            image = Image.open(io.BytesIO(data)).convert("RGB")
            print(name, image.height, image.width, checksum(image), bytes_needed(data), file=listing)
    source = noise()
    with open(GOLDENS / "resize.txt", "w") as listing:
        sides = [1, 2, 3, 7, 224, 256, 365, NOISE_SIDE]
        for case in range(240):
            pick = (lambda: rng.choice(sides)) if case % 4 == 0 else (lambda: rng.randint(1, NOISE_SIDE))
            w, h, to_w, to_h = pick(), pick(), pick(), pick()
            if case % 10 == 1:
                to_w = w
            if case % 10 == 2:
                to_h = h
            image = source.crop((0, 0, w, h)).resize((to_w, to_h), Image.BICUBIC)
            print(h, w, to_h, to_w, checksum(image), file=listing)
    with open(GOLDENS / "crop.txt", "w") as listing:
        for size in (32, 224, 224, 224, 256, 320, 320, 320):
            w, h, short = rng.randint(1, NOISE_SIDE), rng.randint(1, NOISE_SIDE), int(size / 0.875)
            image = resized_and_cropped(source.crop((0, 0, w, h)), short, size, size)
            print(h, w, short, size, size, checksum(image), file=listing)
    print(f"written with Pillow {PIL.__version__}")


def check(tool, count):
    rng = random.Random()
    with tempfile.TemporaryDirectory() as folder:
        cases, expected = [], []
        for i in range(count):
            if i % 20 == 0:  # a new source for every 20 sizes, one in two a large one
                limit = rng.choice((300, 3000))
                w, h = rng.randint(1, limit), rng.randint(1, limit)
                source = Image.frombytes("RGB", (w, h), rng.randbytes(w * h * 3))
                path = Path(folder) / f"{i}.png"
                source.save(path, compress_level=1)
            w, h = (rng.randint(1, rng.choice((40, 600, 1500))) for _ in range(2))
            cases.append(f"{path} {h} {w}")
            expected.append(checksum(source.resize((w, h), Image.BICUBIC)))
        run = subprocess.run([tool], input="\n".join(cases), capture_output=True, text=True, check=True)
    wrong = [c for c, e, got in zip(cases, expected, run.stdout.split(), strict=True) if e != int(got)]
    print(f"{count} sizes against Pillow {PIL.__version__}: {len(wrong)} differ", *wrong[:5], sep="\n")
    return 1 if wrong else 0


def damaged(data, rng):
    """A PNG file with something wrong in or behind the compressed pixels, or a wrong checksum in front of them."""
    at, front, pixels = len(SIGNATURE), [], b""
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        if kind == b"IDAT":
            pixels += body
        elif kind != b"IEND":
            front.append((kind, body))
        at += 12 + length
    wrong = rng.randrange(len(front)) if rng.random() < 0.1 else -1
    out = SIGNATURE + b"".join(chunk(k, b, b"none" if i == wrong else None) for i, (k, b) in enumerate(front))
    pixels = rng.choice([pixels, pixels, pixels[: -rng.randrange(1, 8)], pixels[:-4] + rng.randbytes(4), pixels + b"more"])
    cuts = sorted(rng.randrange(len(pixels)) for _ in range(rng.choice((0, 0, 1, 4))))
    whole = out + pieces(pixels, *cuts, checksum=rng.choice((None, b"none"))) + END
    if rng.random() < 0.1:
        place = rng.randrange(len(out) + 8, len(whole))
        whole = whole[:place] + rng.randbytes(1) + whole[place + 1 :]
    return whole[: len(whole) - rng.randrange(30)] if rng.random() < 0.5 else whole


def check_damaged(tool, count):
    rng = random.Random()
    sources = [data for name, data in pictures() if name.endswith(".png")]
    with tempfile.TemporaryDirectory() as folder:
        paths, expected = [], []
        for i in range(count):
            paths.append(Path(folder) / f"{i}.png")
            paths[-1].write_bytes(damaged(rng.choice(sources), rng))
            expected.append(read(paths[-1].read_bytes()))
        run = subprocess.run([tool], input="".join(f"{p} 0 0\n" for p in paths), capture_output=True, text=True, check=True)
        found = [None if line.startswith("refused") else int(line) for line in run.stdout.splitlines()]
        wrong = [i for i in range(count) if expected[i] is not None and found[i] != expected[i]]
        for i in wrong[:5]:
            print(f"Pillow: {expected[i]}, here: {found[i]}: {paths[i].read_bytes().hex()}")
    # Pillow asks for more where zlib has taken all bytes and not yet given all that they hold.
    alone = sum(e is None and f is not None for e, f in zip(expected, found))
    print(f"{count} damaged files, of which Pillow {PIL.__version__} reads {count - expected.count(None)}: {len(wrong)} of "
          f"these differ, and {alone} are read here alone")
    return 1 if wrong or alone > count / 100 else 0


if __name__ == "__main__":
    if sys.argv[1:] == ["write"]:
        write()
    elif sys.argv[1:2] in (["check"], ["damage"]) and len(sys.argv) in (3, 4):
        compare = check if sys.argv[1] == "check" else check_damaged
        sys.exit(compare(sys.argv[2], int(sys.argv[3]) if len(sys.argv) == 4 else 1000))
    else:
        sys.exit(__doc__)
