// Where saved bytes go to and come from.
#pragma once

#include <cstddef>
#include <functional>

namespace nemo {

/// Takes bytes in order.
using ByteSink = std::function<void(const void* data, std::size_t bytes)>;
/// Gives them back in the same order and pieces; throws when there are no more.
using ByteSource = std::function<void(void* data, std::size_t bytes)>;

}  // namespace nemo
