#!/bin/bash
# run.sh BUILD SECONDS: each fuzz target for that long. What was found is kept in BUILD/corpus and goes on from there; an
# input that breaks something is left in BUILD. Exits with 1 if any did.
set -euo pipefail
build=$1 seconds=$2
tests=$(cd "$(dirname "$0")/.." && pwd)

seed() { # the examples each target starts from
  case $1 in
    image) find "$tests/image/goldens" -name '*.png' -o -name '*.jpg' ;;
    safetensors) find "$tests/model/goldens" -name '*.safetensors' -size -64k ;;
    *) find "$tests/fuzz/seeds/$1" -type f ;;
  esac
}

failed=0
for name in image safetensors shape tune_cache; do
  corpus=$build/corpus/$name
  mkdir -p "$corpus"
  seed "$name" | xargs -r cp -t "$corpus"
  echo "fuzz $name: $seconds s"
  if ! "$build/fuzz_$name" "$corpus" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 -verbosity=0 \
    -print_final_stats=1 -artifact_prefix="$build/$name-" 2> "$build/fuzz_$name.log"; then
    failed=1
    tail -n 40 "$build/fuzz_$name.log" >&2
  fi
  grep -E 'number_of_executed_units' "$build/fuzz_$name.log" || true
done
exit $failed
