// Reading tokenizer.json: every component that byte-level BPE uses, and a named error for each way
// a file can be wrong.
#include "catch.hpp"
#include "text/tokenizer_files.hpp"

#include <nemo/base/error.hpp>

#include <functional>
#include <string>

using namespace nemo::text;
using namespace tokenizer_files;

namespace {

/// A complete small file: the 256 bytes, "ab" and two added tokens.
Json small_file() {
  Json vocab = Json::object();
  for (int byte = 0; byte < 256; ++byte) {
    vocab[to_alphabet(std::string(1, static_cast<char>(byte)))] = byte;
  }
  vocab["ab"] = 256;
  return {
      {"added_tokens",
       {{{"id", 257}, {"content", "<s>"}, {"special", true}},
        {{"id", 258}, {"content", "<x>"}, {"special", false}}}},
      {"normalizer", nullptr},
      {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
      {"post_processor", nullptr},
      {"decoder", {{"type", "ByteLevel"}}},
      {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", {"a b"}}}},
  };
}

/// The small file after a change, as a tokenizer.
Tokenizer changed(const std::function<void(Json&)>& change, const std::string& config = "") {
  Json file = small_file();
  change(file);
  return Tokenizer(load_tokenizer_json(file.dump(), config));
}

std::string error_of(const std::function<void(Json&)>& change, const std::string& config = "",
                     nemo::ErrorCode code = nemo::ErrorCode::bad_file) {
  try {
    (void)changed(change, config);
  } catch (const nemo::Error& error) {
    CHECK(error.code() == code);
    return error.what();
  }
  return "no error";
}

std::string unsupported(const std::function<void(Json&)>& change) {
  return error_of(change, "", nemo::ErrorCode::unsupported);
}

}  // namespace

TEST_CASE("a complete small file") {
  const Tokenizer tokenizer = changed([](Json&) {});
  CHECK(tokenizer.vocab_size() == 259);
  CHECK(tokenizer.encode("ab ab") == Ids{256, ' ', 256});
  CHECK(tokenizer.encode("<s><x>", {.parse_special = true}) == Ids{257, 258});
  CHECK(tokenizer.encode("<s><x>") == Ids{'<', 's', '>', '<', 'x', '>'});
  CHECK(tokenizer.is_control(257));
  CHECK(tokenizer.type(258) == TokenType::user_defined);
  CHECK(tokenizer.decode(Ids{257, 258, 256}, SpecialText::skip) == "<x>ab");
  CHECK(tokenizer.bos() == 257);
  CHECK_FALSE(tokenizer.eos().has_value());
}

TEST_CASE("merges may be strings or pairs, and start with a version line") {
  const Ids expected = {256};
  CHECK(changed([](Json& f) {
          f["model"]["merges"] = Json::parse(R"([["a", "b"]])");
        }).encode("ab") == expected);
  CHECK(changed([](Json& f) {
          f["model"]["merges"] = {"#version: 0.2", "a b"};
        }).encode("ab") == expected);
}

TEST_CASE("the merges of an added token's text are harmless") {
  // Files exist whose special token is also an ordinary word of the vocabulary.
  const Tokenizer tokenizer = changed([](Json& f) {
    f["added_tokens"].push_back({{"id", 256}, {"content", "ab"}, {"special", true}});
  });
  CHECK(tokenizer.encode("ab") == Ids{'a', 'b'});
  CHECK(tokenizer.encode("ab", {.parse_special = true}) == Ids{256});
}

TEST_CASE("pre-tokenizers and the pieces they make") {
  const auto ids = [](const Json& pre_tokenizer, const std::string& text) {
    return changed([&](Json& f) {
             f["pre_tokenizer"] = {
                 {"type", "Sequence"},
                 {"pretokenizers",
                  {pre_tokenizer,
                   {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
           })
        .encode(text);
  };
  const auto split = [](const Json& pattern, const std::string& behavior, bool invert = false) {
    return Json{
        {"type", "Split"}, {"pattern", pattern}, {"behavior", behavior}, {"invert", invert}};
  };
  // "ab" merges only where no split comes between.
  CHECK(ids(split({{"Regex", "a"}}, "Isolated"), "ab") == Ids{'a', 'b'});
  CHECK(ids(split({{"Regex", "a"}}, "MergedWithNext"), "ab") == Ids{256});
  CHECK(ids(split({{"Regex", "b"}}, "MergedWithPrevious"), "ab") == Ids{256});
  CHECK(ids(split({{"Regex", "[ab]"}}, "Contiguous"), "ab") == Ids{256});
  CHECK(ids(split({{"String", "."}}, "Removed"), "a.b") == Ids{'a', 'b'});
  CHECK(ids(split({{"String", "ab"}}, "Removed", true), "xaby") == Ids{256});
  CHECK(ids({{"type", "Digits"}, {"individual_digits", true}}, "1ab") == Ids{'1', 256});
  CHECK(ids({{"type", "Digits"}}, "11ab") == Ids{'1', '1', 256});
  CHECK(ids({{"type", "Punctuation"}}, "a$b") == Ids{'a', '$', 'b'});
  CHECK(ids({{"type", "WhitespaceSplit"}}, " a b ab") == Ids{'a', 'b', 256});
  CHECK(ids({{"type", "Whitespace"}}, "ab, ab") == Ids{256, ',', 256});

  const Tokenizer prefixed = changed([](Json& f) { f["pre_tokenizer"] = {{"type", "ByteLevel"}}; });
  CHECK(prefixed.encode("ab") == Ids{' ', 256});  // add_prefix_space is true by default
}

TEST_CASE("post-processors: what stands before and behind a prompt") {
  const auto wrapped = [](const Json& processor) {
    return changed([&](Json& f) { f["post_processor"] = processor; })
        .encode("x", {.add_bos = true, .add_eos = true});
  };
  const Json names = {{"<s>", {{"id", "<s>"}, {"ids", {257}}, {"tokens", {"<s>"}}}},
                      {"<x>", {{"id", "<x>"}, {"ids", {258, 'q'}}, {"tokens", {"<x>", "q"}}}}};
  const auto item = [](const char* kind, const char* id) {
    return Json{{kind, {{"id", id}, {"type_id", 0}}}};
  };
  const Json both = {
      {"type", "TemplateProcessing"},
      {"single", {item("SpecialToken", "<s>"), item("Sequence", "A"), item("SpecialToken", "<x>")}},
      {"special_tokens", names}};
  CHECK(wrapped(both) == Ids{257, 'x', 258, 'q'});
  CHECK(wrapped({{"type", "Sequence"}, {"processors", {{{"type", "ByteLevel"}}, both}}}) ==
        Ids{257, 'x', 258, 'q'});
  CHECK(wrapped({{"type", "ByteLevel"}}) == Ids{'x'});
  CHECK(wrapped({{"type", "RobertaProcessing"}, {"cls", {"<s>", 257}}, {"sep", {"<x>", 258}}}) ==
        Ids{257, 'x', 258});
}

TEST_CASE("tokenizer_config.json names tokens and adds those the other file lacks") {
  const Json config = {
      {"bos_token", "<x>"},
      {"eos_token", {{"content", "<end>"}, {"lstrip", false}}},
      {"pad_token", nullptr},
      {"unk_token", "not in the vocabulary"},
      {"added_tokens_decoder",
       {{"257", {{"content", "ignored: tokenizer.json says <s>"}, {"special", true}}},
        {"261", {{"content", "<end>"}, {"special", true}, {"rstrip", true}}}}}};
  const Tokenizer tokenizer = changed([](Json&) {}, config.dump());
  CHECK(tokenizer.bos() == 258);
  CHECK(tokenizer.eos() == 261);
  CHECK_FALSE(tokenizer.pad().has_value());
  CHECK_FALSE(tokenizer.unk().has_value());
  CHECK(tokenizer.vocab_size() == 262);
  CHECK(tokenizer.encode("<end> \nb", {.parse_special = true}) == Ids{261, 'b'});
  // The ids between are padding.
  CHECK(tokenizer.type(260) == TokenType::unused);
  CHECK(tokenizer.token_text(260) == "[PAD260]");
  CHECK(tokenizer.decode(Ids{260}) == "");
}

TEST_CASE("byte fallback and unknown tokens are read") {
  const Tokenizer tokenizer = changed([](Json& f) {
    Json& model = f["model"];
    model["vocab"].erase("q");
    model["vocab"].erase("z");
    model["vocab"]["<0x71>"] = 'q';
    model["vocab"]["<unk>"] = 'z';
    model["byte_fallback"] = true;
    model["unk_token"] = "<unk>";
    model["fuse_unk"] = true;
  });
  CHECK(tokenizer.encode("aqzzb") == Ids{'a', 'q', 'z', 'b'});
  CHECK(tokenizer.token_bytes('q') == "q");
  CHECK(tokenizer.unk() == 'z');
}

TEST_CASE("ignore_merges is read") {
  const auto with = [](bool ignore) {
    return changed([&](Json& f) {
             f["model"]["vocab"]["xyz"] = 259;
             f["model"]["ignore_merges"] = ignore;
           })
        .encode("xyz");
  };
  CHECK(with(true) == Ids{259});
  CHECK(with(false) == Ids{'x', 'y', 'z'});
}

TEST_CASE("malformed files: the error names the field") {
  const auto json_error = [](const std::string& text) -> std::string {
    try {
      (void)load_tokenizer_json(text);
    } catch (const nemo::Error& error) {
      CHECK(error.code() == nemo::ErrorCode::bad_file);
      return error.what();
    }
    return "no error";
  };
  CHECK_THAT(json_error(""), Contains("not valid JSON"));
  CHECK_THAT(json_error("{\"model\":"), Contains("not valid JSON"));
  CHECK_THAT(json_error("[]"), Contains("tokenizer.json must be an object"));
  CHECK_THAT(json_error("{}"), Contains("tokenizer.json.model must be an object"));
  CHECK_THAT(json_error("{\"model\":{\"vocab\":{\"\xff\":1}}}"), Contains("not valid JSON"));

  using F = Json&;
  CHECK_THAT(error_of([](F f) { f["model"]["vocab"] = 1; }), Contains("model.vocab must be"));
  CHECK_THAT(error_of([](F f) { f["model"]["vocab"]["a"] = "1"; }), Contains("model.vocab.'a'"));
  CHECK_THAT(error_of([](F f) { f["model"]["vocab"]["a"] = -1; }), Contains("model.vocab.'a'"));
  CHECK_THAT(error_of([](F f) { f["model"]["vocab"]["a"] = 1.5; }), Contains("model.vocab.'a'"));
  CHECK_THAT(error_of([](F f) { f["model"]["vocab"]["a"] = Json::array(); }),
             Contains("model.vocab.'a'"));
  CHECK_THAT(error_of([](F f) { f["model"]["vocab"]["a"] = 1ull << 40; }),
             Contains("model.vocab.'a'") && Contains("2^30"));
  CHECK_THAT(error_of([](F f) { f["model"]["vocab"]["a"] = 1 << 29; }), Contains("far beyond"));
  CHECK_THAT(error_of([](F f) { f["model"]["vocab"]["a"] = 'b'; }), Contains("has id 98 like"));
  CHECK_THAT(error_of([](F f) { f["model"].erase("merges"); }), Contains("model.merges must be"));
  CHECK_THAT(error_of([](F f) {
               f["model"]["merges"] = {{"a", "b", "c"}};
             }),
             Contains("model.merges[0]"));
  CHECK_THAT(error_of([](F f) {
               f["model"]["merges"] = {"a b", Json::array({"a"})};
             }),
             Contains("model.merges[1]"));
  CHECK_THAT(error_of([](F f) { f["model"]["merges"] = {"a b", 3}; }), Contains("model.merges[1]"));
  CHECK_THAT(error_of([](F f) { f["model"]["merges"] = Json::parse(R"([["a ", "b"]])"); }),
             Contains("model.merges[0]"));
  CHECK_THAT(error_of([](F f) { f["model"]["merges"] = {"a b", "ab"}; }), Contains("merge 1 'ab'"));
  CHECK_THAT(error_of([](F f) { f["model"]["merges"] = {"b a"}; }), Contains("not in the vocab"));
  CHECK_THAT(error_of([](F f) { f["model"]["ignore_merges"] = 1; }),
             Contains("model.ignore_merges must be true or false"));
  CHECK_THAT(error_of([](F f) { f["model"]["unk_token"] = "<no>"; }), Contains("model.unk_token"));
  CHECK_THAT(error_of([](F f) { f["model"]["dropout"] = "x"; }), Contains("model.dropout"));
  CHECK_THAT(error_of([](F f) { f["added_tokens"] = 1; }),
             Contains("added_tokens must be an array"));
  CHECK_THAT(error_of([](F f) { f["added_tokens"][0].erase("content"); }),
             Contains("added_tokens[0].content"));
  CHECK_THAT(error_of([](F f) { f["added_tokens"][1]["id"] = "x"; }),
             Contains("added_tokens[1].id"));
  CHECK_THAT(error_of([](F f) { f["added_tokens"][1]["id"] = 257; }),
             Contains("added_tokens[1].id appears twice"));
  CHECK_THAT(error_of([](F f) { f["added_tokens"][1]["id"] = 5; }), Contains("has id 5 like"));
  CHECK_THAT(error_of([](F f) { f["added_tokens"][1]["content"] = "a"; }),
             Contains("'a' has id 258 but is also id 97"));
  CHECK_THAT(error_of([](F f) { f["added_tokens"][0]["lstrip"] = "no"; }),
             Contains("added_tokens[0].lstrip"));
  CHECK_THAT(error_of([](F f) { f["added_tokens"][0]["content"] = ""; }), Contains("is empty"));
  CHECK_THAT(error_of([](F f) { f["pre_tokenizer"]["use_regex"] = 0; }),
             Contains("pre_tokenizer.use_regex"));
  CHECK_THAT(error_of([](F f) {
               f["pre_tokenizer"] = {{"type", "Split"}, {"pattern", "x"}};
             }),
             Contains("pre_tokenizer.pattern"));
  CHECK_THAT(error_of([](F f) {
               f["pre_tokenizer"] = {
                   {"type", "Split"}, {"pattern", {{"Regex", "x"}}}, {"behavior", "Glued"}};
             }),
             Contains("pre_tokenizer.behavior 'Glued'") && Contains("Isolated"));
  CHECK_THAT(error_of([](F f) {
               f["post_processor"] = {{"type", "TemplateProcessing"}, {"single", Json::array()}};
             }),
             Contains("post_processor.single does not name the text"));
  CHECK_THAT(error_of([](F f) {
               f["post_processor"] = {{"type", "RobertaProcessing"}, {"cls", {"<s>", 9999}}};
             }),
             Contains("post_processor.cls[1] is id 9999"));
  CHECK_THAT(error_of([](F) {}, "{"), Contains("tokenizer_config.json is not valid JSON"));
  CHECK_THAT(error_of([](F) {}, "3"), Contains("tokenizer_config.json must be an object"));
  CHECK_THAT(error_of([](F) {}, R"({"added_tokens_decoder":{"x":{"content":"y"}}})"),
             Contains("added_tokens_decoder.'x'"));
}

TEST_CASE("components of other tokenizers are named") {
  using F = Json&;
  CHECK_THAT(unsupported([](F f) { f["model"]["type"] = "Unigram"; }), Contains("'Unigram'"));
  CHECK_THAT(unsupported([](F f) { f["normalizer"] = {{"type", "NFC"}}; }), Contains("'NFC'"));
  CHECK_THAT(unsupported([](F f) { f["pre_tokenizer"] = nullptr; }), Contains("ByteLevel"));
  CHECK_THAT(unsupported([](F f) {
               f["pre_tokenizer"] = {{"type", "Metaspace"}};
             }),
             Contains("'Metaspace'"));
  CHECK_THAT(unsupported([](F f) {
               const Json level = {{"type", "ByteLevel"}, {"add_prefix_space", false}};
               f["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {level, level}}};
             }),
             Contains("must come last"));
  CHECK_THAT(unsupported([](F f) {
               f["decoder"] = {{"type", "WordPiece"}};
             }),
             Contains("'WordPiece'"));
  CHECK_THAT(unsupported([](F f) { f["post_processor"] = {{"type", "Odd"}}; }), Contains("'Odd'"));
  CHECK_THAT(unsupported([](F f) { f["model"]["dropout"] = 0.1; }), Contains("model.dropout"));
  CHECK_THAT(unsupported([](F f) { f["model"]["end_of_word_suffix"] = "</w>"; }),
             Contains("end_of_word_suffix"));
  CHECK_THAT(unsupported([](F f) {
               f["pre_tokenizer"] = {{"type", "Sequence"},
                                     {"pretokenizers",
                                      {{{"type", "Split"}, {"pattern", {{"Regex", "[a&&b]"}}}},
                                       {{"type", "ByteLevel"}, {"add_prefix_space", false}}}}};
             }),
             Contains("'[a&&b]'"));
}

TEST_CASE("sequences nested without end are refused, not recursed into") {
  for (const auto& [field, list] :
       {std::pair{"pre_tokenizer", "pretokenizers"}, std::pair{"normalizer", "normalizers"},
        std::pair{"post_processor", "processors"}, std::pair{"decoder", "decoders"}}) {
    std::string nested;
    for (int i = 0; i < 20'000; ++i) {
      nested.append(R"({"type":"Sequence",")").append(list).append("\":[");
    }
    nested += R"({"type":"ByteLevel"})";
    for (int i = 0; i < 20'000; ++i) nested += "]}";
    Json file = small_file();
    file[field] = "PLACEHOLDER";
    std::string text = file.dump();
    text.replace(text.find("\"PLACEHOLDER\""), 13, nested);
    CHECK_THROWS_WITH(load_tokenizer_json(text), Contains("nested too deeply"));
  }
}
