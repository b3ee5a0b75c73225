// Serialises GGUF headers; the data goes straight to its place in the file.
#include <nemo/base/error.hpp>
#include <nemo/io/gguf_writer.hpp>

#include <bit>
#include <cstring>

static_assert(std::endian::native == std::endian::little, "GGUF fields are written as they lie");

namespace nemo {
namespace {

constexpr std::uint64_t kHeaderBytes = 4 + 4 + 8 + 8;

template <class T>
void put(std::string& out, T value) {
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  out.append(bytes, sizeof(T));
}

void put_string(std::string& out, std::string_view text) {
  put(out, static_cast<std::uint64_t>(text.size()));
  out += text;
}

}  // namespace

GgufWriter::GgufWriter(const std::filesystem::path& path, std::uint32_t alignment, GgufMagic magic)
    : file_(path), alignment_(alignment), magic_(magic) {
  if (alignment < 8 || !std::has_single_bit(alignment)) {
    throw Error(ErrorCode::internal, "GgufWriter: alignment must be a power of two >= 8");
  }
  if (alignment != 32) add_u32("general.alignment", alignment);
}

void GgufWriter::key(std::string_view name, GgufType type) {
  put_string(metadata_, name);
  put(metadata_, static_cast<std::uint32_t>(type));
  ++keys_;
}

void GgufWriter::add_string(std::string_view name, std::string_view value) {
  key(name, GgufType::string);
  put_string(metadata_, value);
}
void GgufWriter::add_u32(std::string_view name, std::uint32_t value) {
  key(name, GgufType::u32);
  put(metadata_, value);
}
void GgufWriter::add_i32(std::string_view name, std::int32_t value) {
  key(name, GgufType::i32);
  put(metadata_, value);
}
void GgufWriter::add_u16(std::string_view name, std::uint16_t value) {
  key(name, GgufType::u16);
  put(metadata_, value);
}
void GgufWriter::add_u64(std::string_view name, std::uint64_t value) {
  key(name, GgufType::u64);
  put(metadata_, value);
}
void GgufWriter::add_f32(std::string_view name, float value) {
  key(name, GgufType::f32);
  put(metadata_, value);
}
void GgufWriter::add_bool(std::string_view name, bool value) {
  key(name, GgufType::boolean);
  put(metadata_, static_cast<std::uint8_t>(value ? 1 : 0));
}

void GgufWriter::add_i32s(std::string_view name, std::span<const std::int32_t> values) {
  key(name, GgufType::array);
  put(metadata_, static_cast<std::uint32_t>(GgufType::i32));
  put(metadata_, static_cast<std::uint64_t>(values.size()));
  for (const std::int32_t value : values) put(metadata_, value);
}

void GgufWriter::add_f32s(std::string_view name, std::span<const float> values) {
  key(name, GgufType::array);
  put(metadata_, static_cast<std::uint32_t>(GgufType::f32));
  put(metadata_, static_cast<std::uint64_t>(values.size()));
  for (const float value : values) put(metadata_, value);
}

void GgufWriter::add_strings(std::string_view name, std::span<const std::string> values) {
  key(name, GgufType::array);
  put(metadata_, static_cast<std::uint32_t>(GgufType::string));
  put(metadata_, static_cast<std::uint64_t>(values.size()));
  for (const std::string& value : values) put_string(metadata_, value);
}

void GgufWriter::add_value(std::string_view name, const GgufValue& value) {
  key(name, value.type);
  if (value.type == GgufType::array) {
    put(metadata_, static_cast<std::uint32_t>(value.element));
    put(metadata_, value.count);
  } else if (value.type == GgufType::string) {
    put(metadata_, static_cast<std::uint64_t>(value.bytes.size()));
  }
  metadata_.append(reinterpret_cast<const char*>(value.bytes.data()), value.bytes.size());
}

void GgufWriter::add_keys(const Gguf& from, std::string_view without) {
  for (const std::string_view name : from.keys()) {
    if (name == "general.alignment" || name.starts_with("split.") || name.starts_with(without)) {
      continue;
    }
    add_value(name, *from.find(name));
  }
}

std::size_t GgufWriter::add_tensor(std::string_view name, DType type,
                                   std::span<const std::int64_t> dims) {
  std::int64_t rows = 1;
  put_string(tensor_list_, name);
  put(tensor_list_, static_cast<std::uint32_t>(dims.size()));
  for (std::size_t d = 0; d < dims.size(); ++d) {
    put(tensor_list_, static_cast<std::uint64_t>(dims[d]));
    if (d > 0) rows *= dims[d];
  }
  put(tensor_list_, info(type).ggml_id);
  put(tensor_list_, data_bytes_);
  if (dims.empty() || dims[0] % info(type).block_elements != 0) {
    throw Error(ErrorCode::internal, "GgufWriter: rows of tensor '" + std::string(name) +
                                         "' do not fit the blocks of " +
                                         std::string(info(type).name));
  }
  const auto bytes = static_cast<std::uint64_t>(rows * row_bytes(type, dims[0]));
  tensors_.emplace_back(std::string(name), data_bytes_, bytes);
  data_bytes_ = aligned(data_bytes_ + bytes);
  return tensors_.size() - 1;
}

std::uint64_t GgufWriter::data_start() const noexcept {
  return aligned(kHeaderBytes + metadata_.size() + tensor_list_.size());
}

std::uint64_t GgufWriter::file_bytes() const { return data_start() + data_bytes_; }

std::string GgufWriter::header() const {
  std::string text(text_of(magic_));
  put(text, std::uint32_t{3});
  put(text, static_cast<std::uint64_t>(tensors_.size()));
  put(text, keys_);
  text += metadata_;
  text += tensor_list_;
  text.resize(data_start());
  return text;
}

void GgufWriter::begin() {
  const std::uint64_t free = AtomicFile::free_bytes(file_.target());
  if (file_bytes() > free) {
    throw Error(ErrorCode::io, "'" + file_.target().string() + "' needs " +
                                   std::to_string(file_bytes() >> 20) + " MiB but only " +
                                   std::to_string(free >> 20) + " MiB are free on that disk");
  }
  file_.append(header());
  file_.resize(file_bytes());
}

void GgufWriter::write(std::size_t index, std::uint64_t offset, std::span<const std::byte> bytes) {
  Tensor& tensor = tensors_[index];
  if (offset > tensor.bytes || bytes.size() > tensor.bytes - offset) {
    throw Error(ErrorCode::internal, "GgufWriter: write past the end of '" + tensor.name + "'");
  }
  file_.write_at(data_start() + tensor.offset + offset, bytes);
  tensor.written += bytes.size();
}

void GgufWriter::finish() {
  for (const Tensor& tensor : tensors_) {
    if (tensor.written != tensor.bytes) {
      throw Error(ErrorCode::internal, "GgufWriter: tensor '" + tensor.name + "' is incomplete");
    }
  }
  file_.commit();
}

}  // namespace nemo
