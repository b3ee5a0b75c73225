// The GGUF header, field by field; sizes from the file are compared with the bytes that are there
// before anything is allocated or followed.
#include "gguf_parser.hpp"

#include <nemo/base/checked.hpp>
#include <nemo/base/error.hpp>
#include <nemo/io/printable.hpp>

#include <algorithm>
#include <bit>
#include <limits>
#include <numeric>

static_assert(std::endian::native == std::endian::little, "GGUF fields are read as they lie");

namespace nemo {
namespace {

constexpr std::uint64_t kDefaultAlignment = 32;
// Smallest encodings: a key is a length and a type and one byte, a tensor a length, rank, type,
// offset.
constexpr std::uint64_t kMinKeyBytes = 8 + 4 + 1;
constexpr std::uint64_t kMinTensorBytes = 8 + 4 + 4 + 8;

}  // namespace

std::span<const std::byte> GgufCursor::take(std::uint64_t count, std::string_view what) {
  if (count > remaining()) {
    throw Error(ErrorCode::bad_file,
                file_ + ": " + std::string(what) + " at byte " + std::to_string(position_) +
                    " needs " + std::to_string(count) + " bytes but only " +
                    std::to_string(remaining()) + " are left: the file is truncated or corrupt");
  }
  const auto part = bytes_.subspan(position_, count);
  position_ += count;
  return part;
}

std::string_view GgufCursor::string(std::string_view what) {
  const auto length = read<std::uint64_t>(what);
  const auto part = take(length, what);
  return {reinterpret_cast<const char*>(part.data()), part.size()};
}

GgufParser::GgufParser(Gguf& out, std::span<const std::byte> bytes, std::string file)
    : out_(out), bytes_(bytes), file_(std::move(file)), cursor_(bytes_, file_) {}

void GgufParser::fail(const std::string& message) const {
  throw Error(ErrorCode::bad_file, file_ + ": " + message);
}

std::uint64_t GgufParser::size_of(GgufType type) noexcept {
  switch (type) {
    case GgufType::u8:
    case GgufType::i8:
    case GgufType::boolean:
      return 1;
    case GgufType::u16:
    case GgufType::i16:
      return 2;
    case GgufType::u32:
    case GgufType::i32:
    case GgufType::f32:
      return 4;
    case GgufType::u64:
    case GgufType::i64:
    case GgufType::f64:
      return 8;
    case GgufType::string:
    case GgufType::array:
      return 0;
  }
  return 0;
}

std::optional<std::int64_t> GgufParser::integer(GgufType type, const std::byte* at) {
  const auto load = [at]<class T>(T value) {
    std::memcpy(&value, at, sizeof(T));
    return static_cast<std::int64_t>(value);
  };
  switch (type) {
    case GgufType::u8:
    case GgufType::boolean:
      return load(std::uint8_t{});
    case GgufType::i8:
      return load(std::int8_t{});
    case GgufType::u16:
      return load(std::uint16_t{});
    case GgufType::i16:
      return load(std::int16_t{});
    case GgufType::u32:
      return load(std::uint32_t{});
    case GgufType::i32:
      return load(std::int32_t{});
    case GgufType::i64:
      return load(std::int64_t{});
    case GgufType::u64: {
      std::uint64_t value = 0;
      std::memcpy(&value, at, sizeof value);
      // Saturates: no size or id comes near, and a wrapped negative would say something else.
      return static_cast<std::int64_t>(
          std::min<std::uint64_t>(value, std::numeric_limits<std::int64_t>::max()));
    }
    default:
      return std::nullopt;
  }
}

void GgufParser::check_magic() {
  if (bytes_.empty()) fail("the file is empty");
  const std::string_view start(reinterpret_cast<const char*>(bytes_.data()),
                               std::min<std::size_t>(bytes_.size(), 24));
  const bool pack = start.substr(0, 4) == text_of(GgufMagic::nemo);
  if (!pack && start.substr(0, 4) != text_of(GgufMagic::gguf)) {
    if (start.starts_with("version https://git-lfs")) {
      fail("this is a Git LFS pointer, not the model itself: run 'git lfs pull'");
    }
    if (start.starts_with("<!") || start.starts_with("<html")) {
      fail("this is a web page, not a model: the download went wrong");
    }
    fail("not a GGUF file: it starts with " + in_quotes(start.substr(0, 4)));
  }
  (void)cursor_.take(4, "magic");
  out_.magic_ = pack ? GgufMagic::nemo : GgufMagic::gguf;
  const auto version = cursor_.read<std::uint32_t>("version");
  if (version == 2 || version == 3) {
    if (out_.version_ == 0) out_.version_ = version;
    return;
  }
  const bool swapped = (version & 0xffffu) == 0 && version != 0;
  throw Error(ErrorCode::unsupported,
              file_ + ": " +
                  (swapped ? std::string("this is a big-endian GGUF file; nemo reads little-endian "
                                         "ones")
                           : "GGUF version " + std::to_string(version) +
                                 " is not supported; nemo reads versions 2 and 3"));
}

GgufType GgufParser::type(std::string_view key) {
  const auto number = cursor_.read<std::uint32_t>("a value type");
  if (number > static_cast<std::uint32_t>(GgufType::f64)) {
    fail("key " + in_quotes(key) + " has unknown value type " + std::to_string(number));
  }
  return static_cast<GgufType>(number);
}

GgufValue GgufParser::value(std::string_view key) {
  const GgufType kind = type(key);
  if (kind == GgufType::string) {
    const std::string_view text = cursor_.string("a string value");
    return {kind, kind, 1, std::as_bytes(std::span(text))};
  }
  if (kind != GgufType::array) return {kind, kind, 1, cursor_.take(size_of(kind), "a value")};

  const GgufType element = type(key);
  if (element == GgufType::array) fail("key " + in_quotes(key) + " is an array of arrays");
  const auto count = cursor_.read<std::uint64_t>("an array length");
  if (element != GgufType::string) {
    const auto bytes = checked_mul(count, size_of(element), file_ + ": key " + in_quotes(key));
    return {kind, element, count, cursor_.take(bytes, "array " + in_quotes(key))};
  }
  if (count > cursor_.remaining() / 8) {
    fail("key " + in_quotes(key) + " says it has " + std::to_string(count) +
         " strings, more than the file has room for");
  }
  const std::uint64_t begin = cursor_.position();
  for (std::uint64_t i = 0; i < count; ++i) (void)cursor_.string("a string in an array");
  return {kind, element, count, bytes_.subspan(begin, cursor_.position() - begin)};
}

void GgufParser::metadata(std::uint64_t count) {
  if (count > cursor_.remaining() / kMinKeyBytes) {
    fail("the header says " + std::to_string(count) + " keys, more than the file has room for");
  }
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::string_view key = cursor_.string("a key");
    if (key.empty()) fail("metadata key " + std::to_string(i) + " has no name");
    if (!values_.emplace(key, value(key)).second) fail("key " + in_quotes(key) + " appears twice");
    keys_.push_back(key);
  }
}

