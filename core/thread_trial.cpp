#include "core/thread_trial.hpp"

#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <mutex>

namespace replk::core {
namespace {

/// What libgomp gives its threads, which reads it when it is loaded; 0: the system's default.
std::size_t openmp_stack() {
  for (const char* name : {"OMP_STACKSIZE", "GOMP_STACKSIZE"})
    if (const char* text = std::getenv(name))
      if (const std::size_t bytes = stack_bytes(text); bytes > 0) return bytes;
  return 0;
}
const std::size_t stack_of_openmp = openmp_stack();

/// Bytes: libgomp ends the process where it finds no memory for a team, and a run wants its workspace.
constexpr std::size_t left_to_others = std::size_t{64} << 20;

/// Address space, taken and given back.
class Reserve {
 public:
  explicit Reserve(std::size_t bytes)
      : bytes_(bytes),
        at_(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {}
  ~Reserve() {
    if (taken()) munmap(at_, bytes_);
  }
  Reserve(const Reserve&) = delete;
  Reserve& operator=(const Reserve&) = delete;
  bool taken() const { return at_ != MAP_FAILED; }

 private:
  std::size_t bytes_;
  void* at_;
};

/// Waits until the thread that made this one has made them all.
void* stand(void* gate) {
  std::lock_guard<std::mutex> lock(*static_cast<std::mutex*>(gate));
  return nullptr;
}

}  // namespace

std::size_t stack_bytes(std::string_view text) {
  const auto skip_blanks = [&] {
    while (!text.empty() && std::isspace(static_cast<unsigned char>(text[0]))) text.remove_prefix(1);
  };
  skip_blanks();
  std::size_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return 0;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  skip_blanks();
  int shift = 10;
  if (!text.empty()) {
    const int unit = std::toupper(static_cast<unsigned char>(text[0]));
    if (unit != 'B' && unit != 'K' && unit != 'M' && unit != 'G') return 0;
    shift = unit == 'B' ? 0 : unit == 'K' ? 10 : unit == 'M' ? 20 : 30;
    text.remove_prefix(1);
    skip_blanks();
  }
  return text.empty() && number <= SIZE_MAX >> shift ? number << shift : 0;
}

int threads_to_be_had(int wanted) {
  const Reserve reserve(left_to_others);
  pthread_attr_t attributes;
  if (!reserve.taken() || pthread_attr_init(&attributes) != 0) return 0;
  // Refused where it is below the least there is, as libgomp's own call is: the default stays.
  if (stack_of_openmp > 0) pthread_attr_setstacksize(&attributes, stack_of_openmp);
  pthread_t threads[most_threads];
  int made = 0;
  {
    std::mutex gate;
    std::unique_lock<std::mutex> closed(gate);
    while (made < std::min(wanted, most_threads) &&
           pthread_create(&threads[made], &attributes, stand, &gate) == 0)
      made++;
    closed.unlock();
    for (int i = 0; i < made; i++) pthread_join(threads[i], nullptr);
  }
  pthread_attr_destroy(&attributes);
  return made;
}

}  // namespace replk::core
