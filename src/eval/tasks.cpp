// Generators of the evaluation tasks: the word pools, phrasings and held-out rule of
// tools/tiny/tasks.py.
#include "nemo/eval/tasks.hpp"

#include "nemo/base/error.hpp"

#include <algorithm>
#include <cctype>
#include <iterator>
#include <utility>

namespace nemo::eval {
namespace {

constexpr std::string_view kNouns[] = {
    "apple",   "river",   "stone",   "lamp",   "falcon", "amber",   "cedar",  "otter",
    "maple",   "tiger",   "violin",  "candle", "window", "garden",  "ladder", "bridge",
    "castle",  "silver",  "copper",  "marble", "velvet", "cotton",  "pepper", "ginger",
    "lemon",   "cherry",  "walnut",  "almond", "carrot", "potato",  "basket", "bucket",
    "hammer",  "needle",  "button",  "ribbon", "mirror", "pillow",  "carpet", "blanket",
    "kettle",  "saucer",  "pencil",  "marker", "folder", "letter",  "packet", "ticket",
    "wallet",  "jacket",  "helmet",  "saddle", "anchor", "rocket",  "engine", "wheel",
    "pedal",   "cable",   "socket",  "magnet", "prism",  "crystal", "pebble", "canyon",
    "valley",  "forest",  "meadow",  "desert", "island", "harbor",  "lagoon", "glacier",
    "thunder", "shadow",  "breeze",  "winter", "summer", "autumn",  "spring", "sunset",
    "comet",   "planet",  "meteor",  "orbit",  "saturn", "eagle",   "robin",  "sparrow",
    "heron",   "raven",   "badger",  "rabbit", "beaver", "walrus",  "donkey", "monkey",
    "camel",   "turtle",  "lizard",  "salmon", "oyster", "lobster", "spider", "beetle",
    "cricket", "hornet",  "tulip",   "orchid", "daisy",  "clover",  "fern",   "willow",
    "acorn",   "bamboo",  "cactus",  "barley", "honey",  "butter",  "cheese", "muffin",
    "cookie",  "waffle",  "noodle",  "tomato", "onion",  "melon",   "mango",  "peach",
    "olive",   "trumpet", "guitar",  "piano",  "drum",   "flute",   "cello",  "banjo",
    "whistle", "compass", "lantern", "shovel", "barrel", "wagon",   "canoe",  "kayak",
    "sail"};
constexpr std::string_view kAdjectives[] = {"old",    "quiet",  "small",  "green",  "bright",
                                            "heavy",  "narrow", "warm",   "cold",   "gentle",
                                            "hidden", "wooden", "golden", "empty",  "round",
                                            "soft",   "plain",  "simple", "broken", "distant"};
constexpr std::string_view kPlaces[] = {"market",  "library", "station", "kitchen", "tower",
                                        "village", "school",  "museum",  "theater", "bakery"};
constexpr std::string_view kVerbs[] = {"waits", "rests", "stands", "sleeps", "shines",
                                       "moves", "turns", "grows",  "stays",  "falls"};
constexpr std::string_view kActs[] = {"sees",    "finds",   "holds", "likes", "paints",
                                      "carries", "follows", "hears", "keeps", "moves"};
constexpr std::string_view kNames[] = {"Anna",  "Ben",   "Clara", "David", "Emma",
                                       "Frank", "Grace", "Henry", "Iris",  "Jack"};
constexpr std::string_view kPasswordSigns = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
constexpr std::size_t kPasswordLetters = 24;  // the letters come first in kPasswordSigns

constexpr std::string_view kTaskNames[] = {"arithmetic", "recall",   "hashhop",
                                           "hashhop3",   "hashhop4", "format"};

// splitmix64 and a multiply-shift range: unlike <random>'s distributions, equal on every platform.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  std::uint64_t next() {
    std::uint64_t z = (state_ += 0x9E3779B97F4A7C15ull);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  }

  // Uniform in [0, limit); limit < 2^31.
  std::size_t below(std::size_t limit) {
    return static_cast<std::size_t>((next() >> 33) * limit >> 31);
  }

