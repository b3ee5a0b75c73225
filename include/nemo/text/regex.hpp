// Regular expressions of pre-tokenizers: written for Oniguruma (what Hugging Face's tokenizers
// use), run by PCRE2 after a translation of the few places where the two languages differ.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace nemo::text {

/// The PCRE2 form of an Oniguruma (Ruby syntax) expression. Changed: \s \S \w \h \v (other sets of
/// characters), (?m) (there: dot matches newline), {,n}. Throws Error{unsupported} on set
/// operations in classes, nested classes and other constructs PCRE2 would read differently.
[[nodiscard]] std::string translate_expression(std::string_view expression);

/// A half-open range of bytes.
struct Match {
  std::size_t begin = 0;
  std::size_t end = 0;
};

/// A compiled expression; immutable, cheap to copy, usable from any thread.
class Regex {
 public:
  /// Compiles an Oniguruma expression, or with `literal` the text itself. Throws
  /// Error{unsupported} quoting the expression when it is not understood.
  explicit Regex(std::string_view expression, bool literal = false);

 private:
  friend class RegexScan;
  struct Code;
  std::shared_ptr<const Code> code_;
};

/// The scratch memory of one thread that searches with one expression.
class RegexScan {
 public:
  explicit RegexScan(Regex regex);
  ~RegexScan();
  RegexScan(RegexScan&&) noexcept;
  RegexScan& operator=(RegexScan&&) noexcept;

  /// First match in `subject` at or after byte `from`, both on character boundaries of valid
  /// UTF-8; look-behind sees the bytes before `from`. Throws Error{capacity} when the expression
  /// needs more steps or memory than the subject's length can justify.
  [[nodiscard]] std::optional<Match> find(std::string_view subject, std::size_t from);

 private:
  struct Scratch;
  Regex regex_;
  std::unique_ptr<Scratch> scratch_;
};

}  // namespace nemo::text
