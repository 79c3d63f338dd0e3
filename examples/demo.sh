#!/bin/bash
# RepLKNet-31B on a photograph: what it sees, how long it takes, and how long oneDNN takes for the same depthwise layers.
# `./run demo` builds the program and calls this.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

usage() {
  cat << 'END'
usage: examples/demo.sh [--weights FILE.safetensors] [--model NAME] [--size HxW] [IMAGE]

  --weights FILE   a real checkpoint; see python/convert.py. Without it, weights are random.
  --model NAME     another network (default: replknet-31b)
  --size HxW       another input size (default: 224)
  IMAGE            another photograph (default: examples/chelsea.png)
END
}

model=replknet-31b
size=224
image=examples/chelsea.png
weights=()
while (($#)); do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --weights | --model | --size)
      (($# >= 2)) || { echo "demo.sh: $1 needs a value" >&2; exit 2; }
      case $1 in
        --weights) weights=(--weights "$2") ;;
        --model) model=$2 ;;
        --size) size=$2 ;;
      esac
      shift 2
      ;;
    -*) usage >&2; exit 2 ;;
    *) image=$1; shift ;;
  esac
done

bold='' plain=''
[[ ! -t 1 ]] || bold=$'\e[1m' plain=$'\e[0m'
title() { printf '\n%s%s%s\n' "$bold" "$1" "$plain"; }

[[ -x build/replk ]] || { echo "demo.sh: build/replk is not built yet; ./run demo builds it" >&2; exit 2; }

title "This machine"
build/replk info

title "What the network sees in $image"
build/replk classify "$image" --model "$model" --size "$size" "${weights[@]}"
((${#weights[@]})) || cat << 'END'

  Checkpoints cannot be shipped with the library. With a real one:
    python3 python/convert.py RepLKNet-31B_ImageNet-1K_224.pth 31b.safetensors
    ./run demo --weights 31b.safetensors
END

title "How long it takes, and where the time goes"
echo "The kernels are generated now, for this CPU; choices that this machine has not made before are measured first."
build/replk bench model "$model" --size "$size" "${weights[@]}" --profile --peers
