#!/bin/bash
# A minute of each fuzz target, for the long tests. Installs nothing: without Clang and its fuzzer it skips.
set -euo pipefail
compiler=$(type -P clang++ || type -P clang++-14) || {
  echo "skipped: there is no clang++; ./run fuzz installs it"
  exit 77
}
probe=$(mktemp -d)
trap 'rm -rf "$probe"' EXIT
echo 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }' > "$probe/probe.cpp"
"$compiler" -fopenmp -fsanitize=fuzzer,address,undefined "$probe/probe.cpp" -o "$probe/probe" 2> "$probe/log" || {
  echo "skipped: $compiler has no fuzzer, sanitizers or OpenMP here; ./run fuzz installs them"
  exit 77
}
"$(dirname "$0")/../../run" fuzz 60
