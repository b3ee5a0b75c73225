// Parsing of safetensors headers and of the index of sharded models.
#include "two_level_json.hpp"

#include <nemo/base/checked.hpp>
#include <nemo/base/error.hpp>
#include <nemo/io/printable.hpp>
#include <nemo/io/safetensors.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <optional>

namespace nemo {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMaxHeader = 100'000'000;  // the format's own limit
constexpr std::size_t kMaxRank = 8;

struct TypeRow {
  std::string_view name;
  std::uint64_t bytes;
};
constexpr std::array<TypeRow, 16> kTypes = {{{"BOOL", 1},
                                             {"U8", 1},
                                             {"I8", 1},
                                             {"F8_E4M3", 1},
                                             {"F8_E5M2", 1},
                                             {"F8_E8M0", 1},
                                             {"U16", 2},
                                             {"I16", 2},
                                             {"F16", 2},
                                             {"BF16", 2},
                                             {"U32", 4},
                                             {"I32", 4},
                                             {"F32", 4},
                                             {"U64", 8},
                                             {"I64", 8},
                                             {"F64", 8}}};

/// A tensor of the header, before its place is known to be right.
struct Declared {
  SafeTensor tensor;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  bool has_type = false, has_shape = false, has_offsets = false;
};

class HeaderReader {
 public:
  explicit HeaderReader(const std::string& name) : name_(name) {}

  void read(JsonEntry& entry) {
    if (entry.outer == "__metadata__") return;
    if (declared_.empty() || declared_.back().tensor.name != entry.outer) {
      declared_.emplace_back().tensor.name = entry.outer;
    }
    Declared& d = declared_.back();
    if (entry.inner == "dtype" && entry.kind == JsonEntry::Kind::text) {
      const auto* row = std::find_if(kTypes.begin(), kTypes.end(),
                                     [&](const TypeRow& r) { return r.name == entry.text; });
      if (row == kTypes.end()) {
        throw Error(ErrorCode::unsupported, name_ + ": tensor " + in_quotes(entry.outer) +
                                                " has element type " + in_quotes(entry.text) +
                                                ", which this program does not know");
      }
      d.tensor.type = static_cast<SafeType>(row - kTypes.begin());
      d.has_type = true;
    } else if (entry.inner == "shape" && entry.kind == JsonEntry::Kind::numbers) {
      if (entry.numbers.size() > kMaxRank) fail(entry.outer, "has too many dimensions");
      for (const std::uint64_t n : entry.numbers) {
        if (n > std::uint64_t{1} << 62) fail(entry.outer, "has an absurd shape");
        d.tensor.shape.push_back(static_cast<std::int64_t>(n));
      }
      d.has_shape = true;
    } else if (entry.inner == "data_offsets" && entry.kind == JsonEntry::Kind::numbers &&
               entry.numbers.size() == 2) {
      d.begin = entry.numbers[0];
      d.end = entry.numbers[1];
      d.has_offsets = true;
    } else {
      fail(entry.outer, "has a malformed header entry " + in_quotes(entry.inner));
    }
  }

  /// All tensors in the order of their data, each known to lie where it says.
  std::vector<Declared>& checked(std::uint64_t data_bytes) {
    for (const Declared& d : declared_) check(d, data_bytes);
    std::stable_sort(declared_.begin(), declared_.end(), [](const Declared& a, const Declared& b) {
      return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
    });
    std::uint64_t at = 0;
    for (const Declared& d : declared_) {
      if (d.begin < at) fail(d.tensor.name, "overlaps the tensor before it");
      if (d.begin > at) {
        fail(d.tensor.name, "leaves a gap of " + std::to_string(d.begin - at) +
                                " bytes between it and the tensor before it");
      }
      at = d.end;
    }
    if (at != data_bytes) {
      throw Error(ErrorCode::bad_file, name_ + ": the tensors end at byte " + std::to_string(at) +
                                           " of the data but the file has " +
                                           std::to_string(data_bytes));
    }
    return declared_;
  }

