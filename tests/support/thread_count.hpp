// How many threads this process has.
#pragma once
#include <fstream>
#include <string>

namespace replk::test {

inline int thread_count() {
  std::ifstream file("/proc/self/status");
  std::string word;
  int count = -1;
  while (file >> word)
    if (word == "Threads:") file >> count;
  return count;
}

}  // namespace replk::test
