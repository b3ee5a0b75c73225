// Byte-pair encoding over two flat hash tables: bytes -> symbol and (symbol, symbol) -> merge.
#include <nemo/base/error.hpp>
#include <nemo/text/bpe.hpp>
#include <nemo/text/byte_alphabet.hpp>

#include <algorithm>
#include <bit>
#include <unordered_set>

namespace nemo::text {

namespace {

// Up to here the pair of lowest rank is found by looking at all of them; the arrays fit in L1.
constexpr std::size_t kShortPiece = 64;

std::size_t total_bytes(const std::vector<std::string>& strings) {
  std::size_t bytes = 0;
  for (const std::string& s : strings) bytes += s.size();
  return bytes;
}

}  // namespace

std::optional<std::uint8_t> byte_of_token(std::string_view text) noexcept {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return std::nullopt;
  unsigned value = 0;
  for (const char c : text.substr(3, 2)) {
    unsigned digit = 0;
    if (c >= '0' && c <= '9') {
      digit = static_cast<unsigned>(c - '0');
    } else if (c >= 'A' && c <= 'F') {
      digit = static_cast<unsigned>(c - 'A') + 10;
    } else if (c >= 'a' && c <= 'f') {
      digit = static_cast<unsigned>(c - 'a') + 10;
    } else {
      return std::nullopt;
    }
    value = value * 16 + digit;
  }
  return static_cast<std::uint8_t>(value);
}

Bpe::Bpe(const TokenizerData& data, bool ignore_merges, std::optional<std::int32_t> unk)
    : symbols_(data.tokens.size(), total_bytes(data.tokens)),
      vocab_size_(data.tokens.size()),
      unk_(unk),
      fuse_unk_(data.fuse_unk),
      ignore_merges_(ignore_merges) {
  fallback_.fill(-1);
  std::string bytes;
  for (std::size_t id = 0; id < vocab_size_; ++id) {
    const std::string& text = data.tokens[id];
    const TokenType type = data.types.empty() ? TokenType::normal : data.types[id];
    bytes.clear();
    // Text outside the byte alphabet stands for itself, as in Hugging Face's decoder.
    if (!append_from_alphabet(bytes, text)) bytes = text;
    // An added word may also be the result of merges if both readings of its text agree.
    bool plain = type == TokenType::normal || (type == TokenType::user_defined && bytes == text);
    if (type == TokenType::unused) {
      bytes.clear();
    } else if (const auto byte = byte_of_token(text); type == TokenType::byte && byte) {
      bytes.assign(1, static_cast<char>(*byte));
      if (data.byte_fallback) fallback_[*byte] = static_cast<std::int32_t>(id);
    } else if (type != TokenType::normal) {
      bytes = text;
    }
    if (bytes.empty()) plain = false;
    symbols_.add(bytes, plain);
  }
  for (std::size_t byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    byte_symbol_[byte] = symbol({&c, 1});
  }
  add_merges(data);
}

std::int32_t Bpe::symbol(std::string_view bytes) {
  const std::int32_t known = symbols_.find(bytes);
  return known >= 0 ? known : symbols_.add(bytes, true);
}

std::int32_t Bpe::find(std::string_view bytes) const noexcept {
  const std::int32_t id = symbols_.find(bytes);
  return static_cast<std::size_t>(id) < vocab_size_ ? id : -1;
}

std::size_t Bpe::slot_of(std::uint64_t pair) const noexcept {
  const std::size_t mask = merges_.size() - 1;
  std::uint64_t h = pair * 0x9e3779b97f4a7c15u;
  h ^= h >> 32;
  std::size_t at = h & mask;
  while (merges_[at].pair != pair && merges_[at].pair != kNoPair) at = (at + 1) & mask;
  return at;
}

const Bpe::Merge& Bpe::merge(std::int32_t left, std::int32_t right) const noexcept {
  return merges_[slot_of(pair_of(left, right))];
}

void Bpe::add_merges(const TokenizerData& data) {
  // Tokens that merges may name although plain text never becomes them.
  std::unordered_set<std::string_view> hidden;
  if (data.merges_in_vocab) {
    for (std::size_t id = 0; id < vocab_size_; ++id) {
      if (!data.types.empty() && data.types[id] != TokenType::normal)
        hidden.insert(data.tokens[id]);
    }
  }
  merges_.resize(std::bit_ceil(std::max<std::size_t>(16, 2 * data.merges.size())));
  std::string bytes;
  for (std::size_t i = 0; i < data.merges.size(); ++i) {
    const std::string_view rule = data.merges[i];
    const auto fail = [&](const std::string& what) {
      return Error(ErrorCode::bad_file, "tokenizer merge " + std::to_string(i) + " '" +
                                            std::string(rule.substr(0, 80)) + "': " + what);
    };
    const std::size_t space = rule.find(' ', 1);
    if (space == std::string_view::npos || space + 1 == rule.size()) {
      throw fail("not two strings separated by a space");
    }
    const std::string_view left_text = rule.substr(0, space);
    const std::string_view right_text = rule.substr(space + 1);
    bytes.clear();
    const bool left_spelled = append_from_alphabet(bytes, left_text);
    const std::size_t left_bytes = bytes.size();
    if (!left_spelled || !append_from_alphabet(bytes, right_text)) {
      throw fail("not in the GPT-2 byte alphabet");
    }
    const std::string_view whole = bytes;
    const std::string_view left = whole.substr(0, left_bytes);
    const std::string_view right = whole.substr(left_bytes);
    if (data.merges_in_vocab) {
      const auto known = [&](std::string_view spelled, std::string_view text) {
        return find(spelled) >= 0 || hidden.contains(text);
      };
      std::string whole_text(left_text);
      whole_text += right_text;
      if (!known(left, left_text) || !known(right, right_text) || !known(whole, whole_text)) {
        throw fail("a part or the result is not in the vocabulary");
      }
    }
    const Merge made{pair_of(symbol(left), symbol(right)), static_cast<std::uint32_t>(i),
                     symbol(whole)};
    Merge& slot = merges_[slot_of(made.pair)];
    if (slot.pair == kNoPair) slot = made;
  }
}

void Bpe::encode(std::string_view piece, std::vector<std::int32_t>& out) const {
  if (ignore_merges_ && piece.size() <= symbols_.longest_findable()) {
    if (const std::int32_t id = find(piece); id >= 0) return out.push_back(id);
  }
  if (piece.size() <= kShortPiece) {
    encode_short(piece, out);
  } else {
    encode_long(piece, out);
  }
}

void Bpe::encode_short(std::string_view piece, std::vector<std::int32_t>& out) const {
  std::array<std::int32_t, kShortPiece> symbols;
  std::array<std::uint32_t, kShortPiece> ranks;  // [i]: of the pair (i, i + 1)
  std::array<std::int32_t, kShortPiece> results;
  std::size_t n = piece.size();
  for (std::size_t i = 0; i < n; ++i)
    symbols[i] = byte_symbol_[static_cast<std::uint8_t>(piece[i])];
  const auto look_up = [&](std::size_t i) {
    const Merge& m = merge(symbols[i], symbols[i + 1]);
    ranks[i] = m.rank;
    results[i] = m.result;
  };
  for (std::size_t i = 0; i + 1 < n; ++i) look_up(i);
  while (n > 1) {
    const auto pairs_end = ranks.begin() + static_cast<std::ptrdiff_t>(n - 1);
    const auto best = std::min_element(ranks.begin(), pairs_end);
    if (*best == kNoRank) break;
    const auto i = static_cast<std::size_t>(best - ranks.begin());
    symbols[i] = results[i];
    const auto close_gap = [&](auto& values) {
      std::copy(values.begin() + static_cast<std::ptrdiff_t>(i + 2),
                values.begin() + static_cast<std::ptrdiff_t>(n),
                values.begin() + static_cast<std::ptrdiff_t>(i + 1));
    };
    close_gap(symbols);
    close_gap(ranks);
    close_gap(results);
    --n;
    if (i + 1 < n) look_up(i);
    if (i > 0) look_up(i - 1);
  }
  bool last_unknown = false;
  for (std::size_t i = 0; i < n; ++i) emit(symbols[i], last_unknown, out);
}

void Bpe::encode_long(std::string_view piece, std::vector<std::int32_t>& out) const {
  constexpr std::size_t kNone = ~std::size_t{0};
  struct Node {
    std::int32_t symbol;  // -1: merged into a node before it
    std::size_t previous;
    std::size_t next;
  };
  struct Candidate {
    std::uint32_t rank;
    std::size_t at;
    std::uint64_t pair;  // what stood there when the candidate was found
    bool operator>(const Candidate& o) const { return rank != o.rank ? rank > o.rank : at > o.at; }
  };
  std::vector<Node> nodes(piece.size());
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    nodes[i] = {byte_symbol_[static_cast<std::uint8_t>(piece[i])], i == 0 ? kNone : i - 1,
                i + 1 == nodes.size() ? kNone : i + 1};
  }
  std::vector<Candidate> heap;
  const auto candidate = [&](std::size_t at) {
    const std::size_t next = at == kNone ? kNone : nodes[at].next;
    if (next == kNone) return false;
    const Merge& m = merge(nodes[at].symbol, nodes[next].symbol);
    if (m.rank == kNoRank) return false;
    heap.push_back({m.rank, at, m.pair});
    return true;
  };
  for (std::size_t i = 0; i < nodes.size(); ++i) candidate(i);
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const Candidate best = heap.back();
    heap.pop_back();
    Node& left = nodes[best.at];
    if (left.symbol < 0 || left.next == kNone) continue;
    Node& right = nodes[left.next];
    if (pair_of(left.symbol, right.symbol) != best.pair) continue;
    left.symbol = merges_[slot_of(best.pair)].result;
    right.symbol = -1;
    left.next = right.next;
    if (left.next != kNone) nodes[left.next].previous = best.at;
    if (candidate(left.previous)) std::push_heap(heap.begin(), heap.end(), std::greater<>());
    if (candidate(best.at)) std::push_heap(heap.begin(), heap.end(), std::greater<>());
  }
  bool last_unknown = false;
  for (std::size_t i = 0; i != kNone; i = nodes[i].next) emit(nodes[i].symbol, last_unknown, out);
}

void Bpe::emit(std::int32_t symbol, bool& last_unknown, std::vector<std::int32_t>& out) const {
  if (static_cast<std::size_t>(symbol) < vocab_size_) {
    last_unknown = false;
    return out.push_back(symbol);
  }
  for (const char c : symbols_[static_cast<std::size_t>(symbol)]) {
    const auto byte = static_cast<std::uint8_t>(c);
    const std::int32_t token = static_cast<std::size_t>(byte_symbol_[byte]) < vocab_size_
                                   ? byte_symbol_[byte]
                                   : fallback_[byte];
    if (token >= 0) {
      out.push_back(token);
    } else if (unk_ && !(fuse_unk_ && last_unknown)) {
      out.push_back(*unk_);
    }
    last_unknown = token < 0;
  }
}

}  // namespace nemo::text
