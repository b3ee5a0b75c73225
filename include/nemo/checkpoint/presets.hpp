// Sizes of the published models, by name, for planning and synthetic checkpoints.
#pragma once

#include <nemo/checkpoint/config.hpp>

#include <span>
#include <string_view>

namespace nemo {

[[nodiscard]] std::span<const std::string_view> preset_names() noexcept;
/// The trunk of a preset, with `draft_head` also its draft head where it has one; any unambiguous
/// start of a name will do ("super-120b"). Throws Error{usage} listing the names.
[[nodiscard]] ModelConfig preset_config(std::string_view name, bool draft_head = false);

}  // namespace nemo