void GgufParser::tensor_entries(std::uint64_t count) {
  if (count > cursor_.remaining() / kMinTensorBytes) {
    fail("the header says " + std::to_string(count) + " tensors, more than the file has room for");
  }
  for (std::uint64_t i = 0; i < count; ++i) {
    GgufTensor tensor{cursor_.string("a tensor name"), DType::f32, 0, {1, 1, 1, 1}, nullptr, 0};
    const std::string name = "tensor " + in_quotes(tensor.name);
    if (tensor.name.empty()) fail("tensor " + std::to_string(i) + " has no name");
    const auto rank = cursor_.read<std::uint32_t>("a tensor's rank");
    if (rank > 4)
      fail(name + " has " + std::to_string(rank) + " dimensions; at most 4 are allowed");
    tensor.rank = static_cast<int>(rank);
    std::uint64_t elements = 1;
    for (std::size_t d = 0; d < rank; ++d) {
      const auto dim = cursor_.read<std::uint64_t>("a tensor dimension");
      if (dim == 0) fail(name + " has a dimension of size 0");
      elements = checked_mul(elements, dim, file_ + ": " + name);
      if (elements > std::uint64_t{1} << 60) fail(name + " has an absurd size");
      tensor.dims[d] = static_cast<std::int64_t>(dim);
    }
    const auto number = cursor_.read<std::uint32_t>("a tensor type");
    const auto type = dtype_from_ggml(number);
    if (!type) {
      throw Error(ErrorCode::unsupported, file_ + ": " + name + " has type number " +
                                              std::to_string(number) +
                                              ", which this version of nemo does not know");
    }
    tensor.type = *type;
    const DTypeInfo& format = info(*type);
    if (tensor.dims[0] % format.block_elements != 0) {
      fail(name + " has rows of " + std::to_string(tensor.dims[0]) + " elements, but type " +
           std::string(format.name) + " packs blocks of " + std::to_string(format.block_elements));
    }
    tensor.bytes = checked_mul(elements / static_cast<std::uint64_t>(format.block_elements),
                               static_cast<std::uint64_t>(format.block_bytes), file_ + ": " + name);
    offsets_.push_back(cursor_.read<std::uint64_t>("a tensor offset"));
    tensors_.push_back(tensor);
  }
}

