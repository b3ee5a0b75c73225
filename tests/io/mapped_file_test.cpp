// Mapping of files, and of what is not a file.
#include "catch.hpp"
#include "support/gguf_builder.hpp"

#include <nemo/base/error.hpp>
#include <nemo/io/mapped_file.hpp>

#include <cstring>
#include <sys/stat.h>

using namespace nemo;

namespace {

std::string failure(const std::filesystem::path& path) {
  try {
    const MappedFile file(path);
    return "no error";
  } catch (const Error& error) {
    REQUIRE(error.code() == ErrorCode::io);
    return error.what();
  }
}

}  // namespace

TEST_CASE("a mapped file shows the file's bytes, also after it moved") {
  const test::TemporaryFolder folder("mapped");
  const std::string text = "some bytes";
  test::write_bytes(folder / "file", std::as_bytes(std::span(text)));
  MappedFile file(folder / "file");
  REQUIRE(file.size() == text.size());
  CHECK(std::memcmp(file.bytes().data(), text.data(), text.size()) == 0);
  const std::byte* address = file.bytes().data();
  MappedFile moved = std::move(file);
  CHECK(moved.bytes().data() == address);
  CHECK(file.size() == 0);
  moved.sequential(0, 1);
  moved.will_need(3, 1000000);
  moved.dont_need(moved.bytes());
  file = std::move(moved);
  CHECK(file.bytes().data() == address);
}

TEST_CASE("an empty file maps to an empty range") {
  const test::TemporaryFolder folder("mapped-empty");
  test::write_bytes(folder / "file", {});
  const MappedFile file(folder / "file");
  CHECK(file.size() == 0);
  CHECK(file.bytes().empty());
}

TEST_CASE("what cannot be mapped is named with the reason") {
  const test::TemporaryFolder folder("mapped-bad");
  CHECK_THAT(failure(folder / "missing"), Contains("missing") && Contains("No such file"));
  CHECK_THAT(failure(folder / ""), Contains("directory"));
  REQUIRE(::mkfifo((folder / "fifo").c_str(), 0600) == 0);
  CHECK_THAT(failure(folder / "fifo"), Contains("not a regular file"));  // and does not wait
  CHECK_THAT(failure("/dev/null"), Contains("not a regular file"));
}
