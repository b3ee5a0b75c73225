// The split expressions behind the names in `tokenizer.ggml.pre`. The names and their meaning are
// llama.cpp's (src/llama-vocab.cpp); where it approximates a model's original expression, so does
// this table, because the point of a GGUF name is to give the ids llama.cpp gives.
#include <nemo/base/error.hpp>
#include <nemo/text/pretokenizer.hpp>

#include <algorithm>
#include <array>

namespace nemo::text {

namespace {

// English contractions in any case.
#define NEMO_CONTRACTIONS "'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]"
// White space: lines first, then runs that leave the last space to the next word.
#define NEMO_SPACES "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
// Words as in Llama 3, with the given treatment of digits and of what may follow punctuation.
#define NEMO_WORDS(DIGITS, AFTER) \
  "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" DIGITS "| ?[^\\s\\p{L}\\p{N}]+" AFTER "|" NEMO_SPACES
// Case-aware words. llama.cpp lets every letter beyond ASCII count as both cases.
#define NEMO_UPPER "[^a-z\\P{L}]"
#define NEMO_LOWER "[^A-Z\\P{L}]"
#define NEMO_CASED(TAIL)                                                                           \
  "[^\\r\\n\\p{L}\\p{N}]?" NEMO_UPPER "*" NEMO_LOWER "+" TAIL "|[^\\r\\n\\p{L}\\p{N}]?" NEMO_UPPER \
  "+" NEMO_LOWER "*" TAIL "|"

constexpr std::string_view kGpt2 =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
constexpr std::string_view kLlama3 = NEMO_CONTRACTIONS "|" NEMO_WORDS("\\p{N}{1,3}", "[\\r\\n]*");
constexpr std::string_view kQwen2 = NEMO_CONTRACTIONS "|" NEMO_WORDS("\\p{N}", "[\\r\\n]*");
constexpr std::string_view kQwen35 = NEMO_CONTRACTIONS
    "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| "
    "?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" NEMO_SPACES;
constexpr std::string_view kTekken =
    NEMO_CASED("") "\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" NEMO_SPACES;
constexpr std::string_view kGpt4o = NEMO_CASED(
    "(?:" NEMO_CONTRACTIONS ")?") "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" NEMO_SPACES;
constexpr std::string_view kSeedCoder = NEMO_CONTRACTIONS
    "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|" NEMO_SPACES;
constexpr std::string_view kBailing =
    "'[sSdDmMtT]|'[lL][lL]|'[vV][eE]|'[rR][eE]|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}"
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+";
constexpr std::string_view kBloom =
    " ?[^(\\s|.,!?\\x{2026}\\x{3002}\\x{ff0c}\\x{3001}\\x{964}\\x{6d4}\\x{60c})]+";
constexpr std::string_view kCjk = "[\\x{4e00}-\\x{9fa5}\\x{800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+";
// Cased letters as DeepSeek listed them.
constexpr std::string_view kDeepSeekLlmWords =
    "\\s?[\\x{41}-\\x{5a}\\x{61}-\\x{7a}\\x{b5}\\x{c0}-\\x{d6}\\x{d8}-\\x{f6}\\x{f8}-\\x{1ba}"
    "\\x{1bc}-\\x{1bf}\\x{1c4}-\\x{293}\\x{295}-\\x{2af}\\x{370}-\\x{373}\\x{376}-\\x{377}"
    "\\x{37b}-\\x{37d}\\x{37f}\\x{386}\\x{388}-\\x{38a}\\x{38c}\\x{38e}-\\x{3a1}\\x{3a3}-\\x{3f5}"
    "\\x{3f7}-\\x{481}\\x{48a}-\\x{52f}\\x{531}-\\x{556}\\x{10a0}-\\x{10c5}\\x{13a0}-\\x{13f5}"
    "\\x{13f8}-\\x{13fd}\\x{1c90}-\\x{1cba}\\x{1cbd}-\\x{1cbf}\\x{1d00}-\\x{1d2b}"
    "\\x{1d6b}-\\x{1d77}\\x{1d79}-\\x{1d9a}\\x{1e00}-\\x{1f15}\\x{1f18}-\\x{1f1d}"
    "\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}\\x{1f50}-\\x{1f57}\\x{1f59}\\x{1f5b}\\x{1f5d}"
    "\\x{1f5f}-\\x{1f7d}\\x{1f80}-\\x{1fb4}\\x{1fb6}-\\x{1fbc}\\x{1fbe}\\x{1fc2}-\\x{1fc4}"
    "\\x{1fc6}-\\x{1fcc}\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}\\x{1fe0}-\\x{1fec}"
    "\\x{1ff2}-\\x{1ff4}\\x{1ff6}-\\x{1ffc}\\x{2102}\\x{2107}\\x{210a}-\\x{2113}\\x{2115}"
    "\\x{2119}-\\x{211d}\\x{2124}\\x{2126}\\x{2128}\\x{212a}-\\x{212d}\\x{212f}-\\x{2134}"
    "\\x{2139}\\x{213c}-\\x{213f}\\x{2145}-\\x{2149}\\x{214e}\\x{2183}-\\x{2184}"
    "\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{2ce4}\\x{2ceb}-\\x{2cee}\\x{2cf2}-\\x{2cf3}"
    "\\x{a640}-\\x{a66d}\\x{a680}-\\x{a69b}\\x{a722}-\\x{a76f}\\x{a771}-\\x{a787}"
    "\\x{a78b}-\\x{a78e}\\x{ab70}-\\x{abbf}\\x{fb00}-\\x{fb06}\\x{fb13}-\\x{fb17}"
    "\\x{ff21}-\\x{ff3a}\\x{ff41}-\\x{ff5a}\\x{10400}-\\x{1044f}\\x{104b0}-\\x{104d3}"
    "\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}\\x{10cc0}-\\x{10cf2}\\x{118a0}-\\x{118df}"
    "\\x{1e900}-\\x{1e943}]+";
constexpr std::string_view kDeepSeek3Words =
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+"
    "|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|" NEMO_SPACES;

struct Row {
  std::array<std::string_view, 9> names;        // synonyms, unused ones empty
  std::array<std::string_view, 6> expressions;  // applied in this order, unused ones empty
  bool ignore_merges = false;
  bool add_bos = false;
};

// A match of `\s+` at the end can only start where white space starts; saying so keeps the search
// linear on long runs inside the text.
constexpr std::array kRows = {
    Row{{"default"}, {"[\\p{P}$+<=>^~|]+", kGpt2, "\\p{N}+", "[0-9][0-9][0-9]"}},
    Row{{"pixtral", "llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "midm-2.0", "lfm2",
         "jina-v5-nano"},
        {kLlama3},
        true,
        true},
    Row{{"dbrx", "smaug-bpe", "chatglm-bpe", "glm4"}, {kLlama3}},
    Row{{"tekken"}, {kTekken}, true, true},
    Row{{"gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "exaone4",
         "gigachat"},
        {kGpt2}},
    Row{{"jina-es", "jina-de", "jina-v2-es", "jina-v2-de", "a.x-4.0", "mellum", "modern-bert"},
        {kGpt2}},
    Row{{"qwen2", "deepseek-r1-qwen", "megrez", "stablelm2", "hunyuan", "kormo", "f2llmv2",
         "solar-open", "grok-2"},
        {kQwen2}},
    Row{{"qwen35"}, {kQwen35}},
    Row{{"gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"}, {kGpt4o}},
    Row{{"seed-coder"}, {kSeedCoder}},
    Row{{"bailingmoe", "bailingmoe2", "llada-moe"}, {kBailing}},
    Row{{"deepseek-coder"}, {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", kCjk, "\\p{N}"}},
    Row{{"deepseek-llm"},
        {"[\\r\\n]", kDeepSeekLlmWords,
         "\\s?[!-/"
         ":-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}\\x{2018}-\\x{201f}\\x{3000}-\\x{3002}]+",
         "(?<!\\s)\\s+\\z", kCjk, "\\p{N}+"}},
    Row{{"deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"},
        {"\\p{N}{1,3}", "[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{309f}\\x{30a0}-\\x{30ff}]+",
         kDeepSeek3Words}},
    Row{{"falcon"}, {"[\\p{P}$+<=>^~|`]+", kGpt2, "[0-9][0-9][0-9]"}},
    Row{{"starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b",
         "mellum2"},
        {"\\p{N}", kGpt2}},
    Row{{"bloom", "poro-chat", "gpt3-finnish"}, {kBloom}},
    Row{{"viking"}, {kBloom, "\\p{N}"}},
};

#undef NEMO_CONTRACTIONS
#undef NEMO_SPACES
#undef NEMO_WORDS
#undef NEMO_UPPER
#undef NEMO_LOWER
#undef NEMO_CASED

}  // namespace

GgufPreTokenizer gguf_pretokenizer(std::string_view name) {
  if (name.empty()) name = "default";
  for (const Row& row : kRows) {
    if (std::find(row.names.begin(), row.names.end(), name) == row.names.end()) continue;
    GgufPreTokenizer found;
    for (const std::string_view expression : row.expressions) {
      if (!expression.empty()) found.splits.push_back({.pattern = std::string(expression)});
    }
    found.ignore_merges = row.ignore_merges;
    found.add_bos = row.add_bos;
    return found;
  }
  std::string known;
  for (const std::string_view each : gguf_pretokenizer_names()) {
    known.append(known.empty() ? "" : ", ").append(each);
  }
  throw Error(ErrorCode::unsupported, "tokenizer.ggml.pre is '" + std::string(name.substr(0, 80)) +
                                          "', which is none of: " + known);
}

std::vector<std::string_view> gguf_pretokenizer_names() {
  std::vector<std::string_view> names;
  for (const Row& row : kRows) {
    for (const std::string_view name : row.names) {
      if (!name.empty()) names.push_back(name);
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace nemo::text
