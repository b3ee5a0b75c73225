// How long jobs report: one callback, told what is done of how much, able to stop the job.
#pragma once

#include <cstdint>
#include <functional>

namespace nemo {

/// Called between units of work with (done, total); returning false cancels the job, which then
/// throws Error{cancelled}. May be empty.
using ProgressCallback = std::function<bool(std::uint64_t done, std::uint64_t total)>;

}  // namespace nemo