  int between(int low, int high) {  // both included
    return low + static_cast<int>(below(static_cast<std::size_t>(high - low + 1)));
  }

  template <std::size_t Size>
  std::string pick(const std::string_view (&pool)[Size]) {
    return std::string(pool[below(Size)]);
  }

 private:
  std::uint64_t state_;
};

template <typename T>
void shuffle(std::vector<T>& items, Random& random) {
  for (std::size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[random.below(i)]);
}

// `count` different nouns in random order.
std::vector<std::string> pick_nouns(Random& random, std::size_t count) {
  std::vector<std::string> nouns(std::begin(kNouns), std::end(kNouns));
  shuffle(nouns, random);
  nouns.resize(count);
  return nouns;
}

std::string join(const std::vector<std::string>& items, std::string_view separator) {
  std::string text;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0) text += separator;
    text += items[i];
  }
  return text;
}

Case arithmetic(Random& random) {
  constexpr char kOperations[] = {'+', '+', '-', '-', '*', '*', '*', '*'};
  constexpr std::string_view kAsk[] = {"Solve: ", "What is ", "Calculate "};
  constexpr std::string_view kEnd[] = {"", "?", "."};
  char operation = '+';
  int a = 0, b = 0;
  do {
    operation = kOperations[random.below(std::size(kOperations))];
    a = random.between(10, 99);
    b = random.between(10, 99);
    if (operation == '-' && a < b) std::swap(a, b);
  } while (!is_held_out(operation, a, b));
  const int value = operation == '+' ? a + b : operation == '-' ? a - b : a * b;
  const std::size_t phrase = random.below(std::size(kAsk));
  Case item{.task = "arithmetic", .prompt = {}, .expected = std::to_string(value)};
  item.prompt = std::string(kAsk[phrase]) + std::to_string(a) + ' ' + operation + ' ' +
                std::to_string(b) + std::string(kEnd[phrase]);
  item.rule = Rule::last_integer;
  return item;
}

// A filler sentence of about nine tokens of nemo-tiny's vocabulary.
std::string sentence(Random& random) {
  const std::size_t kind = random.below(6);
  const std::string adjective = random.pick(kAdjectives);
  const std::string noun = random.pick(kNouns), other = random.pick(kNouns);
  switch (kind) {
    case 0:
      return "The " + adjective + ' ' + noun + ' ' + random.pick(kVerbs) + " near the " + other +
             '.';
    case 1: {
      const std::string name = random.pick(kNames);
      return name + ' ' + random.pick(kActs) + " the " + adjective + ' ' + noun + '.';
    }
    case 2:
      return "In the " + random.pick(kPlaces) + ", the " + noun + " is " + adjective + '.';
    case 3:
      return "The " + noun + ' ' + random.pick(kActs) + " the " + other + '.';
    case 4: {
      const std::string place = random.pick(kPlaces);
      return "Every " + noun + " in the " + place + ' ' + random.pick(kVerbs) + '.';
    }
    default: {
      const std::string verb = random.pick(kVerbs);
      return "A " + adjective + ' ' + noun + ' ' + verb + " with a " + random.pick(kAdjectives) +
             ' ' + other + '.';
    }
  }
}

std::string password(Random& random) {
  const std::size_t kind = random.below(20);
  std::string text;
  if (kind < 14) {  // amber-falcon-42
    text = random.pick(kNouns) + '-';
    text += random.pick(kNouns) + '-';
    return text + std::to_string(random.between(10, 99));
  }
  const bool letters_then_digits = kind < 17;  // QX4071, else K7M2PW
  for (int i = 0; i < 6; ++i) {
    if (letters_then_digits && i >= 2)
      text += static_cast<char>('0' + random.between(0, 9));
    else
      text += kPasswordSigns[random.below(letters_then_digits ? kPasswordLetters
                                                              : kPasswordSigns.size())];
  }
  return text;
}

