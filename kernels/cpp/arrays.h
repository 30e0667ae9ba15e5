// How Python arrays reach C++: contiguous, in memory of the processor, of exactly the element type that is asked for.
// Shapes are checked in Python (plan.py, operations.py); sizes once more here, since these functions write memory.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <stdexcept>
#include <string>

#include "kernels.h"

namespace pairscore {

namespace nb = nanobind;

template <class Element, std::size_t kDimensions>
using Array = nb::ndarray<Element, nb::ndim<kDimensions>, nb::c_contig, nb::device::cpu>;
using Matrix = Array<const float, 2>;
using Vector = Array<const float, 1>;
using OutMatrix = Array<float, 2>;
using Ids = Array<const std::int32_t, 2>;

inline void require(bool condition, const std::string& what) {
  if (!condition) throw std::invalid_argument(what);
}

// Data of a named array. The dictionary keeps it alive.
template <class Element>
const Element* tensor(const nb::dict& tensors, const std::string& name, std::size_t size) {
  require(tensors.contains(name.c_str()), "tensor " + name + " is missing");
  nb::ndarray<const Element, nb::c_contig, nb::device::cpu> array;
  require(nb::try_cast(tensors[name.c_str()], array, false), "tensor " + name + " has another element type");
  require(array.size() == size, "tensor " + name + " has another size");
  return array.data();
}

inline Activation parse_activation(const std::string& name) {
  if (name == "none") return Activation::none;
  if (name == "relu") return Activation::relu;
  if (name == "gelu") return Activation::gelu;
  if (name == "gelu_tanh") return Activation::gelu_tanh;
  if (name == "tanh") return Activation::tanh;
  throw std::invalid_argument("activation is " + name + ", not one of none, relu, gelu, gelu_tanh, tanh");
}

void bind_encoder(nb::module_& module);
void bind_operations(nb::module_& module);

}  // namespace pairscore
