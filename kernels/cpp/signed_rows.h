// Rows of signed 8-bit values, which attention multiplies with each other, and the memory that it works in.
#pragma once

#include "kernels.h"

namespace pairscore {
namespace PAIRSCORE_ISA {
namespace {

// Queries are stored as unsigned values, which the product takes on its left: so much is added to each.
constexpr std::int32_t kQueryOffset = 128;

// Signed 8-bit values of rows, less `centre` where that is not null. The largest of a row becomes 127 or -127. Each
// step runs for all rows before the next step begins: row by row, the processor would wait for a maximum and for two
// divisions.
class SignedRows {
 public:
  // `count` rows of x from `first` on, at most kMostPanelColumns; behind row `last` that row again. Writes their
  // scales, in whole vectors.
  INLINE_MEMBER SignedRows(const float* x, std::size_t stride, std::size_t first, std::size_t count, std::size_t last,
                           const float* centre, std::size_t size, float* scales)
      : centre_(centre), size_(size) {
    F16 zero = splat(0.0f), one = splat(1.0f);
    for (std::size_t i = 0; i < count; i++) {
      rows_[i] = x + (first + i < last ? first + i : last) * stride;
      I16 high = splat(0);  // bits, which are in order where no float is negative
      for (std::size_t d = 0; d < size; d += kLanes) high = max(bits(absolute(centred(i, d))), high);
      inverses_[i] = largest(of_bits(high));
    }
    for (std::size_t i = 0; i < count; i += kLanes) {
      F16 scale = load(inverses_ + i) / splat(127.0f);
      scale = scale + (one - where_greater(scale, zero, one));  // 1 where it is 0
      store(scales + i, scale);
      store(inverses_ + i, one / scale);
    }
  }

  // Row i, with offset added.
  template <class Element>
  INLINE_MEMBER void write(std::size_t i, std::int32_t offset, Element* out) const {
    F16 inverse = splat(inverses_[i]);
    for (std::size_t d = 0; d < size_; d += kLanes)
      store_clamped(out + d, nearest(centred(i, d) * inverse) + splat(offset));
  }

 private:
  INLINE_MEMBER F16 centred(std::size_t i, std::size_t d) const {
    return centre_ ? load(rows_[i] + d) - load(centre_ + d) : load(rows_[i] + d);
  }

  const float* centre_;
  std::size_t size_;
  const float* rows_[kMostPanelColumns];
  alignas(kAlignment) float inverses_[kMostPanelColumns] = {};
};

// Parts of a piece of memory, each at the start of a cache line.
class Parts {
 public:
  explicit Parts(unsigned char* memory) : next_(memory) {}
  template <class Element>
  Element* take(std::size_t count) {
    unsigned char* part = next_;
    next_ += round_up(count * sizeof(Element), kAlignment);
    return reinterpret_cast<Element*>(part);
  }

 private:
  unsigned char* next_;
};

}  // namespace
}  // namespace PAIRSCORE_ISA
}  // namespace pairscore
