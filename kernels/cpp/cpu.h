// Which instruction sets this build has and this processor runs.
#pragma once

#include <string>
#include <vector>

#include "kernels.h"

namespace pairscore {

// Best first.
std::vector<const Kernels*> available_kernels();

// The table of that name, or the best one where the name is empty. std::invalid_argument where it cannot run here.
const Kernels& find_kernels(const std::string& name);

// The fastest table of the same instruction set for weights that have narrow_sums() (layers.h), or not.
const Kernels& for_weights(const Kernels& kernels, bool narrow);

}  // namespace pairscore
