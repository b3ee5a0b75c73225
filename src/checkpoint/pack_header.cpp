// Reading and checking what a pack says about itself.
#include "pack_header.hpp"

#include <nemo/base/error.hpp>
#include <nemo/base/hash.hpp>
#include <nemo/checkpoint/kernel_order.hpp>
#include <nemo/io/printable.hpp>

#include <algorithm>
#include <cstring>
#include <string>

namespace nemo {
namespace {

std::int64_t lanes_from(const Gguf& gguf) {
  const std::string_view name = gguf.get_string(kPackOrderKey);
  for (const std::int64_t lanes : {8, 16}) {
    if (name == order_name(lanes)) return lanes;
  }
  throw Error(ErrorCode::unsupported, gguf.name() + ": the pack is in order " + in_quotes(name) +
                                          ", which this version of nemo does not know; make it "
                                          "again with nemo pack");
}

}  // namespace

std::optional<PackHeader> read_pack_header(const Gguf& gguf) {
  const auto keys = gguf.keys();
  const bool has_keys = std::any_of(
      keys.begin(), keys.end(), [](std::string_view key) { return key.starts_with(kPackKeys); });
  if (gguf.magic() == GgufMagic::gguf) {
    if (has_keys) gguf.fail("it starts with GGUF but has the keys of a pack: the file is damaged");
    return std::nullopt;
  }
  const std::int64_t version = gguf.get_int(kPackVersionKey);
  if (version != kPackVersion) {
    const std::string source(gguf.find_string(kPackSourceKey).value_or("MODEL"));
    throw Error(ErrorCode::unsupported, gguf.name() + ": pack version " + std::to_string(version) +
                                            " is not supported, this version of nemo reads " +
                                            std::to_string(kPackVersion) +
                                            "; make it again: nemo pack -m " + one_line(source) +
                                            " -o " + gguf.name());
  }
  PackHeader header;
  header.info.lanes = lanes_from(gguf);
  header.info.source = gguf.get_string(kPackSourceKey);
  header.info.cpu = gguf.find_string(kPackCpuKey).value_or("");
  for (const std::string_view name :
       gguf.find_strings(kPackTensorsKey).value_or(std::vector<std::string_view>{})) {
    if (gguf.find_tensor(name) == nullptr) {
      gguf.fail("key " + in_quotes(kPackTensorsKey) + " names " + in_quotes(name) +
                ", but there is no such tensor");
    }
    header.tensors.insert(name);
  }
  header.info.matrices = header.tensors.size();
  return header;
}

std::span<const std::byte> pack_checksums(const Gguf& gguf) {
  const GgufTensor* tensor = gguf.find_tensor(kPackChecksums);
  if (tensor == nullptr) gguf.fail("tensor " + in_quotes(kPackChecksums) + " is missing");
  const std::size_t count = gguf.tensors().size();  // the header's instead of its own
  if (tensor->type != DType::i64 || tensor->bytes != count * sizeof(std::uint64_t) ||
      tensor != &gguf.tensors().back()) {
    gguf.fail("tensor " + in_quotes(kPackChecksums) + " must be the last and hold " +
              std::to_string(count) + " I64");
  }
  return {tensor->data, static_cast<std::size_t>(tensor->bytes)};
}

std::uint64_t pack_checksum(std::span<const std::byte> numbers, std::size_t index) {
  std::uint64_t number = 0;
  std::memcpy(&number, numbers.data() + index * sizeof number, sizeof number);
  return number;
}

void check_pack_header(const Gguf& gguf) {
  if (hash_bytes(gguf.header()) == pack_checksum(pack_checksums(gguf), 0)) return;
  gguf.fail(
      "the header does not have its checksum: the file is damaged; make it again with "
      "nemo pack");
}

std::uint64_t hash_rows(std::span<const std::byte> bytes, std::int64_t first_row,
                        std::int64_t row_bytes) noexcept {
  const auto piece_bytes = static_cast<std::size_t>(kPackHashRows * row_bytes);
  auto piece = static_cast<std::uint64_t>(first_row / kPackHashRows);
  std::uint64_t sum = 0;
  for (; !bytes.empty(); ++piece) {
    const auto part = bytes.first(std::min(piece_bytes, bytes.size()));
    sum += hash_bytes(part, piece);
    bytes = bytes.subspan(part.size());
  }
  return sum;
}

}  // namespace nemo
