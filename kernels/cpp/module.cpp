// The Python module pairscore_kernels._core. Its functions check sizes alone; the package around it checks the rest.
#include <nanobind/stl/vector.h>

#include "arrays.h"
#include "cpu.h"

NB_MODULE(_core, module) {
  using namespace pairscore;
  module.def("available", [] {
    std::vector<std::string> names;
    for (const Kernels* kernels : available_kernels()) names.emplace_back(kernels->name);
    return names;
  });
  bind_encoder(module);
  bind_operations(module);
}
