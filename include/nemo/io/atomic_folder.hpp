// A folder that appears under its name only when everything in it is complete.
#pragma once

#include <filesystem>

namespace nemo {

/// Files are written below path(), a temporary neighbour of `target` that commit() renames; without
/// commit() it is removed with all it holds.
class AtomicFolder {
 public:
  /// Throws Error{io} when the parent is missing or not writable, or when `target` exists: with
  /// `replace` it may be an empty folder or one that holds a model (a config.json).
  AtomicFolder(const std::filesystem::path& target, bool replace);
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;
  ~AtomicFolder();

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return temporary_; }
  /// Throws Error{io}.
  void commit();

 private:
  std::filesystem::path target_;
  std::filesystem::path temporary_;
};

}  // namespace nemo
