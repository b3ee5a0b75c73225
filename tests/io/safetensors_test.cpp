// The safetensors reader: what it gives for right files, and one message for every way to be wrong.
#include "catch.hpp"
#include "support/safetensors_builder.hpp"

#include <nemo/base/error.hpp>
#include <nemo/io/safetensors.hpp>

#include <filesystem>

using namespace nemo;
using namespace nemo::test;

namespace {

namespace fs = std::filesystem;

std::span<const std::byte> as_bytes(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

/// The message for a file, or "no error".
std::string failure(const std::string& file) {
  try {
    (void)Safetensors::from_memory(as_bytes(file));
    return "no error";
  } catch (const Error& error) {
    return error.what();
  }
}
std::string failure_in(const fs::path& folder) {
  try {
    (void)Safetensors::open_folder(folder);
    return "no error";
  } catch (const Error& error) {
    return error.what();
  }
}
bool says(const std::string& message, const char* part) {
  INFO(message);
  return message.find(part) != std::string::npos && message.find('\n') == std::string::npos;
}
/// A header with one tensor entry, and eight bytes of data.
std::string one(const std::string& entry) {
  return with_header("{\"a\":" + entry + "}", "12345678");
}

BuiltTensors two_tensors() {
  return {{"a", built<float>("F32", {2, 1}, {1.5f, -2.0f})},
          {"b", built<std::uint8_t>("U8", {3}, {7, 8, 9})}};
}

fs::path fresh_folder(const char* name) {
  const fs::path folder = fs::temp_directory_path() / name;
  fs::remove_all(folder);
  fs::create_directories(folder);
  return folder;
}

}  // namespace

TEST_CASE("tensors of a safetensors file have their type, shape and bytes") {
  const std::string file = build_safetensors(two_tensors());
  const Safetensors tensors = Safetensors::from_memory(as_bytes(file));
  REQUIRE(tensors.tensors().size() == 2);
  const SafeTensor* a = tensors.find("a");
  REQUIRE(a != nullptr);
  CHECK(a->type == SafeType::f32);
  CHECK(a->shape == std::vector<std::int64_t>{2, 1});
  float value = 0;
  std::memcpy(&value, a->data + 4, 4);
  CHECK(value == -2.0f);
  CHECK(tensors.find("b")->bytes == 3);
  CHECK(tensors.find("c") == nullptr);
}

TEST_CASE("numbers, empty tensors, trailing spaces and missing metadata are fine") {
  const std::string number = with_header(
      R"({"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"e":{"dtype":"I64","shape":[0,3],)"
      R"("data_offsets":[4,4]}}   )",
      "1234");
  CHECK(failure(number) == "no error");
  CHECK(failure(with_header("{}", "")) == "no error");
}

TEST_CASE("a broken frame of a safetensors file is named") {
  CHECK(says(failure("1234567"), "too short"));
  CHECK(says(failure(std::string(8, '\xff')), "no safetensors file"));
  CHECK(says(failure(std::string("\x40\0\0\0\0\0\0\0{}", 10)), "incomplete"));
  CHECK(says(failure(with_header("", "")), "not a JSON object"));
  CHECK(says(failure(with_header("[]", "")), "not a JSON object"));
  CHECK(says(failure(with_header(" {}", "")), "not a JSON object"));
  CHECK(says(failure(with_header("{", "")), "not valid JSON"));
  CHECK(says(failure(with_header("{} x", "")), "not valid JSON"));
  CHECK(says(failure(with_header("{\"\xff\":1}", "")), "not valid JSON"));
  const std::string file = build_safetensors(two_tensors());
  for (std::size_t cut = 0; cut < file.size(); ++cut) {
    CHECK(failure(file.substr(0, cut)) != "no error");
  }
  CHECK(says(failure(file + "x"), "the tensors end at byte 11"));
}

TEST_CASE("a malformed tensor entry of a safetensors header is named") {
  const std::string good = R"("shape":[2],"data_offsets":[0,8])";
  CHECK(failure(one("{\"dtype\":\"F32\"," + good + "}")) == "no error");
  CHECK(says(failure(one("{" + good + "}")), "no dtype"));
  CHECK(says(failure(one("{\"dtype\":\"X9\"," + good + "}")), "'X9'"));
  CHECK(says(failure(one("{\"dtype\":7," + good + "}")), "malformed header entry 'dtype'"));
  CHECK(says(failure(one("{\"dtype\":\"F64\"," + good + "}")), "need 16"));
  CHECK(says(failure(one(R"({"dtype":"F32","data_offsets":[0,8]})")), "no shape"));
  CHECK(says(failure(one(R"({"dtype":"F32","shape":[2]})")), "no data_offsets"));
  CHECK(says(failure(one(R"({"dtype":"F32","shape":[-2],"data_offsets":[0,8]})")), "malformed"));
  CHECK(says(failure(one(R"({"dtype":"F32","shape":[2.0],"data_offsets":[0,8]})")), "malformed"));
  CHECK(says(failure(one(R"({"dtype":"F32","shape":"2","data_offsets":[0,8]})")), "malformed"));
  CHECK(says(failure(one(R"({"dtype":"F32","shape":[2],"data_offsets":[0]})")), "malformed"));
  CHECK(says(failure(one(R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})")),
             "ends before it begins"));
  CHECK(says(failure(one(R"({"dtype":"F32","shape":[4],"data_offsets":[0,16]})")), "incomplete"));
  CHECK(says(failure(one(R"({"dtype":"F32","shape":[3],"data_offsets":[0,8]})")), "need 12"));
  CHECK(says(failure(one(R"({"dtype":"F32","shape":[4294967296,4294967296,4],)"
                         R"("data_offsets":[0,8]})")),
             "overflows"));
  CHECK(says(failure(one(R"({"dtype":"F32","shape":[18446744073709551615],)"
                         R"("data_offsets":[0,8]})")),
             "absurd"));
  CHECK(says(failure(one(R"({"dtype":"F32","shape":[1,1,1,1,1,1,1,1,2],"data_offsets":[0,8]})")),
             "too many dimensions"));
  CHECK(says(failure(one("{}")), "malformed"));
  CHECK(says(failure(one("7")), "malformed"));
  CHECK(says(failure(one("[1]")), "not an object of objects"));
  CHECK(says(failure(one("{\"dtype\":\"F32\",\"more\":1," + good + "}")), "'more'"));
  CHECK(says(failure(one("{\"dtype\":\"F32\",\"dtype\":\"F32\"," + good + "}")),
             "names 'dtype' twice"));
}

TEST_CASE("tensors that overlap, leave gaps or share a name are refused") {
  const auto entry = [](const char* name, int begin, int end) {
    return "\"" + std::string(name) + "\":{\"dtype\":\"U8\",\"shape\":[" +
           std::to_string(end - begin) + "],\"data_offsets\":[" + std::to_string(begin) + "," +
           std::to_string(end) + "]}";
  };
  const auto both = [&](const std::string& first, const std::string& second) {
    return failure(with_header("{" + first + "," + second + "}", "12345678"));
  };
  CHECK(both(entry("a", 0, 4), entry("b", 4, 8)) == "no error");
  CHECK(both(entry("b", 4, 8), entry("a", 0, 4)) == "no error");
  CHECK(says(both(entry("a", 0, 5), entry("b", 4, 8)), "'b' overlaps"));
  CHECK(says(both(entry("a", 0, 8), entry("b", 0, 8)), "overlaps"));
  CHECK(says(both(entry("a", 0, 3), entry("b", 4, 8)), "gap of 1 bytes"));
  CHECK(says(both(entry("a", 1, 4), entry("b", 4, 8)), "gap of 1 bytes"));
  CHECK(says(both(entry("a", 0, 3), entry("b", 3, 7)), "the tensors end at byte 7"));
  CHECK(says(both(entry("a", 0, 4), entry("a", 4, 8)), "names 'a' twice"));
}

TEST_CASE("sharded folders open by index and without one") {
  const fs::path folder = fresh_folder("shards");
  const BuiltTensors all = two_tensors();
  write_file(folder / "model-00001-of-00002.safetensors", build_safetensors({{"a", all.at("a")}}));
  write_file(folder / "model-00002-of-00002.safetensors", build_safetensors({{"b", all.at("b")}}));
  CHECK(Safetensors::open_folder(folder).tensors().size() == 2);
  const auto index = [&](const std::string& map) {
    write_file(folder / "model.safetensors.index.json",
               "{\"metadata\":{\"total_size\":11,\"x\":[{}]},\"weight_map\":" + map + "}");
    return failure_in(folder);
  };
  const std::string a = "\"a\":\"model-00001-of-00002.safetensors\"";
  const std::string b = "\"b\":\"model-00002-of-00002.safetensors\"";
  CHECK(index("{" + a + "," + b + "}") == "no error");
  CHECK(Safetensors::open_folder(folder).files() == 2);
  CHECK(says(index("{" + a + "," + b + "," + a + "}"), "names 'a' twice"));
  CHECK(says(index("{" + a + ",\"b\":\"model-00001-of-00002.safetensors\"}"),
             "tensor 'b' is not in its file"));
  CHECK(says(index("{" + a + ",\"c\":\"model-00002-of-00002.safetensors\"}"),
             "tensor 'c' is not in its file"));
  CHECK(says(index("{" + a + ",\"b\":\"model-00003-of-00002.safetensors\"}"), "missing"));
  CHECK(says(index("{\"a\":\"../model-00001-of-00002.safetensors\"}"), "not the name of a file"));
  CHECK(says(index("{\"a\":\"/etc/passwd\"}"), "not the name of a file"));
  CHECK(says(index("{\"a\":7}"), "must map"));
  CHECK(says(index("{}"), "'weight_map'"));
  CHECK(says(index("[]"), "not an object of objects"));
  write_file(folder / "model.safetensors.index.json", "{\"weight_map\":");
  CHECK(says(failure_in(folder), "not valid JSON"));
  write_file(folder / "model.safetensors.index.json", "{}");
  CHECK(says(failure_in(folder), "names no tensor"));
}

TEST_CASE("a tensor in two shards, a missing shard and an empty folder are refused") {
  const fs::path folder = fresh_folder("bad_shards");
  CHECK(says(failure_in(folder), "no model.safetensors"));
  const std::string a = build_safetensors({{"a", two_tensors().at("a")}});
  write_file(folder / "model-00001-of-00003.safetensors", a);
  CHECK(says(failure_in(folder), "1 of 3 weight files"));
  write_file(folder / "model-00002-of-00003.safetensors", a);
  write_file(folder / "model-00003-of-00003.safetensors", build_safetensors({}));
  CHECK(says(failure_in(folder), "in another file"));
}
