// How turboquant-mlx rounds rotated rows of its KV cache: a group is divided by its root mean
// square, coded by the codebook of that program (not quite Lloyd-Max, at 8 bits far from it) and
// decoded in half precision.
#pragma once

#include "safetensors.hpp"

#include <nemo/base/half.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

namespace nemo::test {

class TurboQuantRule {
 public:
  /// 2, 3, 4 or 8 bits.
  explicit TurboQuantRule(int bits) {
    const auto books = read_safetensors(std::string(NEMO_SOURCE_DIR) +
                                        "/tests/data/kv/turboquant_mlx_codebooks.safetensors");
    const std::string name = "b" + std::to_string(bits);
    levels_ = books.at(name + ".levels").as<float>();
    borders_ = books.at(name + ".borders").as<float>();
  }

  struct Group {
    std::vector<int> codes;
    Half scale;
  };
  /// The group's values become what its codes decode to.
  Group round(float* x, std::size_t count) const {
    double squares = 0;
    for (std::size_t i = 0; i < count; ++i) squares += double(x[i]) * double(x[i]);
    const auto rms = std::max(static_cast<float>(std::sqrt(squares / double(count))), 1e-7f);
    Group group{{}, to_half(rms)};
    for (std::size_t i = 0; i < count; ++i) {
      const auto above = std::upper_bound(borders_.begin(), borders_.end(), x[i] / rms);
      const auto code = static_cast<std::size_t>(above - borders_.begin());
      group.codes.push_back(static_cast<int>(code));
      const float level = to_float(to_half(levels_[code]));
      x[i] = to_float(to_half(level * to_float(group.scale)));
    }
    return group;
  }

 private:
  std::vector<float> levels_, borders_;
};

}  // namespace nemo::test
