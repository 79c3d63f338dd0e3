#!/usr/bin/env python3
"""A process that loads the library has one OpenMP runtime, whichever compiler built it: two would be two pools of threads."""
import ctypes
import re
import sys

library = ctypes.CDLL(sys.argv[1])
library.replk_version.restype = ctypes.c_char_p
library.replk_version()
with open("/proc/self/maps") as maps:
    runtimes = sorted(set(re.findall(r"lib(?:gomp|omp|iomp5)[-.0-9a-f]*\.so[.0-9]*", maps.read())))
print("OpenMP runtimes:", *runtimes)
sys.exit(len(runtimes) != 1)