Case recall(Random& random, int filler_tokens) {
  constexpr std::string_view kIntros[] = {"Read this text.", "Here is a note.",
                                          "Read the text and remember the password.",
                                          "Please read this."};
  constexpr std::string_view kAsk[] = {
      "What is the password?", "What was the password in the text?", "Tell me the password.",
      "Which password does the text give?"};
  Case item{.task = "recall", .prompt = {}, .expected = password(random)};
  std::vector<std::string> lines(static_cast<std::size_t>(std::max(1, filler_tokens / 9)));
  for (std::string& line : lines) line = sentence(random);
  const auto place = static_cast<std::ptrdiff_t>(random.below(lines.size() + 1));
  lines.insert(lines.begin() + place, "The password is " + item.expected + '.');
  item.prompt = random.pick(kIntros) + "\n\n" + join(lines, " ") + "\n\n";
  item.prompt += random.pick(kAsk);
  item.rule = Rule::contains;
  item.thinking = false;
  item.max_tokens = 64;
  item.filler_tokens = filler_tokens;
  return item;
}

Case hashhop(Random& random, int hops) {
  const auto pairs = static_cast<std::size_t>(random.between(8, 32));
  const std::vector<std::string> path = pick_nouns(random, pairs + 1);
  std::vector<std::string> lines;
  for (std::size_t i = 0; i < pairs; ++i) lines.push_back(path[i] + "->" + path[i + 1]);
  shuffle(lines, random);
  const auto length = static_cast<std::size_t>(hops);
  const std::size_t start = random.below(pairs - length + 1);
  const std::string from = path[start], steps = std::to_string(hops);
  const std::string ask[] = {
      "Start at " + from + " and follow " + steps + " links. Where do you end?",
      "Start at " + from + ". Follow " + steps + " links.",
      "From " + from + ", follow " + steps + " links. Where does that lead?"};
  Case item{.task = {}, .prompt = {}, .expected = path[start + length]};
  item.prompt = "Links:\n" + join(lines, "\n") + "\n\n" + ask[random.below(std::size(ask))];
  item.rule = Rule::last_word;
  item.max_tokens = 128;
  return item;
}

Case format(Random& random) {
  const std::size_t kind = random.below(9);
  const auto count = static_cast<std::size_t>(random.between(3, 7));
  const bool second = random.below(2) == 1;  // which of two phrasings
  std::vector<std::string> words = pick_nouns(random, count);
  const std::string spaced = join(words, " "), commas = join(words, ", ");
  Case item{.task = "format", .prompt = {}, .expected = {}};
  item.thinking = false;
  item.max_tokens = 128;
  switch (kind) {
    case 0: {
      words = pick_nouns(random, static_cast<std::size_t>(random.between(2, 9)));
      item.prompt = second ? "Count the words: " : "How many words are in this list: ";
      item.prompt += join(words, " ");
      item.expected = std::to_string(words.size());
      item.rule = Rule::last_integer;
      break;
    }
    case 1: {
      std::vector<std::string> digits;
      for (char digit = '0'; digit <= '9'; ++digit) digits.emplace_back(1, digit);
      shuffle(digits, random);
      digits.resize(count);
      item.prompt = second ? "Sort from small to large: " : "Sort these numbers: ";
      item.prompt += join(digits, ", ");
      std::sort(digits.begin(), digits.end());
      item.expected = join(digits, ", ");
      break;
    }
    case 2:
      item.prompt =
          (second ? "Reverse these words: " : "Reverse the order of these words: ") + spaced;
      std::reverse(words.begin(), words.end());
      item.expected = join(words, " ");
      break;
    case 3:
      item.prompt = (second ? "Copy this: " : "Repeat after me: ") + spaced;
      item.expected = spaced;
      break;
    case 4:
      item.expected = sentence(random);
      item.prompt = (second ? "Copy the sentence: " : "Repeat this sentence: ") + item.expected;
      break;
    case 5:
      item.prompt = (second ? "Make a numbered list: " : "Write as a numbered list: ") + commas;
      for (std::size_t i = 0; i < count; ++i) words[i] = std::to_string(i + 1) + ". " + words[i];
      item.expected = join(words, "\n");
      break;
    case 6:
      item.prompt = (second ? "Make a bullet list: " : "Write as a bullet list: ") + commas;
      item.expected = "- " + join(words, "\n- ");
      break;
    case 7:
      item.prompt = (second ? "Make a JSON list: " : "Write as a JSON list: ") + commas;
      item.expected = "[\"" + join(words, "\", \"") + "\"]";
      break;
    default:
      item.prompt = (second ? "Put commas between these words: " : "Join with commas: ") + spaced;
      item.expected = commas;
      break;
  }
  return item;
}

