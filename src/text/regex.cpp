// Searching with PCRE2: just-in-time compiled where the platform allows it, with step and memory
// limits proportional to the text, so that no expression can run away unnoticed.
#define PCRE2_CODE_UNIT_WIDTH 8
#include <nemo/base/error.hpp>
#include <nemo/text/regex.hpp>

#include <pcre2.h>

#include <algorithm>
#include <array>

namespace nemo::text {

namespace {

constexpr std::size_t kMaxExpressionBytes = 1u << 16;
constexpr std::size_t kJitStackStart = 32u << 10;
constexpr std::size_t kJitStackMax = 64u << 20;
constexpr std::uint32_t kHeapLimitKib = 256u << 10;

struct Free {
  void operator()(pcre2_code* p) const noexcept { pcre2_code_free(p); }
  void operator()(pcre2_compile_context* p) const noexcept { pcre2_compile_context_free(p); }
  void operator()(pcre2_match_data* p) const noexcept { pcre2_match_data_free(p); }
  void operator()(pcre2_match_context* p) const noexcept { pcre2_match_context_free(p); }
  void operator()(pcre2_jit_stack* p) const noexcept { pcre2_jit_stack_free(p); }
};
template <class T>
using Owned = std::unique_ptr<T, Free>;

PCRE2_SPTR units(std::string_view text) {
  // PCRE2 wants a non-null pointer even for no text.
  return reinterpret_cast<PCRE2_SPTR>(text.data() != nullptr ? text.data() : "");
}

std::string message_of(int code) {
  std::array<PCRE2_UCHAR, 160> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

/// The expression for a one-line message.
std::string quote(std::string_view expression) {
  constexpr std::size_t kShown = 80;
  std::string shown(expression.substr(0, kShown));
  for (char& c : shown) {
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  }
  return "'" + shown + (expression.size() > kShown ? "...'" : "'");
}

Owned<pcre2_code> compile(std::string_view expression, bool literal) {
  const Owned<pcre2_compile_context> context(pcre2_compile_context_create(nullptr));
  if (!context) throw std::bad_alloc();
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  const std::uint32_t options =
      literal ? PCRE2_UTF | PCRE2_LITERAL
              : PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
  int code = 0;
  PCRE2_SIZE offset = 0;
  Owned<pcre2_code> compiled(
      pcre2_compile(units(expression), expression.size(), options, &code, &offset, context.get()));
  if (!compiled) {
    throw Error(ErrorCode::unsupported,
                message_of(code) + " (byte " + std::to_string(offset) + " of its PCRE2 form)");
  }
  // Without a JIT (a hardened system) the interpreter gives the same matches, slower.
  pcre2_jit_compile(compiled.get(), PCRE2_JIT_COMPLETE);
  return compiled;
}

}  // namespace

struct Regex::Code {
  Owned<pcre2_code> compiled;
  std::string quoted;
};

Regex::Regex(std::string_view expression, bool literal) {
  try {
    if (expression.size() > kMaxExpressionBytes) {
      throw Error(ErrorCode::unsupported, "it is longer than 64 KiB");
    }
    code_ = std::make_shared<const Code>(
        Code{compile(literal ? std::string(expression) : translate_expression(expression), literal),
             quote(expression)});
  } catch (const Error& error) {
    throw Error(error.code(),
                "pre-tokenizer expression " + quote(expression) + ": " + error.what());
  }
}

struct RegexScan::Scratch {
  Owned<pcre2_match_data> data{pcre2_match_data_create(1, nullptr)};
  Owned<pcre2_match_context> context{pcre2_match_context_create(nullptr)};
  Owned<pcre2_jit_stack> stack;
};

RegexScan::RegexScan(Regex regex)
    : regex_(std::move(regex)), scratch_(std::make_unique<Scratch>()) {
  if (!scratch_->data || !scratch_->context) throw std::bad_alloc();
  pcre2_set_heap_limit(scratch_->context.get(), kHeapLimitKib);
}
RegexScan::~RegexScan() = default;
RegexScan::RegexScan(RegexScan&&) noexcept = default;
RegexScan& RegexScan::operator=(RegexScan&&) noexcept = default;

std::optional<Match> RegexScan::find(std::string_view subject, std::size_t from) {
  Scratch& s = *scratch_;
  const pcre2_code* code = regex_.code_->compiled.get();
  // Tokenizer expressions look at a character a handful of times; 64 lets all of them through and
  // stops exponential ones early.
  const std::size_t steps = std::min<std::size_t>(10'000 + 64 * subject.size(), 0x7fffffff);
  pcre2_set_match_limit(s.context.get(), static_cast<std::uint32_t>(steps));
  const auto match = [&](std::uint32_t options) {
    return pcre2_match(code, units(subject), subject.size(), from, options | PCRE2_NO_UTF_CHECK,
                       s.data.get(), s.context.get());
  };
  int rc = match(0);
  if (rc == PCRE2_ERROR_JIT_STACKLIMIT && !s.stack) {
    s.stack.reset(pcre2_jit_stack_create(kJitStackStart, kJitStackMax, nullptr));
    if (!s.stack) throw std::bad_alloc();
    pcre2_jit_stack_assign(s.context.get(), nullptr, s.stack.get());
    rc = match(0);
  }
  if (rc == PCRE2_ERROR_JIT_STACKLIMIT) rc = match(PCRE2_NO_JIT);
  if (rc == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (rc < 0) {
    throw Error(ErrorCode::capacity, "pre-tokenizer expression " + regex_.code_->quoted +
                                         " gave up on a text of " + std::to_string(subject.size()) +
                                         " bytes (" + message_of(rc) +
                                         "); split the text or use another tokenizer file");
  }
  const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(s.data.get());
  if (ends[0] > ends[1] || ends[0] < from) {
    throw Error(ErrorCode::unsupported, "pre-tokenizer expression " + regex_.code_->quoted +
                                            " matches backwards; remove its '\\K'");
  }
  return Match{ends[0], ends[1]};
}

}  // namespace nemo::text
