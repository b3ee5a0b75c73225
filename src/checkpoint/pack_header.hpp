// The keys and checksums by which a .nemo file differs from a GGUF; docs/FORMATS.md describes them.
#pragma once

#include <nemo/checkpoint/checkpoint.hpp>
#include <nemo/io/gguf.hpp>

#include <cstdint>
#include <span>
#include <string_view>
#include <unordered_set>

namespace nemo {

/// 3: groups of rows lie in slabs, strip after strip (KernelOrder). Files of older versions have
/// another order.
inline constexpr std::uint32_t kPackVersion = 3;
inline constexpr std::string_view kPackKeys = "nemo.pack.";
inline constexpr std::string_view kPackVersionKey = "nemo.pack.version";
inline constexpr std::string_view kPackOrderKey = "nemo.pack.order";
inline constexpr std::string_view kPackTensorsKey = "nemo.pack.tensors";
inline constexpr std::string_view kPackSourceKey = "nemo.pack.source";
inline constexpr std::string_view kPackCpuKey = "nemo.pack.cpu";
/// A tensor of [1 + tensors before it] I64: the header's checksum, then each tensor's.
inline constexpr std::string_view kPackChecksums = "nemo.pack.checksums";
/// Rows of a piece that is hashed by itself.
inline constexpr std::int64_t kPackHashRows = 16;

struct PackHeader {
  PackInfo info;
  std::unordered_set<std::string_view> tensors;  // stored names of those in kernel order
};

/// Throws Error{bad_file} or {unsupported} when the keys are missing or make no sense, also when a
/// GGUF has them.
[[nodiscard]] std::optional<PackHeader> read_pack_header(const Gguf& gguf);

/// The numbers of kPackChecksums. Throws Error{bad_file} unless there is one for each tensor.
[[nodiscard]] std::span<const std::byte> pack_checksums(const Gguf& gguf);
[[nodiscard]] std::uint64_t pack_checksum(std::span<const std::byte> numbers, std::size_t index);

/// Throws Error{bad_file} when the header's bytes do not have their checksum.
void check_pack_header(const Gguf& gguf);

/// What rows [first_row, ..) of a tensor add to its checksum, the sum modulo 2^64 of the hashes of
/// its pieces of kPackHashRows rows, each with its number as seed. `first_row` starts a piece.
[[nodiscard]] std::uint64_t hash_rows(std::span<const std::byte> bytes, std::int64_t first_row,
                                      std::int64_t row_bytes) noexcept;

}  // namespace nemo
