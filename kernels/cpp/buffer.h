// An array whose first element lies on a cache line, zero at first.
#pragma once

#include <cstddef>
#include <memory>
#include <new>

#include "kernels.h"

namespace pairscore {

template <class Element>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t size) : elements_(allocate(size)), size_(size) {}

  // Makes room for `size` elements; their values are lost if it has to grow.
  void reserve(std::size_t size) {
    if (size > size_) *this = Buffer(size);
  }
  Element* data() { return elements_.get(); }
  const Element* data() const { return elements_.get(); }
  std::size_t size() const { return size_; }
  Element& operator[](std::size_t i) { return elements_[i]; }

 private:
  struct Free {
    void operator()(Element* elements) const { ::operator delete(elements, std::align_val_t{kAlignment}); }
  };
  static Element* allocate(std::size_t size) {
    void* memory = ::operator new(size * sizeof(Element), std::align_val_t{kAlignment});
    return new (memory) Element[size]();
  }

  std::unique_ptr<Element[], Free> elements_;
  std::size_t size_ = 0;
};

}  // namespace pairscore
