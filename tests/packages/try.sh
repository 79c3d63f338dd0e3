#!/bin/bash
# Installs the Debian packages of a folder into the system it runs in, uses them as a newcomer would, and removes them:
# try.sh FOLDER, as root in a bare system (a debootstrap root, a container) that has nothing else of this project.
set -euo pipefail
packages=$(readlink -f "$1")
export DEBIAN_FRONTEND=noninteractive
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

apt-get -q update
dpkg-query -W -f '${Package}\n' | sort > before
# A minimal system leaves manuals out.
rm -f /etc/dpkg/dpkg.cfg.d/docker
apt-get -qy install --no-install-recommends "$packages"/libreplk-cpu0_*.deb "$packages"/libreplk-cpu-dev_*.deb "$packages"/replk_*.deb
apt-get -qy install --no-install-recommends gcc libc6-dev pkg-config man-db bash-completion

cat > use.c << 'END'
#include <math.h>
#include <replk/replk.h>
#include <stdio.h>
int main(void) {
  static float weights[8 * 49], src[8 * 10 * 10], dst[8 * 10 * 10];
  const float* all[] = {weights};
  replk_depthwise* plan = NULL;
  for (int i = 0; i < 8 * 49; i++) weights[i] = 1;
  for (int i = 0; i < 8 * 100; i++) src[i] = 1;
  if (replk_depthwise_create_from_shape("n1c8h10w10k7", all, NULL, NULL, &plan) != REPLK_OK ||
      replk_depthwise_run(plan, src, dst, NULL, NULL, 0) != REPLK_OK)
    return puts(replk_last_error()), 1;
  printf("%s: %s\n", replk_version(), replk_depthwise_tiling(plan));
  replk_depthwise_destroy(plan);
  return fabsf(dst[(4 * 10 + 4) * 8] - 49) > 1e-4f || fabsf(dst[0] - 16) > 1e-4f; /* 7 x 7 and 4 x 4 taps meet the map */
}
END
gcc -Wall -Werror use.c $(pkg-config --cflags --libs replk_cpu) -lm -o use
./use

replk info
[[ $(replk info --json) == *'"isa"'* ]]
replk bench model replknet-test --json --seconds 0.1 > model.json 2> /dev/null || replk bench model --help > /dev/null
MANPAGER=cat man replk | grep -q SYNOPSIS
MANPAGER=cat man replk-bench-model | grep -q -- --precision
bash -c 'source /usr/share/bash-completion/bash_completion; source /usr/share/bash-completion/completions/replk
         COMP_WORDS=(replk tu) COMP_CWORD=1; _replk; [[ ${COMPREPLY[*]} == tune ]]'

apt-get -qy purge replk libreplk-cpu-dev libreplk-cpu0
for left in /usr/share/replk /usr/include/replk /usr/lib/x86_64-linux-gnu/replk /usr/share/doc/libreplk-cpu0; do
  [[ ! -e $left ]] || { echo "left behind: $left"; exit 1; }
done
[[ -z $(find /usr -name '*replk*' -print -quit) ]] || { find /usr -name '*replk*'; exit 1; }
echo "the packages install, work and leave nothing"
