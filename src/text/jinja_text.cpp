// Strings that remember who wrote each of their bytes, and the budget that bounds what a template
// may build.
#include "src/text/jinja_text.hpp"

#include "src/text/python_unicode.hpp"

#include <algorithm>

namespace nemo::text::jinja {
namespace {

std::size_t memory_of(std::size_t bytes, std::size_t runs) {
  return sizeof(Text) + bytes + runs * sizeof(Run);
}

}  // namespace

void Budget::step(std::uint64_t count) {
  steps_ += count;
  if (steps_ > limits_.steps) {
    throw OutOfBudget("the template did not finish within " + std::to_string(limits_.steps) +
                      " steps");
  }
}

void Budget::grow(std::size_t bytes) {
  if (bytes > limits_.memory_bytes || live_bytes_ > limits_.memory_bytes - bytes) {
    throw OutOfBudget("the template uses more than " + std::to_string(limits_.memory_bytes >> 20) +
                      " MiB of memory");
  }
  live_bytes_ += bytes;
}

void Budget::check_text(std::size_t bytes) const {
  if (bytes > limits_.output_bytes) {
    throw OutOfBudget("the template builds a text of more than " +
                      std::to_string(limits_.output_bytes) + " bytes");
  }
}

Text::Text(std::string bytes, std::vector<Run> runs, bool markup, Budget* budget)
    : bytes_(std::move(bytes)),
      runs_(std::move(runs)),
      characters_(count_characters(bytes_)),
      budget_(budget),
      markup_(markup) {
  if (budget_ != nullptr) {
    charged_ = memory_of(bytes_.size(), runs_.size());
    budget_->grow(charged_);
  }
}

Text::~Text() {
  if (budget_ != nullptr) budget_->shrink(charged_);
}

TextOrigin Text::worst_origin(std::size_t begin, std::size_t end) const noexcept {
  auto worst = TextOrigin::template_text;
  if (begin >= end) return worst;
  auto run = std::upper_bound(runs_.begin(), runs_.end(), begin,
                              [](std::size_t at, const Run& r) { return at < r.end; });
  for (std::size_t at = begin; run != runs_.end() && at < end; at = run->end, ++run) {
    worst = std::max(worst, run->origin);
  }
  return worst;
}

std::size_t Text::offset_of(std::size_t index) const noexcept {
  if (ascii()) return index;
  std::size_t offset = 0;
  for (; index > 0 && offset < bytes_.size(); --index) {
    offset += character_at(bytes_, offset).bytes;
  }
  return offset;
}

void TextBuilder::reserve_for(std::size_t bytes) {
  budget_->touch(bytes);
  budget_->check_text(bytes_.size() + bytes);
  budget_->grow(bytes);
  charged_ += bytes;
}

void TextBuilder::add_run(std::size_t end, TextOrigin origin) {
  if (!runs_.empty() && runs_.back().origin == origin) {
    runs_.back().end = end;
    return;
  }
  budget_->grow(sizeof(Run));
  charged_ += sizeof(Run);
  runs_.push_back({end, origin});
}

void TextBuilder::append(std::string_view bytes, TextOrigin origin) {
  if (bytes.empty()) return;
  reserve_for(bytes.size());
  bytes_ += bytes;
  add_run(bytes_.size(), origin);
}

void TextBuilder::append(const Text& text, std::size_t begin, std::size_t end) {
  if (begin >= end) return;
  reserve_for(end - begin);
  const std::size_t shift = bytes_.size();
  bytes_ += text.view().substr(begin, end - begin);
  auto run = std::upper_bound(text.runs().begin(), text.runs().end(), begin,
                              [](std::size_t at, const Run& r) { return at < r.end; });
  for (; run != text.runs().end(); ++run) {
    add_run(std::min(run->end, end) - begin + shift, run->origin);
    if (run->end >= end) break;
  }
}

void TextBuilder::append_demoted(const Text& text, TextOrigin worst) {
  std::size_t begin = 0;
  for (const Run& run : text.runs()) {
    append(text.view().substr(begin, run.end - begin), std::max(run.origin, worst));
    begin = run.end;
  }
}

TextPtr TextBuilder::finish(bool markup) {
  budget_->shrink(charged_);
  charged_ = 0;
  auto text = std::make_shared<const Text>(std::move(bytes_), std::move(runs_), markup, budget_);
  bytes_.clear();
  runs_.clear();
  return text;
}

TextPtr make_text(Budget& budget, std::string_view bytes, TextOrigin origin, bool markup) {
  TextBuilder builder(budget);
  builder.append(bytes, origin);
  return builder.finish(markup);
}

TextPtr slice_text(Budget& budget, const TextPtr& text, std::size_t begin, std::size_t end) {
  if (begin == 0 && end == text->size()) return text;
  TextBuilder builder(budget);
  builder.append(*text, begin, end);
  return builder.finish(text->markup());
}

TextPtr literal_text(std::string bytes) {
  std::vector<Run> runs;
  if (!bytes.empty()) runs.push_back({bytes.size(), TextOrigin::template_text});
  return std::make_shared<const Text>(std::move(bytes), std::move(runs), false, nullptr);
}

}  // namespace nemo::text::jinja
