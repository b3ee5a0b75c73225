// Applies split rules depth first, so that a piece reaches the sink as soon as it is known and no
// list of pieces is ever held.
#include <nemo/text/pretokenizer.hpp>
#include <nemo/text/utf8.hpp>

namespace nemo::text {

namespace {

/// Joins a stream of (range, is match) into pieces after one of the five behaviours. Ranges arrive
/// in order and cover the text; at most one piece is held back.
class Joiner {
 public:
  Joiner(SplitBehavior behavior, std::string_view text, const PieceSink& next)
      : behavior_(behavior), text_(text), next_(next) {}

  void add(Match range, bool matched) {
    using B = SplitBehavior;
    switch (behavior_) {
      case B::removed:
        if (!matched) emit(range);
        break;
      case B::isolated:
        emit(range);
        break;
      case B::merged_with_previous:
        join(range, matched && !last_matched_);
        break;
      case B::merged_with_next:
        join(range, !matched && last_matched_);
        break;
      case B::contiguous:
        join(range, matched == last_matched_);
        break;
    }
    last_matched_ = matched;
  }
  void finish() {
    if (holding_) emit(held_);
    holding_ = false;
  }

 private:
  void join(Match range, bool with_held) {
    if (holding_ && with_held) {
      held_.end = range.end;
    } else {
      finish();
      held_ = range;
      holding_ = true;
    }
  }
  void emit(Match range) const {
    if (range.begin != range.end) next_(text_.substr(range.begin, range.end - range.begin));
  }

  SplitBehavior behavior_;
  std::string_view text_;
  const PieceSink& next_;
  Match held_{};  // a flag beside it: gcc 12 believes an optional here to be uninitialized
  bool holding_ = false;
  bool last_matched_ = false;
};

/// Calls add(range, matched) for all matches and the gaps between them. An empty match right after
/// a match is none; any other empty match splits the text at its place.
template <class Add>
void for_each_match(RegexScan& scan, std::string_view text, Add&& add) {
  std::size_t done = 0;
  std::size_t from = 0;
  bool after_match = false;
  while (from <= text.size()) {
    const std::optional<Match> match = scan.find(text, from);
    if (!match) break;
    const bool empty = match->begin == match->end;
    if (!empty || !after_match || match->begin != done) {
      if (match->begin > done) add(Match{done, match->begin}, false);
      add(*match, true);
      done = match->end;
      after_match = true;
    }
    from = match->end;
    if (empty) {
      if (from == text.size()) break;
      from += utf8_step(text.substr(from)).bytes;
    }
  }
  if (done < text.size()) add(Match{done, text.size()}, false);
}

}  // namespace

PreTokenizer::PreTokenizer(const std::vector<SplitRule>& rules) {
  for (const SplitRule& rule : rules) {
    Step step{rule, std::nullopt};
    if (!rule.add_prefix_space) step.regex.emplace(rule.pattern, !rule.is_regex);
    steps_.push_back(std::move(step));
  }
}

PieceSplitter::PieceSplitter(const PreTokenizer& pretokenizer) : pretokenizer_(pretokenizer) {
  for (const PreTokenizer::Step& step : pretokenizer.steps_) {
    scans_.emplace_back();
    if (step.regex) scans_.back().emplace(*step.regex);
  }
}

void PieceSplitter::split(std::string_view text, const PieceSink& sink) {
  if (!text.empty()) step(0, text, sink);
}

void PieceSplitter::step(std::size_t index, std::string_view piece, const PieceSink& sink) {
  if (index == scans_.size()) return sink(piece);
  const SplitRule& rule = pretokenizer_.steps_[index].rule;
  if (rule.add_prefix_space) return prefix_space(index, piece, sink);

  const bool last = index + 1 == scans_.size();
  const PieceSink descend =
      last ? PieceSink() : PieceSink([&](std::string_view p) { step(index + 1, p, sink); });
  Joiner joiner(rule.behavior, piece, last ? sink : descend);
  for_each_match(*scans_[index], piece,
                 [&](Match range, bool matched) { joiner.add(range, matched != rule.invert); });
  joiner.finish();
}

void PieceSplitter::prefix_space(std::size_t index, std::string_view piece, const PieceSink& sink) {
  if (piece.front() == ' ') return step(index + 1, piece, sink);
  step(index + 1, " " + std::string(piece), sink);
}

}  // namespace nemo::text
