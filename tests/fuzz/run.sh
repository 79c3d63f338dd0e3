#!/bin/bash
# run.sh BUILD SECONDS [NAME...]: each fuzz target for that long (or those named), JPEG and PNG apart, the C API with generated
# code and with portable code, which the sanitizers see whole. What was found is kept in BUILD/corpus and goes
# on from there; an input that breaks something is left in BUILD. Exits with 1 if any did. The limits that count are in
# limits.hpp; libFuzzer's catch what never ends, and single blocks of memory.
set -euo pipefail
build=$1 seconds=$2
shift 2
all=(shape tune_cache texts command_line safetensors network_file calibration c_api c_api_portable jpeg png)
tests=$(cd "$(dirname "$0")/.." && pwd)
# Who allocated is told two calls deep: more takes a fifth of the time.
[[ ! -w /dev/shm ]] || export TMPDIR=/dev/shm # folders of pictures are made and removed for each input
export ASAN_OPTIONS=malloc_context_size=2:quarantine_size_mb=16:allocator_may_return_null=0:${ASAN_OPTIONS-}

seed() { # the examples each starts from
  case $1 in
    c_api_portable) seed c_api ;;
    jpeg) find "$tests/image/goldens" -name '*.jpg' ;;
    png) find "$tests/image/goldens" -name '*.png' ;;
    safetensors) find "$tests/model/goldens" -name '*.safetensors' -size -64k ;;
  esac
  [[ ! -d $tests/fuzz/seeds/$1 ]] || find "$tests/fuzz/seeds/$1" -type f
}

failed=0 total=0
for name in "${@:-${all[@]}}"; do
  target=$name longest=4096 environment=()
  case $name in
    jpeg | png) target=image longest=16384 ;;
    c_api_portable) target=c_api longest=256 environment=(REPLK_MAX_ISA=portable) ;;
    safetensors) longest=16384 ;;
    shape | command_line) longest=512 ;;
    c_api | network_file | calibration) longest=256 ;;
  esac
  corpus=$build/corpus/$name log=$build/fuzz_$name.log
  mkdir -p "$corpus"
  seed "$name" | xargs -r cp -t "$corpus"
  if ! env "${environment[@]}" "$build/fuzz_$target" "$corpus" -max_total_time="$seconds" -max_len=$longest -timeout=600 -malloc_limit_mb=256 \
    -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="$build/$name-" 2> "$log"; then
    failed=1
    tail -n 40 "$log" >&2
  fi
  inputs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  total=$((total + ${inputs:-0}))
  echo "fuzz $name: ${inputs:-0} inputs in $seconds s, $(sed -n 's/^stat::peak_rss_mb: *//p' "$log") MB resident at most"
done
echo "fuzz: $total inputs, $([[ $failed == 0 ]] && echo "nothing broke" || echo "see above")"
exit $failed
