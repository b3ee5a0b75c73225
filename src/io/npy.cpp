// The .npy format, version 1.0.
#include <nemo/base/error.hpp>
#include <nemo/io/npy.hpp>

namespace nemo {

NpyWriter::NpyWriter(const std::filesystem::path& path, std::int64_t rows, std::int64_t cols)
    : file_(path), cols_(cols), missing_(rows * cols) {
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (" +
                       std::to_string(rows) + ", " + std::to_string(cols) + "), }";
  // Magic, version and length take 10 bytes; the data starts on a multiple of 64.
  constexpr std::size_t kPrefix = 10;
  header.append(63 - (kPrefix + header.size()) % 64, ' ');
  header += '\n';
  std::string prefix = "\x93NUMPY";
  prefix += '\x01';
  prefix += '\0';
  prefix += static_cast<char>(header.size() & 0xff);
  prefix += static_cast<char>(header.size() >> 8);
  file_.append(prefix + header);
}

void NpyWriter::append(std::span<const float> values) {
  const auto count = static_cast<std::int64_t>(values.size());
  if (count > missing_ || (cols_ > 0 && count % cols_ != 0)) {
    throw Error(ErrorCode::internal, "NpyWriter: values do not fit the declared shape");
  }
  file_.append(std::as_bytes(values));
  missing_ -= count;
}

void NpyWriter::finish() {
  if (missing_ != 0) throw Error(ErrorCode::internal, "NpyWriter: rows are missing");
  file_.commit();
}

}  // namespace nemo
