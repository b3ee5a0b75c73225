// Byte-pair encoding of one piece of text:
//   s <- bytes of the piece;  while some neighbours (s_i, s_i+1) have a merge rule:
//   replace the pair whose rule has the lowest rank (leftmost of equals) by its result
#pragma once

#include <nemo/text/string_table.hpp>
#include <nemo/text/tokenizer_data.hpp>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace nemo::text {

/// Merge rules over a vocabulary; immutable, usable from any thread.
class Bpe {
 public:
  /// Reads tokens, types, merges, fuse_unk, byte_fallback and merges_in_vocab of `data`. With
  /// `ignore_merges` a piece that is a token is not taken apart; `unk` (in range) stands for bytes
  /// without a token. Throws Error{bad_file} on a malformed merge.
  Bpe(const TokenizerData& data, bool ignore_merges, std::optional<std::int32_t> unk);

  /// Appends the ids of `piece` (raw bytes) in O(n log n). A byte without a token becomes its
  /// <0xXX> token, else unk, else nothing.
  void encode(std::string_view piece, std::vector<std::int32_t>& out) const;

  /// The bytes that id < size() stands for: literal text for other than normal tokens, none for
  /// unused ones.
  [[nodiscard]] std::string_view bytes(std::size_t id) const noexcept { return symbols_[id]; }

  /// Id of the plain token with these bytes (never a control token), or -1.
  [[nodiscard]] std::int32_t find(std::string_view bytes) const noexcept;

 private:
  struct Merge {
    std::uint64_t pair = kNoPair;
    std::uint32_t rank = kNoRank;
    std::int32_t result = -1;
  };
  static constexpr std::uint64_t kNoPair = ~std::uint64_t{0};
  static constexpr std::uint32_t kNoRank = ~std::uint32_t{0};

  static std::uint64_t pair_of(std::int32_t left, std::int32_t right) noexcept {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 |
           static_cast<std::uint32_t>(right);
  }
  std::size_t slot_of(std::uint64_t pair) const noexcept;
  const Merge& merge(std::int32_t left, std::int32_t right) const noexcept;
  void add_merges(const TokenizerData& data);
  std::int32_t symbol(std::string_view bytes);

  void encode_short(std::string_view piece, std::vector<std::int32_t>& out) const;
  void encode_long(std::string_view piece, std::vector<std::int32_t>& out) const;
  void emit(std::int32_t symbol, bool& last_unknown, std::vector<std::int32_t>& out) const;

  // Symbols below vocab_size_ are tokens. Those above are strings that only exist between merges
  // (or bytes without a token); when one is left over its bytes are emitted singly.
  StringTable symbols_;
  std::size_t vocab_size_;
  std::vector<Merge> merges_;  // open addressing, at most half full
  std::array<std::int32_t, 256> byte_symbol_{};
  std::array<std::int32_t, 256> fallback_{};  // <0xXX> tokens, -1: none
  std::optional<std::int32_t> unk_;
  bool fuse_unk_;
  bool ignore_merges_;
};

/// The byte that the text of a byte token, "<0x41>", names.
[[nodiscard]] std::optional<std::uint8_t> byte_of_token(std::string_view text) noexcept;

}  // namespace nemo::text
