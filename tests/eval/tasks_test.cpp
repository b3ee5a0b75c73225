// Claims about the evaluation tasks: same cases everywhere, answers that check, held-out pairs
// only.
#include "nemo/eval/tasks.hpp"

#include "catch.hpp"
#include "nemo/base/error.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <sstream>
#include <string>

using namespace nemo::eval;

namespace {

// a, operation and b of "Solve: 17 * 23", "What is 17 * 23?" or "Calculate 17 * 23.".
struct Sum {
  int a = 0, b = 0;
  char operation = ' ';
};

Sum parse_sum(const std::string& prompt) {
  std::istringstream text(prompt.substr(prompt.find_first_of("0123456789")));
  Sum sum;
  text >> sum.a >> sum.operation >> sum.b;
  return sum;
}

// The end of the chain that a hashhop prompt asks for, followed line by line.
std::string follow_links(const std::string& prompt, int hops) {
  std::map<std::string, std::string> next;
  std::istringstream lines(prompt.substr(0, prompt.find("\n\n")));
  for (std::string line; std::getline(lines, line);) {
    const std::size_t arrow = line.find("->");
    if (arrow != std::string::npos) next[line.substr(0, arrow)] = line.substr(arrow + 2);
  }
  std::istringstream question(prompt.substr(prompt.find("\n\n") + 2));
  std::string word, at;
  while (at.empty() && question >> word)
    if (word == "at" || word == "From") question >> at;
  while (!at.empty() && (at.back() == ',' || at.back() == '.')) at.pop_back();
  for (int i = 0; i < hops; ++i) at = next[at];
  return at;
}

}  // namespace

TEST_CASE("the same task, seed and count give the same cases", "[eval]") {
  for (const std::string_view task : task_names()) {
    const auto first = make_cases(task, 7, 25), second = make_cases(task, 7, 25);
    const auto other = make_cases(task, 8, 25);
    REQUIRE(first.size() == 25);
    int same = 0;
    for (std::size_t i = 0; i < first.size(); ++i) {
      CHECK(first[i].prompt == second[i].prompt);
      CHECK(first[i].expected == second[i].expected);
      CHECK(first[i].task == task);
      same += first[i].prompt == other[i].prompt;
    }
    CHECK(same < 3);
  }
}

TEST_CASE("cases are fixed for all platforms", "[eval]") {
  // Recorded once: a change here silently changes every published accuracy.
  CHECK(make_cases("arithmetic", 1, 1)[0].prompt == "What is 88 * 22?");
  CHECK(make_cases("format", 1, 1)[0].prompt == "Join with commas: lagoon sparrow breeze");
  CHECK(make_cases("recall", 1, 1)[0].expected == "folder-velvet-51");
  CHECK(make_cases("hashhop", 1, 1)[0].expected == "wallet");
}

TEST_CASE("arithmetic answers are right and use held-out pairs only", "[eval]") {
  for (const Case& item : make_cases("arithmetic", 3, 300)) {
    const Sum sum = parse_sum(item.prompt);
    const int value = sum.operation == '+'   ? sum.a + sum.b
                      : sum.operation == '-' ? sum.a - sum.b
                                             : sum.a * sum.b;
    CHECK(item.expected == std::to_string(value));
    CHECK(is_held_out(sum.operation, sum.a, sum.b));
    CHECK(value >= 0);
    CHECK(is_correct(item, "17*3=51\nAnswer: " + item.expected));
    CHECK_FALSE(is_correct(item, item.expected + "0"));
  }
}

TEST_CASE("about one operand pair in ten is held out", "[eval]") {
  for (const char operation : {'+', '-', '*'}) {
    int held = 0;
    for (int a = 10; a < 100; ++a)
      for (int b = 10; b < 100; ++b) held += is_held_out(operation, a, b);
    CHECK(held > 650);
    CHECK(held < 970);
  }
}

TEST_CASE("links lead to the expected name", "[eval]") {
  const std::pair<std::string_view, int> kTasks[] = {
      {"hashhop", 2}, {"hashhop3", 3}, {"hashhop4", 4}};
  for (const auto& [task, hops] : kTasks)
    for (const Case& item : make_cases(task, 5, 100)) {
      CHECK(follow_links(item.prompt, hops) == item.expected);
      CHECK(is_correct(item, "1:a->b\nEnd: " + item.expected));
      CHECK_FALSE(is_correct(item, item.expected + "->x"));
    }
}

TEST_CASE("recall texts hold the password once and reach 1000 tokens", "[eval]") {
  std::size_t longest = 0;
  for (const Case& item : make_cases("recall", 2, 64)) {
    const std::size_t at = item.prompt.find("The password is " + item.expected + '.');
    REQUIRE(at != std::string::npos);
    CHECK(item.prompt.find(item.expected, at + 17 + item.expected.size()) == std::string::npos);
    CHECK(is_correct(item, "The password is " + item.expected + "."));
    CHECK_FALSE(is_correct(item, "The password is unknown."));
    longest = std::max(longest, item.prompt.size());
  }
  CHECK(longest > 3500);  // about 4 bytes a token
  CHECK(make_recall_cases(1, 3, 2000)[0].prompt.size() > 7000);
}

TEST_CASE("format cases cover all nine kinds and are judged exactly", "[eval]") {
  std::set<std::string> beginnings;
  for (const Case& item : make_cases("format", 4, 300)) {
    beginnings.insert(item.prompt.substr(0, item.prompt.find(':')));
    CHECK(is_correct(item, " " + item.expected + "\n"));
    CHECK_FALSE(is_correct(item, item.expected + " 77"));
  }
  CHECK(beginnings.size() == 18);
}

TEST_CASE("rules look at the right part of the content", "[eval]") {
  Case item{.task = "x", .prompt = "", .expected = "-35"};
  item.rule = Rule::last_integer;
  CHECK(is_correct(item, "23 - 58 = -35."));
  CHECK_FALSE(is_correct(item, "35"));
  CHECK_FALSE(is_correct(item, ""));
  item.expected = "lamp";
  item.rule = Rule::last_word;
  CHECK(is_correct(item, "river->lamp."));
  CHECK_FALSE(is_correct(item, "lamps"));
  CHECK_FALSE(is_correct(item, "12"));
}

TEST_CASE("an unknown task names the known ones", "[eval]") {
  try {
    (void)make_cases("poetry", 1, 1);
    FAIL("no error");
  } catch (const nemo::Error& error) {
    CHECK(error.code() == nemo::ErrorCode::usage);
    CHECK(std::string(error.what()).find("arithmetic, recall, hashhop") != std::string::npos);
  }
  CHECK_THROWS_AS(make_cases("recall", 1, -1), nemo::Error);
  CHECK(make_cases("recall", 1, 0).empty());
}