std::string_view trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const std::size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// The last run of characters that satisfy `belongs`; empty if there is none.
template <typename Belongs>
std::string_view last_run(std::string_view text, Belongs belongs) {
  std::size_t end = text.size();
  while (end > 0 && !belongs(text[end - 1])) --end;
  std::size_t begin = end;
  while (begin > 0 && belongs(text[begin - 1])) --begin;
  return text.substr(begin, end - begin);
}

std::string_view last_integer(std::string_view text) {
  const std::string_view digits = last_run(text, is_digit);
  if (digits.empty()) return {};
  const auto begin = static_cast<std::size_t>(digits.data() - text.data());
  return begin > 0 && text[begin - 1] == '-' ? text.substr(begin - 1, digits.size() + 1) : digits;
}

// Cases of one task differ from those of another at the same seed.
std::uint64_t stream(std::string_view task, std::uint64_t seed) {
  std::uint64_t hash = 0xCBF29CE484222325ull ^ seed;  // FNV-1a
  for (const char c : task) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3ull;
  return hash;
}

void require_count(int count) {
  if (count < 0)
    throw Error(ErrorCode::usage, "cannot make " + std::to_string(count) + " evaluation cases");
}

}  // namespace

bool is_correct(const Case& item, std::string_view content) {
  const std::string_view text = trim(content), expected = trim(item.expected);
  switch (item.rule) {
    case Rule::exact:
      return text == expected;
    case Rule::contains:
      return text.find(expected) != std::string_view::npos;
    case Rule::last_integer:
      return last_integer(text) == expected;
    case Rule::last_word:
      return last_run(text, is_letter) == expected;
  }
  return false;
}

std::span<const std::string_view> task_names() { return kTaskNames; }

bool is_held_out(char operation, int a, int b) {
  const std::uint32_t index = operation == '+' ? 0u : operation == '-' ? 1u : 2u;
  std::uint32_t x =
      (static_cast<std::uint32_t>(a) * 100u + static_cast<std::uint32_t>(b)) * 3u + index;
  x *= 2654435761u;
  x ^= x >> 15;
  x *= 2246822519u;
  x ^= x >> 13;
  return x % 10u == 0u;
}

std::vector<Case> make_recall_cases(std::uint64_t seed, int count, int filler_tokens) {
  require_count(count);
  Random random(stream("recall", seed));
  std::vector<Case> cases;
  for (int i = 0; i < count; ++i) cases.push_back(recall(random, filler_tokens));
  return cases;
}

std::vector<Case> make_cases(std::string_view task, std::uint64_t seed, int count) {
  require_count(count);
  if (std::find(std::begin(kTaskNames), std::end(kTaskNames), task) == std::end(kTaskNames)) {
    std::string known;
    for (const std::string_view name : kTaskNames)
      known.append(known.empty() ? "" : ", ").append(name);
    throw Error(ErrorCode::usage,
                "unknown evaluation task '" + std::string(task) + "': use one of " + known);
  }
  constexpr int kFillerTokens[] = {20, 40, 80, 150, 300, 500, 750, 1000};
  Random random(stream(task, seed));
  std::vector<Case> cases;
  for (int i = 0; i < count; ++i) {
    if (task == "arithmetic")
      cases.push_back(arithmetic(random));
    else if (task == "recall")
      cases.push_back(
          recall(random, kFillerTokens[static_cast<std::size_t>(i) % std::size(kFillerTokens)]));
    else if (task == "format")
      cases.push_back(format(random));
    else
      cases.push_back(hashhop(random, task == "hashhop4" ? 4 : task == "hashhop3" ? 3 : 2));
    cases.back().task = task;
  }
  return cases;
}

}  // namespace nemo::eval
