// The golden blocks of tests/data/blocks: every format's bytes and what they decode to.
#pragma once

#include "support/safetensors.hpp"

#include <nemo/tensor/dtype.hpp>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace nemo::test {

inline const std::map<std::string, TestTensor>& golden_blocks() {
  static const auto tensors =
      read_safetensors(std::string(NEMO_SOURCE_DIR) + "/tests/data/blocks/blocks.safetensors");
  return tensors;
}

/// Types that the golden file has, e.g. to loop over with INFO(info(type).name).
inline std::vector<DType> golden_types() {
  std::vector<DType> types;
  for (const DTypeInfo& i : all_dtypes()) {
    if (golden_blocks().count(std::string(i.name) + ".raw") != 0) types.push_back(i.type);
  }
  return types;
}

/// "raw", "deq", "y", "rand.raw" or "rand.deq" of one type.
inline const TestTensor& golden(DType type, const std::string& what) {
  return golden_blocks().at(std::string(info(type).name) + "." + what);
}

}  // namespace nemo::test
