// Small questions with known answers, for measuring a model or a cache setting: arithmetic, recall
// of a hidden password, following links, and list formatting. Cases depend on nothing but task,
// seed and count.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace nemo::eval {

// How an answer is judged. All rules ignore white space around the content.
enum class Rule {
  exact,         // the content is the expected text
  contains,      // the expected text occurs in the content
  last_integer,  // the last integer in the content is the expected one
  last_word,     // the last run of ASCII letters in the content is the expected one
};

struct Case {
  std::string task;
  std::string prompt;    // text of the user's turn
  std::string expected;  // see Rule
  Rule rule = Rule::exact;
  bool thinking = true;   // the mode the case is meant for; every rule also fits the other one
  int max_tokens = 256;   // enough for working and answer of nemo-tiny
  int filler_tokens = 0;  // recall only: about this many tokens of text around the password
};

// True if `content` (the reply without its thinking) answers the case.
[[nodiscard]] bool is_correct(const Case& item, std::string_view content);

// Names that make_cases accepts: arithmetic, recall, hashhop, hashhop3, hashhop4, format.
[[nodiscard]] std::span<const std::string_view> task_names();

// `count` cases of a task. The same arguments give the same cases on every platform.
// Arithmetic uses only operand pairs that nemo-tiny was never trained on; recall spreads its
// passwords over texts of 20 to 1000 tokens. Throws nemo::Error (usage) for an unknown task or a
// negative count.
[[nodiscard]] std::vector<Case> make_cases(std::string_view task, std::uint64_t seed, int count);

// Recall cases with about `filler_tokens` tokens of text each, for a test at one distance.
[[nodiscard]] std::vector<Case> make_recall_cases(std::uint64_t seed, int count, int filler_tokens);

// True for the one pair in ten of each operation (+, -, *) that training leaves out.
[[nodiscard]] bool is_held_out(char operation, int a, int b);

}  // namespace nemo::eval
