// A float is finite unless its exponent bits are all ones, whatever its width: whole planes are
// looked at as integers, at the speed of memory.
#include "stored_bytes.hpp"

#include <nemo/base/error.hpp>
#include <nemo/base/parallel.hpp>
#include <nemo/checkpoint/check_scales.hpp>
#include <nemo/io/printable.hpp>

#include <algorithm>
#include <cstring>

namespace nemo {
namespace {

constexpr std::size_t kPiece = 1 << 20;

/// A piece of a plane; the last one of each is shorter.
struct Job {
  const TensorRef* tensor;
  std::span<const std::byte> bytes;
};

template <class Word>
bool any_with(std::span<const std::byte> bytes, Word exponent) {
  constexpr std::size_t kWords = 4096;
  Word words[kWords];
  while (!bytes.empty()) {
    const std::size_t count = std::min(kWords, bytes.size() / sizeof(Word));
    if (count == 0) return false;
    std::memcpy(words, bytes.data(), count * sizeof(Word));
    unsigned found = 0;
    for (std::size_t i = 0; i < count; ++i) found |= (words[i] & exponent) == exponent ? 1u : 0u;
    if (found != 0) return true;
    bytes = bytes.subspan(count * sizeof(Word));
  }
  return false;
}

bool all_finite(const TensorRef& tensor, std::span<const std::byte> bytes) {
  switch (tensor.side.planes.type) {
    case ScaleType::f32:
      return !any_with<std::uint32_t>(bytes, 0x7f800000);
    case ScaleType::f16:
      return !any_with<std::uint16_t>(bytes, 0x7c00);
    case ScaleType::bf16:
      return !any_with<std::uint16_t>(bytes, 0x7f80);
    case ScaleType::e8m0:
      return !any_with<std::uint8_t>(bytes, 0xff);
    case ScaleType::e4m3:
      // MLX reads 0x7f as 480; in ModelOpt's files, which have a second scale, it is NaN.
      return tensor.scales.empty() || !any_with<std::uint8_t>(bytes, 0x7f);
    case ScaleType::none:
      break;
  }
  return true;
}

}  // namespace

void check_scales(const Checkpoint& checkpoint, int threads) {
  std::vector<Job> jobs;
  const auto add = [&jobs](const TensorRef& tensor, StoredPlane plane) {
    for (std::span<const std::byte> run : plane_bytes(tensor, plane, 0, tensor.count())) {
      while (!run.empty()) {
        jobs.push_back({&tensor, run.first(std::min(kPiece, run.size()))});
        run = run.subspan(jobs.back().bytes.size());
      }
    }
  };
  for (const TensorRef& tensor : checkpoint.tensors()) {
    if (tensor.side.planes.type == ScaleType::none) continue;
    add(tensor, StoredPlane::scales);
    if (tensor.side.row_bytes() > tensor.side.planes.stride) add(tensor, StoredPlane::biases);
  }
  parallel_for(threads, static_cast<std::int64_t>(jobs.size()), [&](std::int64_t i) {
    const Job& job = jobs[static_cast<std::size_t>(i)];
    if (all_finite(*job.tensor, job.bytes)) return;
    throw Error(
        ErrorCode::bad_file,
        checkpoint.path() + ": the scales of tensor " + in_quotes(job.tensor->stored) +
            " are not finite: the file is damaged or was converted wrongly; fetch it again");
  });
}

}  // namespace nemo
