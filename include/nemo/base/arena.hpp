// Temporary buffers of one forward pass: taken one after the other, all given back at once.
#pragma once

#include <nemo/base/page_buffer.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace nemo {

/// Bump allocator of 64-byte aligned, uninitialised memory. Blocks never move while in use; after a
/// rewind the blocks stay, so a steady state allocates nothing.
class Arena {
 public:
  /// `count` objects of a trivial T; throws std::bad_alloc.
  template <class T>
  [[nodiscard]] T* take(std::int64_t count) {
    return reinterpret_cast<T*>(take_bytes(static_cast<std::size_t>(count) * sizeof(T)));
  }

  /// Everything taken while a Scope lives is given back when it ends.
  class Scope {
   public:
    explicit Scope(Arena& arena) : arena_(arena), block_(arena.block_), used_(arena.used_) {}
    ~Scope() {
      arena_.block_ = block_;
      arena_.used_ = used_;
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Arena& arena_;
    std::size_t block_;
    std::size_t used_;
  };

  [[nodiscard]] std::size_t bytes() const noexcept {
    std::size_t total = 0;
    for (const auto& block : blocks_) total += block.size();
    return total;
  }

 private:
  static constexpr std::size_t kBlockBytes = std::size_t{4} << 20;

  std::byte* take_bytes(std::size_t bytes) {
    bytes = (bytes + 63) / 64 * 64;
    while (block_ < blocks_.size() && used_ + bytes > blocks_[block_].size()) {
      ++block_;
      used_ = 0;
    }
    if (block_ == blocks_.size()) {
      blocks_.emplace_back(bytes > kBlockBytes ? bytes : kBlockBytes);
      used_ = 0;
    }
    std::byte* p = blocks_[block_].data() + used_;
    used_ += bytes;
    return p;
  }

  std::vector<PageBuffer> blocks_;
  std::size_t block_ = 0;  // blocks before it are full
  std::size_t used_ = 0;   // bytes taken of blocks_[block_]
};

}  // namespace nemo
