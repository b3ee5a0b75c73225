// A file that appears under its name only when it is complete.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>

namespace nemo {

/// Writes to a temporary neighbour of `target` and renames it on commit(); without commit() the
/// temporary file is removed. Move-free, one owner.
class AtomicFile {
 public:
  /// Throws Error{io} when the folder is missing or not writable, or when `target` exists and is
  /// not a regular file.
  explicit AtomicFile(const std::filesystem::path& target);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  /// At the end of what was appended so far. Throws Error{io} (a full disk is named as such).
  void append(std::span<const std::byte> bytes);
  void append(std::string_view text) { append(std::as_bytes(std::span(text))); }
  /// At any position; may be called from several threads.
  void write_at(std::uint64_t offset, std::span<const std::byte> bytes);
  /// Makes the file `size` bytes long; what was never written reads as zero.
  void resize(std::uint64_t size);

  /// Brings the bytes to the disk and gives the file its name. Throws Error{io}.
  void commit();

  [[nodiscard]] const std::filesystem::path& target() const noexcept { return target_; }
  /// Bytes that can still be written to the file system of `target`.
  [[nodiscard]] static std::uint64_t free_bytes(const std::filesystem::path& target);

 private:
  [[noreturn]] void fail(const char* action, int error) const;

  std::filesystem::path target_;
  std::filesystem::path temporary_;
  int file_ = -1;
  std::uint64_t appended_ = 0;
};

}  // namespace nemo
