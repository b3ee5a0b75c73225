// The JSON files that describe a directory's weights.
#pragma once

#include <nemo/checkpoint/config.hpp>
#include <nemo/checkpoint/directory_layout.hpp>

#include <cstdint>
#include <vector>

namespace nemo {

/// Ascending centroids of a TurboQuant width; 0 bits: ternary.
[[nodiscard]] std::vector<float> turboquant_codebook(int bits);

/// Adds what readers need to know about the recipe to a config.json; nothing for BF16.
void put_quantization(nlohmann::ordered_json& json, const ModelConfig& config,
                      const DirectoryRecipe& recipe);

/// The hf_quant_config.json of a ModelOpt directory; null for others.
[[nodiscard]] nlohmann::ordered_json hf_quant_config(const ModelConfig& config,
                                                     const DirectoryRecipe& recipe);

}  // namespace nemo
