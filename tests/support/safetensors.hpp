// A minimal safetensors reader for golden data (the library's own reader is itself under test):
//   u64 header length | JSON {name: {dtype, shape, data_offsets}} | bytes, all little-endian.
#pragma once

#include <nlohmann/json.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace nemo::test {

struct TestTensor {
  std::string dtype;                // "F32", "F64", "I32", "U8", ...
  std::vector<std::int64_t> shape;  // outermost first
  std::vector<std::byte> bytes;     // row-major, little-endian

  /// The data as T; T must have the size of the stored dtype (not checked beyond divisibility).
  template <class T>
  [[nodiscard]] std::vector<T> as() const {
    if (bytes.size() % sizeof(T) != 0) throw std::runtime_error("TestTensor: size of T is wrong");
    std::vector<T> values(bytes.size() / sizeof(T));
    if (!values.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }
};

/// All tensors of one file by name; throws std::runtime_error when it cannot be read.
inline std::map<std::string, TestTensor> read_safetensors(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot open " + path);
  const std::vector<char> all{std::istreambuf_iterator<char>(file), {}};
  std::uint64_t header_bytes = 0;
  if (all.size() < sizeof(header_bytes)) throw std::runtime_error(path + " is too short");
  std::memcpy(&header_bytes, all.data(), sizeof(header_bytes));
  if (header_bytes > all.size() - 8) throw std::runtime_error(path + ": header too long");
  const char* data = all.data() + 8 + header_bytes;
  const std::size_t data_bytes = all.size() - 8 - header_bytes;

  std::map<std::string, TestTensor> tensors;
  const auto header = nlohmann::json::parse(all.data() + 8, data);
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    const auto begin = entry.at("data_offsets").at(0).get<std::size_t>();
    const auto end = entry.at("data_offsets").at(1).get<std::size_t>();
    if (begin > end || end > data_bytes) throw std::runtime_error(path + ": bad offsets: " + name);
    TestTensor tensor;
    tensor.dtype = entry.at("dtype").get<std::string>();
    tensor.shape = entry.at("shape").get<std::vector<std::int64_t>>();
    tensor.bytes.resize(end - begin);
    if (end > begin) std::memcpy(tensor.bytes.data(), data + begin, end - begin);
    tensors.emplace(name, std::move(tensor));
  }
  return tensors;
}

}  // namespace nemo::test