std::string GgufParser::ends(const GgufTensor& tensor, std::uint64_t end) const {
  return "tensor " + in_quotes(tensor.name) + " ends at byte " + std::to_string(end) +
         " but the file has " + std::to_string(bytes_.size()) + ": the download is incomplete";
}

void GgufParser::place_tensors() {
  std::uint64_t alignment = kDefaultAlignment;
  if (const auto it = values_.find("general.alignment"); it != values_.end()) {
    const auto value = integer(it->second.type, it->second.bytes.data());
    // 8 keeps every scalar of a tensor naturally aligned; the format asks for a multiple of it.
    if (!value || *value < 8 || *value > (1 << 20) ||
        !std::has_single_bit(static_cast<std::uint64_t>(*value))) {
      fail("general.alignment must be a power of two from 8 to 1048576");
    }
    alignment = static_cast<std::uint64_t>(*value);
  }
  const std::uint64_t data_start = (cursor_.position() + alignment - 1) / alignment * alignment;
  out_.header_ = bytes_.first(std::min<std::uint64_t>(data_start, bytes_.size()));
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    GgufTensor& tensor = tensors_[i];
    if (offsets_[i] % alignment != 0) {
      fail("tensor " + in_quotes(tensor.name) + " has offset " + std::to_string(offsets_[i]) +
           ", not a multiple of the alignment " + std::to_string(alignment));
    }
    const std::string what = file_ + ": tensor " + in_quotes(tensor.name);
    const std::uint64_t begin = checked_add(data_start, offsets_[i], what);
    const std::uint64_t end = checked_add(begin, tensor.bytes, what);
    if (end > bytes_.size()) fail(ends(tensor, end));
    tensor.data = bytes_.data() + begin;
  }
  // Two tensors on the same bytes can only be a corrupt offset.
  std::vector<std::size_t> order(tensors_.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [this](std::size_t a, std::size_t b) { return offsets_[a] < offsets_[b]; });
  for (std::size_t i = 1; i < order.size(); ++i) {
    const std::size_t before = order[i - 1];
    if (offsets_[before] + tensors_[before].bytes > offsets_[order[i]]) {
      fail("tensors " + in_quotes(tensors_[before].name) + " and " +
           in_quotes(tensors_[order[i]].name) + " overlap");
    }
  }
}

void GgufParser::parse(bool first) {
  check_magic();
  const auto tensor_count = cursor_.read<std::uint64_t>("tensor count");
  const auto key_count = cursor_.read<std::uint64_t>("key count");
  metadata(key_count);
  tensor_entries(tensor_count);
  place_tensors();
  out_.file_bytes_ += bytes_.size();
  if (first) {
    out_.keys_ = std::move(keys_);
    out_.values_ = values_;
  }
  out_.tensors_.insert(out_.tensors_.end(), tensors_.begin(), tensors_.end());
}

std::optional<std::int64_t> GgufParser::split_key(std::string_view key) const {
  const auto it = values_.find(key);
  if (it == values_.end()) return std::nullopt;
  const auto value = integer(it->second.type, it->second.bytes.data());
  if (!value) fail("key " + in_quotes(key) + " must be an integer");
  return value;
}

}  // namespace nemo
