// A file's bytes in memory without reading them: the kernel pages in what is touched.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace nemo {

/// Read-only mapping of a whole regular file; unmapped on destruction. Move-only.
/// The size is fixed at open; shortening the file while it is mapped is outside this contract.
class MappedFile {
 public:
  MappedFile() = default;
  /// Throws Error{io} naming the path when it is missing, unreadable or not a regular file.
  explicit MappedFile(const std::filesystem::path& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

  /// Hints only; a range outside the file is clipped and failures are ignored.
  void will_need(std::size_t offset, std::size_t length) const noexcept;
  void sequential(std::size_t offset, std::size_t length) const noexcept;
  /// Lets the pages of some of bytes() go (they come back from the file when touched again); bytes
  /// that are not of this file are left alone.
  void dont_need(std::span<const std::byte> part) const noexcept;

 private:
  void advise(std::size_t offset, std::size_t length, int advice) const noexcept;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace nemo
