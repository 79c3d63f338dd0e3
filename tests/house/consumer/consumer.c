#include <replk/replk.h>
#include <stdio.h>

int main(void) {
  puts(replk_version());
  return 0;
}
