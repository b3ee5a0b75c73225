// Where the time of forward passes goes: seconds per part of the network, and what its weight
// products read and computed.
//
// A pass writes into the Profile its Compute points at; without one a scope costs one comparison.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <string_view>

namespace nemo {

class Profile {
 public:
  enum class Part : std::uint8_t { embed, norm, mamba, attention, mlp, moe, head };
  static constexpr int kParts = 7;
  static constexpr std::array<std::string_view, kParts> kNames = {
      "embed", "norm", "mamba", "attention", "mlp", "moe", "head"};

  struct Entry {
    std::int64_t calls = 0;
    double seconds = 0;
    double product_seconds = 0;      // of these, in products with stored matrices
    std::int64_t product_bytes = 0;  // weights that these products read, each matrix once a call
    std::int64_t product_ops = 0;    // multiplications and additions
  };

  [[nodiscard]] const Entry& operator[](Part part) const noexcept {
    return entries_[static_cast<std::size_t>(part)];
  }

  /// Adds the time of its own life to a part; parts do not nest.
  class Scope {
   public:
    Scope(Profile* profile, Part part) noexcept : profile_(profile) {
      if (profile_ == nullptr) return;
      profile_->current_ = part;
      start_ = Clock::now();
    }
    ~Scope() {
      if (profile_ == nullptr) return;
      Entry& entry = profile_->current();
      ++entry.calls;
      entry.seconds += seconds_since(start_);
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Profile* profile_;
    std::chrono::steady_clock::time_point start_;
  };

  /// Adds the time of its own life to the products of the part around it.
  class Products {
   public:
    explicit Products(Profile* profile) noexcept : profile_(profile) {
      if (profile_ != nullptr) start_ = Clock::now();
    }
    ~Products() {
      if (profile_ != nullptr) profile_->current().product_seconds += seconds_since(start_);
    }
    Products(const Products&) = delete;
    Products& operator=(const Products&) = delete;

    /// One product with a matrix of `elements` weights in `bytes` bytes.
    void add(std::int64_t bytes, std::int64_t elements, std::int64_t tokens) noexcept {
      if (profile_ == nullptr) return;
      profile_->current().product_bytes += bytes;
      profile_->current().product_ops += 2 * elements * tokens;
    }

   private:
    Profile* profile_;
    std::chrono::steady_clock::time_point start_;
  };

 private:
  using Clock = std::chrono::steady_clock;
  static double seconds_since(Clock::time_point start) noexcept {
    return std::chrono::duration<double>(Clock::now() - start).count();
  }
  Entry& current() noexcept { return entries_[static_cast<std::size_t>(current_)]; }

  std::array<Entry, kParts> entries_;
  Part current_ = Part::embed;
};

}  // namespace nemo
