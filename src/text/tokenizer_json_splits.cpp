// The pre_tokenizer of a tokenizer.json as a list of split rules.
#include "src/text/tokenizer_json_node.hpp"

#include <array>
#include <string_view>
#include <utility>

namespace nemo::text::tokenizer_file {

namespace {

// ByteLevel's own expression (GPT-2's), used when use_regex is true.
constexpr std::string_view kByteLevelSplit =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

SplitBehavior read_behavior(const Node& node) {
  constexpr std::array<std::pair<std::string_view, SplitBehavior>, 5> kNames = {{
      {"Isolated", SplitBehavior::isolated},
      {"Removed", SplitBehavior::removed},
      {"MergedWithPrevious", SplitBehavior::merged_with_previous},
      {"MergedWithNext", SplitBehavior::merged_with_next},
      {"Contiguous", SplitBehavior::contiguous},
  }};
  const Node behavior = node["behavior"];
  if (!behavior.present()) return SplitBehavior::isolated;
  for (const auto& [name, value] : kNames) {
    if (behavior.string() == name) return value;
  }
  bad(behavior.path, shown(behavior.string()) +
                         " is none of Isolated, Removed, MergedWithPrevious, MergedWithNext, "
                         "Contiguous");
}

SplitRule read_split(const Node& node) {
  const Node pattern = node["pattern"];
  pattern.object();
  SplitRule rule;
  rule.is_regex = pattern["Regex"].present();
  rule.pattern = (rule.is_regex ? pattern["Regex"] : pattern["String"]).string();
  if (rule.pattern.empty()) bad(pattern.path, "is empty");
  rule.behavior = read_behavior(node);
  rule.invert = node["invert"].boolean(false);
  return rule;
}

class SplitReader {
 public:
  void read(const Node& node, int nesting = 0) {
    node.object();
    check_nesting(node, nesting);
    const std::string& type = node["type"].string();
    if (type == "Sequence") {
      const Node list = node["pretokenizers"];
      for (std::size_t i = 0; i < list.array_size(); ++i) read(list.element(i), nesting + 1);
      return;
    }
    if (byte_level_) unsupported(node.path, "follows ByteLevel, which must come last");
    if (type == "ByteLevel") {
      byte_level_ = true;
      if (node["add_prefix_space"].boolean(true)) {
        splits_.push_back({.add_prefix_space = true});
      }
      if (node["use_regex"].boolean(true)) {
        splits_.emplace_back().pattern = kByteLevelSplit;
      }
    } else if (type == "Split") {
      splits_.push_back(read_split(node));
    } else if (type == "Digits") {
      const bool each = node["individual_digits"].boolean(false);
      splits_.push_back({.pattern = "\\p{N}",
                         .behavior = each ? SplitBehavior::isolated : SplitBehavior::contiguous});
    } else if (type == "Punctuation") {
      splits_.push_back({.pattern = "[\\p{P}!-/:-@\\[-`{-~]", .behavior = read_behavior(node)});
    } else if (type == "WhitespaceSplit") {
      splits_.push_back({.pattern = "\\s", .behavior = SplitBehavior::removed});
    } else if (type == "Whitespace") {
      splits_.push_back(
          {.pattern = "\\w+|[^\\w\\s]+", .behavior = SplitBehavior::removed, .invert = true});
    } else {
      unsupported(node.path, "pre-tokenizer " + shown(type));
    }
  }

  std::vector<SplitRule> take(const std::string& path) {
    if (!byte_level_) {
      unsupported(path, "has no ByteLevel part; only byte-level BPE is supported");
    }
    return std::move(splits_);
  }

 private:
  std::vector<SplitRule> splits_;
  bool byte_level_ = false;
};

}  // namespace

std::vector<SplitRule> read_split_rules(const Node& pre_tokenizer) {
  SplitReader reader;
  if (pre_tokenizer.present()) reader.read(pre_tokenizer);
  return reader.take(pre_tokenizer.path);
}

}  // namespace nemo::text::tokenizer_file
