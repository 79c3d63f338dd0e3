#!/bin/bash
# A small trained network on clothes it has never seen, then RepLKNet-31B: how long it takes in fp32, bf16 and int8, and how
# long oneDNN takes for the same depthwise layers. `./run demo` builds the program and calls this.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

usage() {
  cat << 'END'
usage: examples/demo.sh [--weights FILE.safetensors] [--model NAME] [--size HxW] [IMAGE]

The first part runs replknet-nano, which is trained and ships with the program. Of the second:
  --weights FILE   a real checkpoint; see python/convert.py. Without it, weights are random, and only speed is shown.
  --model NAME     another network (default: replknet-31b)
  --size HxW       another input size (default: 224)
  IMAGE            another photograph (default: examples/chelsea.png); classified where there are weights
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

title "replknet-nano, trained on Fashion-MNIST, on images of its test set"
build/replk classify examples/fashion-mnist/*.png --model replknet-nano --threads 1 --top 1 --times

title "Its accuracy"
test_set=/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz
if [[ -e $test_set ]]; then
  echo "All 10,000 test images:"
else
  echo "Debian's package dataset-fashion-mnist is not here; the first 200 test images instead of all 10,000:"
  test_set=examples/fashion-mnist/first200-images-idx3-ubyte.gz
fi
for precision in fp32 bf16 int8; do
  build/replk eval --model replknet-nano --threads 1 --precision "$precision" --images "$test_set"
done

if ((${#weights[@]})); then
  title "What $model sees in $image"
  build/replk classify "$image" --model "$model" --size "$size" "${weights[@]}"
fi

title "How long $model takes in each precision, and how long with oneDNN's depthwise layers"
((${#weights[@]})) || cat << 'END'
Its weights are random numbers here: right for timing, no use for seeing. Checkpoints cannot be shipped; with a real one:
  python3 python/convert.py RepLKNet-31B_ImageNet-1K_224.pth 31b.safetensors
  ./run demo --weights 31b.safetensors
END
cat << 'END'
The kernels are generated now, for this CPU. Choices that this machine has not made before are a cost model's here: minutes
with `build/replk tune --model NAME` make them better.
END
for precision in fp32 bf16 int8; do
  echo
  REPLK_TUNING=${REPLK_TUNING-cached} build/replk bench model "$model" --size "$size" "${weights[@]}" --precision "$precision" \
    --threads 1 --rounds 3 --peers
done
