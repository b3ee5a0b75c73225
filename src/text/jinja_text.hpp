// Strings that remember who wrote each of their bytes, and the budget that bounds what a template
// may build.
#pragma once

#include <nemo/text/jinja.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace nemo::text::jinja {

/// What went wrong in a template; whoever knows the line turns it into an Error.
class Failure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A limit was hit.
class OutOfBudget : public Failure {
 public:
  using Failure::Failure;
};

/// Counts the work and the memory of one rendering.
class Budget {
 public:
  explicit Budget(const RenderLimits& limits) : limits_(limits) {}

  /// Counts `count` units of work; throws OutOfBudget at the limit.
  void step(std::uint64_t count = 1);
  /// Counts the work of touching `bytes` bytes of text.
  void touch(std::size_t bytes) { step(bytes / 64 + 1); }
  /// Counts live memory; throws OutOfBudget at the limit (and then counts nothing).
  void grow(std::size_t bytes);
  void shrink(std::size_t bytes) noexcept { live_bytes_ -= bytes; }
  /// Throws OutOfBudget if a string of this size is too long.
  void check_text(std::size_t bytes) const;

 private:
  RenderLimits limits_;
  std::uint64_t steps_ = 0;
  std::size_t live_bytes_ = 0;
};

/// Bytes of one origin, from the end of the run before up to `end`.
struct Run {
  std::size_t end = 0;
  TextOrigin origin = TextOrigin::user_text;
};

/// An immutable string with origins. `markup` is jinja2's Markup type: `safe` makes it, and adding
/// plain text to it escapes the plain text, even where nothing else is escaped.
class Text {
 public:
  Text(std::string bytes, std::vector<Run> runs, bool markup, Budget* budget);
  Text(const Text&) = delete;
  Text& operator=(const Text&) = delete;
  ~Text();

  [[nodiscard]] std::string_view view() const noexcept { return bytes_; }
  [[nodiscard]] std::size_t size() const noexcept { return bytes_.size(); }
  [[nodiscard]] std::size_t characters() const noexcept { return characters_; }
  [[nodiscard]] bool ascii() const noexcept { return characters_ == bytes_.size(); }
  [[nodiscard]] bool markup() const noexcept { return markup_; }
  [[nodiscard]] const std::vector<Run>& runs() const noexcept { return runs_; }

  /// The least trusted origin of bytes [begin, end); template_text when that is empty.
  [[nodiscard]] TextOrigin worst_origin(std::size_t begin, std::size_t end) const noexcept;
  [[nodiscard]] TextOrigin worst_origin() const noexcept { return worst_origin(0, size()); }

  /// Byte offset of character `index` <= characters().
  [[nodiscard]] std::size_t offset_of(std::size_t index) const noexcept;

 private:
  std::string bytes_;
  std::vector<Run> runs_;  // ends ascending, the last one at size(); neighbours differ
  std::size_t characters_ = 0;
  std::size_t charged_ = 0;
  Budget* budget_ = nullptr;  // null: lives as long as the template (literals)
  bool markup_ = false;
};

using TextPtr = std::shared_ptr<const Text>;

/// Collects pieces of text with their origins.
class TextBuilder {
 public:
  explicit TextBuilder(Budget& budget) : budget_(&budget) {}
  TextBuilder(const TextBuilder&) = delete;
  TextBuilder& operator=(const TextBuilder&) = delete;
  ~TextBuilder() { budget_->shrink(charged_); }

  void append(std::string_view bytes, TextOrigin origin);
  void append(const Text& text) { append(text, 0, text.size()); }
  void append(const Text& text, std::size_t begin, std::size_t end);
  /// Appends bytes [begin, end) of `text` with no origin better than `worst`.
  void append_demoted(const Text& text, TextOrigin worst);

  [[nodiscard]] std::size_t size() const noexcept { return bytes_.size(); }
  [[nodiscard]] const std::string& bytes() const noexcept { return bytes_; }
  [[nodiscard]] const std::vector<Run>& runs() const noexcept { return runs_; }
  [[nodiscard]] Budget& budget() const noexcept { return *budget_; }

  /// The collected text; the builder is empty afterwards.
  [[nodiscard]] TextPtr finish(bool markup = false);

 private:
  void reserve_for(std::size_t bytes);
  void add_run(std::size_t end, TextOrigin origin);

  Budget* budget_;
  std::string bytes_;
  std::vector<Run> runs_;
  std::size_t charged_ = 0;
};

/// A text of one origin.
[[nodiscard]] TextPtr make_text(Budget& budget, std::string_view bytes, TextOrigin origin,
                                bool markup = false);
/// Bytes [begin, end) of `text`, which stays markup if it was.
[[nodiscard]] TextPtr slice_text(Budget& budget, const TextPtr& text, std::size_t begin,
                                 std::size_t end);
/// A literal of the template, outside every budget.
[[nodiscard]] TextPtr literal_text(std::string bytes);

}  // namespace nemo::text::jinja
