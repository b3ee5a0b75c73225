// Writes a ModelConfig as the config.json of a Hugging Face or MLX directory.
#pragma once

#include <nemo/checkpoint/config.hpp>

namespace nemo {

/// Legacy spelling, which every reader knows; layers of different sizes become `block_configs`.
/// config_from_json() reads all sizes back. Token ids are the caller's to add.
[[nodiscard]] nlohmann::ordered_json config_to_json(const ModelConfig& config);

}  // namespace nemo
