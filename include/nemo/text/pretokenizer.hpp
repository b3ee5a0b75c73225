// Pre-tokenization: cutting text into the pieces inside which byte pairs may merge.
//   pieces_0 = (text);  pieces_{i+1} = rule_i applied to every piece of pieces_i, in order
#pragma once

#include <nemo/text/regex.hpp>
#include <nemo/text/tokenizer_data.hpp>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace nemo::text {

/// Receives one piece; valid only during the call.
using PieceSink = std::function<void(std::string_view piece)>;

/// Compiled split rules; immutable, usable from any thread.
class PreTokenizer {
 public:
  /// Throws Error{unsupported} when an expression is not understood.
  explicit PreTokenizer(const std::vector<SplitRule>& rules);

 private:
  friend class PieceSplitter;
  struct Step {
    SplitRule rule;
    std::optional<Regex> regex;  // absent for add_prefix_space
  };
  std::vector<Step> steps_;
};

/// One thread's use of a PreTokenizer, which must outlive it.
class PieceSplitter {
 public:
  explicit PieceSplitter(const PreTokenizer& pretokenizer);

  /// Calls `sink` with every piece of `text` (valid UTF-8) in order; no piece is empty. Throws
  /// Error{capacity} when an expression gives up.
  void split(std::string_view text, const PieceSink& sink);

 private:
  void step(std::size_t index, std::string_view piece, const PieceSink& sink);
  void prefix_space(std::size_t index, std::string_view piece, const PieceSink& sink);

  const PreTokenizer& pretokenizer_;
  std::vector<std::optional<RegexScan>> scans_;
};

/// What a GGUF's `tokenizer.ggml.pre` stands for in llama.cpp.
struct GgufPreTokenizer {
  std::vector<SplitRule> splits;
  bool ignore_merges = false;
  bool add_bos = false;
};

/// Looks a name up ("" is "default"); throws Error{unsupported} listing the known names.
[[nodiscard]] GgufPreTokenizer gguf_pretokenizer(std::string_view name);

/// All names gguf_pretokenizer() knows, sorted.
[[nodiscard]] std::vector<std::string_view> gguf_pretokenizer_names();

}  // namespace nemo::text
