// Packs: .nemo files that hold a model with its matrices already in kernel order. They map into
// memory at once, and all processes that run the model share its pages.
//
// A pack is laid out as a GGUF with another magic, so that no other program takes it for one; the
// keys and checksums it adds are described in docs/FORMATS.md. Which kernels read it:
// kernel_order.hpp.
#pragma once

#include <nemo/base/progress.hpp>
#include <nemo/checkpoint/checkpoint.hpp>
#include <nemo/kernels.hpp>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace nemo {

struct PackOptions {
  int threads = 1;
  bool replace = false;       // an existing file
  ProgressCallback progress;  // (bytes done, bytes in all); from any thread, one call at a time
};

struct PackReport {
  PackInfo info;
  std::size_t tensors = 0;
  std::uint64_t file_bytes = 0;
  std::vector<std::string> notes;  // what was left out, in sentences
};

/// Writes the model at `model` to `out` in the order of `kernels`. Memory stays at a few MiB a
/// thread. Throws Error{usage} for kernels without an order or when `out` is the model itself,
/// {unsupported} for a pack, {io} (before writing when the
/// disk is too small), {cancelled}; then nothing is left behind.
PackReport write_pack(const std::filesystem::path& model, const std::filesystem::path& out,
                      const Kernels& kernels, const PackOptions& options);

/// Compares every tensor of a pack with its checksum; opening one only checks the header. Throws
/// Error{bad_file} naming the tensor, {unsupported} when `path` is not a pack, {cancelled}.
PackReport verify_pack(const std::filesystem::path& path, const PackOptions& options);

}  // namespace nemo
