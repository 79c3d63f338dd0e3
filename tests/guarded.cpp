#include "tests/guarded.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "core/cpu.hpp"
#include "core/memory.hpp"

// Functions of their own in assembly: a compiler ends any that it sees with vzeroupper.
__asm__(R"(
.text
.type replk_test_poison_avx2, @function
replk_test_poison_avx2:
  endbr64
.irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
  vxorps %xmm\r, %xmm\r, %xmm\r
  vcmptrueps %ymm\r, %ymm\r, %ymm\r
.endr
  ret
.size replk_test_poison_avx2, . - replk_test_poison_avx2
.type replk_test_poison_avx512, @function
replk_test_poison_avx512:
  endbr64
.irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
  vpternlogd $0xff, %zmm\r, %zmm\r, %zmm\r
.endr
.irp r,0,1,2,3,4,5,6,7
  kxnorq %k\r, %k\r, %k\r
.endr
  ret
.size replk_test_poison_avx512, . - replk_test_poison_avx512
)");
extern "C" void replk_test_poison_avx2();
extern "C" void replk_test_poison_avx512();

namespace replk::test {
namespace {

constexpr unsigned char canary = 0xff;

std::size_t page() {
  static const auto size = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return size;
}

[[gnu::noinline]] void poison_stack() {
  unsigned char frame[256 << 10];
  std::memset(frame, canary, sizeof frame);
  __asm__ volatile("" ::"r"(frame) : "memory");
}

}  // namespace

Guarded::Guarded(std::size_t bytes, Side side, std::size_t gap)
    : room_(core::round_up(std::max<std::size_t>(bytes + gap, 1), page())), bytes_(bytes) {
  void* const mapping = mmap(nullptr, room_ + 2 * page(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) throw std::bad_alloc();
  inside_ = static_cast<unsigned char*>(mapping) + page();
  if (mprotect(inside_, room_, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
  std::memset(inside_, canary, room_);
  data_ = side == Side::begin ? inside_ + gap : inside_ + room_ - gap - bytes;
}

Guarded::~Guarded() {
  munmap(inside_ - page(), room_ + 2 * page());
}

bool Guarded::intact() const {
  const auto untouched = [](unsigned char byte) { return byte == canary; };
  return std::all_of(inside_, data_, untouched) && std::all_of(data_ + bytes_, inside_ + room_, untouched);
}

void poison() {
  poison_stack();
  const Isa isa = core::cpu().hardware;
  if (isa == Isa::avx512)
    replk_test_poison_avx512();
  else if (isa == Isa::avx2)
    replk_test_poison_avx2();
}

}  // namespace replk::test
