// A large buffer straight from the system, in huge pages where it gives them: fewer address lookups
// while gigabytes stream by.
#pragma once

#include <cstddef>
#include <span>

namespace nemo {

/// Zeroed, page-aligned, move-only. Memory is taken when pages are touched, from the core that
/// touches them first.
class PageBuffer {
 public:
  PageBuffer() = default;
  /// Throws std::bad_alloc when memory is short.
  explicit PageBuffer(std::size_t size);
  PageBuffer(PageBuffer&& other) noexcept;
  PageBuffer& operator=(PageBuffer&& other) noexcept;
  ~PageBuffer();

  [[nodiscard]] std::byte* data() noexcept { return data_; }
  [[nodiscard]] const std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace nemo