 private:
  [[noreturn]] void fail(const std::string& tensor, const std::string& what) const {
    throw Error(ErrorCode::bad_file, name_ + ": tensor " + in_quotes(tensor) + " " + what);
  }
  void check(const Declared& d, std::uint64_t data_bytes) const {
    const SafeTensor& t = d.tensor;
    if (!d.has_type) fail(t.name, "has no dtype");
    if (!d.has_shape) fail(t.name, "has no shape");
    if (!d.has_offsets) fail(t.name, "has no data_offsets");
    if (d.begin > d.end) fail(t.name, "ends before it begins");
    if (d.end > data_bytes) {
      fail(t.name, "ends at byte " + std::to_string(d.end) + " of the data but the file has " +
                       std::to_string(data_bytes) + ": the download is incomplete");
    }
    std::uint64_t bytes = bytes_of(t.type);
    for (const std::int64_t n : t.shape) {
      bytes = checked_mul(bytes, static_cast<std::uint64_t>(n),
                          name_ + ": tensor " + in_quotes(t.name));
    }
    if (bytes != d.end - d.begin) {
      fail(t.name, "has " + std::to_string(d.end - d.begin) + " bytes where dtype and shape need " +
                       std::to_string(bytes));
    }
  }

  const std::string& name_;
  std::vector<Declared> declared_;
};

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// "model-00002-of-00003.safetensors" -> 3.
std::optional<int> shard_count(const std::string& file) {
  const auto of = file.rfind("-of-");
  if (of == std::string::npos) return std::nullopt;
  const std::string digits = file.substr(of + 4, file.size() - of - 4 - 12);
  if (digits.empty() || digits.size() > 6 ||
      digits.find_first_not_of("0123456789") != std::string::npos) {
    return std::nullopt;
  }
  return std::stoi(digits);
}

std::vector<std::string> weight_files(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("model") && name.ends_with(".safetensors")) names.push_back(name);
  }
  if (error) {
    throw Error(ErrorCode::io, in_quotes(folder.string()) + ": " + error.message());
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

std::string_view name_of(SafeType type) noexcept {
  return kTypes[static_cast<std::size_t>(type)].name;
}
std::uint64_t bytes_of(SafeType type) noexcept {
  return kTypes[static_cast<std::size_t>(type)].bytes;
}

void Safetensors::parse(std::span<const std::byte> bytes, const std::string& name) {
  const auto fail = [&](const std::string& what) {
    throw Error(ErrorCode::bad_file, name + ": " + what);
  };
  std::uint64_t header_bytes = 0;
  if (bytes.size() < sizeof header_bytes) fail("too short for a safetensors file");
  std::memcpy(&header_bytes, bytes.data(), sizeof header_bytes);
  const std::uint64_t rest = bytes.size() - sizeof header_bytes;
  if (header_bytes > kMaxHeader) {
    fail("the header would have " + std::to_string(header_bytes) +
         " bytes; this is no safetensors file");
  }
  if (header_bytes > rest) {
    fail("the header has " + std::to_string(header_bytes) + " bytes but only " +
         std::to_string(rest) + " follow: the download is incomplete");
  }
  const auto header = bytes.subspan(sizeof header_bytes, header_bytes);
  const auto data = bytes.subspan(sizeof header_bytes + header_bytes);
  if (header.empty() || header[0] != std::byte{'{'}) fail("the header is not a JSON object");

  HeaderReader reader(name);
  read_two_level_json(as_text(header), name + ": the header",
                      [&](JsonEntry& entry) { reader.read(entry); });
  for (Declared& d : reader.checked(data.size())) {
    d.tensor.data = data.data() + d.begin;
    d.tensor.bytes = d.end - d.begin;
    const SafeTensor& kept = tensors_.emplace_back(std::move(d.tensor));
    if (!index_.emplace(kept.name, &kept).second) {
      fail("tensor " + in_quotes(kept.name) + " is in another file of the model as well");
    }
  }
}

void Safetensors::add_file(const fs::path& file) {
  files_.emplace_back(file);
  parse(files_.back().bytes(), file.string());
}

Safetensors Safetensors::open(const fs::path& file) {
  Safetensors all;
  all.add_file(file);
  return all;
}

Safetensors Safetensors::from_memory(std::span<const std::byte> bytes, const std::string& name) {
  Safetensors all;
  all.parse(bytes, name);
  return all;
}

Safetensors Safetensors::open_folder(const fs::path& folder) {
  std::error_code ignored;
  const fs::path index_path = folder / "model.safetensors.index.json";
  if (!fs::exists(index_path, ignored)) {
    const std::vector<std::string> names = weight_files(folder);
    if (names.empty()) {
      throw Error(ErrorCode::io, in_quotes(folder.string()) +
                                     " holds no model.safetensors: give a model's folder or a "
                                     "GGUF file");
    }
    if (std::find(names.begin(), names.end(), "model.safetensors") != names.end()) {
      return open(folder / "model.safetensors");
    }
    if (const auto count = shard_count(names[0]);
        count && *count != static_cast<int>(names.size())) {
      throw Error(ErrorCode::io, in_quotes(folder.string()) + " holds " +
                                     std::to_string(names.size()) + " of " +
                                     std::to_string(*count) + " weight files");
    }
    Safetensors all;
    for (const std::string& name : names) all.add_file(folder / name);
    return all;
  }

  const MappedFile index(index_path);
  const std::string name = index_path.string();
  std::map<std::string, std::string> file_of;  // by tensor
  read_two_level_json(as_text(index.bytes()), name, [&](JsonEntry& entry) {
    if (entry.outer != "weight_map") return;
    if (entry.kind != JsonEntry::Kind::text) {
      throw Error(ErrorCode::bad_file, name + ": 'weight_map' must map names to file names");
    }
    if (entry.text.empty() || entry.text.find_first_of("/\\") != std::string::npos ||
        entry.text == "." || entry.text == "..") {
      throw Error(ErrorCode::bad_file,
                  name + ": " + in_quotes(entry.text) + " is not the name of a file beside it");
    }
    file_of.emplace(std::move(entry.inner), std::move(entry.text));
  });
  if (file_of.empty()) throw Error(ErrorCode::bad_file, name + ": 'weight_map' names no tensor");
  std::map<std::string, std::vector<std::string>> tensors_of;  // by file
  for (const auto& [tensor, file] : file_of) tensors_of[file].push_back(tensor);
  Safetensors all;
  for (const auto& [file, tensors] : tensors_of) {
    if (!fs::exists(folder / file, ignored)) {
      throw Error(ErrorCode::io, name + ": weight file " + in_quotes(file) +
                                     " is missing: the download is incomplete");
    }
    const std::size_t before = all.tensors_.size();
    all.add_file(folder / file);
    std::size_t found = 0;
    for (std::size_t i = before; i < all.tensors_.size(); ++i) {
      const auto listed = file_of.find(all.tensors_[i].name);
      if (listed == file_of.end()) continue;  // nobody asked for it
      if (listed->second != file) {
        throw Error(ErrorCode::bad_file, name + ": tensor " + in_quotes(listed->first) +
                                             " should be in " + in_quotes(listed->second) +
                                             " but is in " + in_quotes(file));
      }
      ++found;
    }
    if (found == tensors.size()) continue;
    for (const std::string& tensor : tensors) {
      if (all.find(tensor) == nullptr) {
        throw Error(ErrorCode::bad_file, name + ": tensor " + in_quotes(tensor) +
                                             " is not in its file " + in_quotes(file));
      }
    }
  }
  return all;
}

const SafeTensor* Safetensors::find(std::string_view name) const noexcept {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : it->second;
}

void Safetensors::will_need() const noexcept {
  for (const MappedFile& file : files_) file.will_need(0, file.size());
}

void Safetensors::dont_need(std::span<const std::byte> bytes) const noexcept {
  for (const MappedFile& file : files_) file.dont_need(bytes);
}

}  // namespace nemo
