// Files that appear whole or not at all.
#include "catch.hpp"
#include "support/gguf_builder.hpp"

#include <nemo/base/error.hpp>
#include <nemo/io/atomic_file.hpp>
#include <nemo/io/npy.hpp>

#include <algorithm>
#include <csignal>
#include <sys/resource.h>

using namespace nemo;

namespace {

std::string text_of(const std::filesystem::path& path) {
  const auto bytes = test::read_bytes(path);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::ptrdiff_t files_in(const std::filesystem::path& folder) {
  return std::distance(std::filesystem::directory_iterator(folder), {});
}

}  // namespace

TEST_CASE("an atomic file appears on commit and replaces the old one") {
  const test::TemporaryFolder folder("atomic");
  AtomicFile file(folder / "out");
  file.append("hello ");
  file.append("world");
  CHECK(!std::filesystem::exists(folder / "out"));
  file.commit();
  CHECK(text_of(folder / "out") == "hello world");

  AtomicFile again(folder / "out");
  again.resize(8);
  again.write_at(6, std::as_bytes(std::span("yo", 2)));
  CHECK(text_of(folder / "out") == "hello world");
  again.commit();
  CHECK(text_of(folder / "out") == std::string(6, '\0') + "yo");
  CHECK(files_in(folder / "") == 1);
}

TEST_CASE("an abandoned atomic file leaves nothing behind") {
  const test::TemporaryFolder folder("atomic-abandoned");
  {
    AtomicFile file(folder / "out");
    file.append("half");
  }
  CHECK(files_in(folder / "") == 0);
}

TEST_CASE("a link to a file stays a link") {
  const test::TemporaryFolder folder("atomic-link");
  test::write_bytes(folder / "real", {});
  std::filesystem::create_symlink(folder / "real", folder / "link");
  AtomicFile file(folder / "link");
  file.append("x");
  file.commit();
  CHECK(std::filesystem::is_symlink(folder / "link"));
  CHECK(text_of(folder / "real") == "x");
}

TEST_CASE("targets that cannot be written are refused") {
  const test::TemporaryFolder folder("atomic-bad");
  CHECK_THROWS_WITH(AtomicFile(folder / "none/out"), Contains("No such file"));
  CHECK_THROWS_WITH(AtomicFile("/dev/null"), Contains("not a regular file"));
  CHECK_THROWS_WITH(AtomicFile(folder / ""), Contains("not a regular file"));
  CHECK_THROWS_AS(AtomicFile::free_bytes(folder / "none/out"), Error);
  CHECK(AtomicFile::free_bytes(folder / "out") > 0);
}

TEST_CASE("a write that the system refuses is an error and leaves no file") {
  const test::TemporaryFolder folder("atomic-full");
  // A file size limit fails like a full disk, without needing one.
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit small = before;
  small.rlim_cur = 4096;
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  std::string message = "no error";
  try {
    AtomicFile file(folder / "out");
    file.append(std::string(100000, 'x'));
    file.commit();
  } catch (const Error& error) {
    message = error.what();
  }
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, old_handler);
  CHECK_THAT(message, Contains("cannot write") && Contains("File too large"));
  CHECK(files_in(folder / "") == 0);
}

TEST_CASE("npy files have the header NumPy expects, then the values") {
  const test::TemporaryFolder folder("npy");
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  NpyWriter writer(folder / "a.npy", 3, 2);
  writer.append(std::span(values).first(2));
  CHECK_THROWS_AS(writer.append(std::span(values).first(1)), Error);  // not a whole row
  CHECK_THROWS_AS(writer.finish(), Error);                            // rows are missing
  writer.append(std::span(values).subspan(2));
  CHECK_THROWS_AS(writer.append(std::span(values).first(2)), Error);  // too many
  writer.finish();
  const std::string file = text_of(folder / "a.npy");
  CHECK(file.substr(0, 8) == std::string("\x93NUMPY\x01\x00", 8));
  const std::size_t header =
      static_cast<unsigned char>(file[8]) + 256u * static_cast<unsigned char>(file[9]) + 10u;
  CHECK(header % 64 == 0);
  CHECK_THAT(file.substr(10, header - 10), Contains("'descr': '<f4'") &&
                                               Contains("'fortran_order': False") &&
                                               Contains("'shape': (3, 2)"));
  CHECK(file[header - 1] == '\n');
  REQUIRE(file.size() == header + 24);
  CHECK(std::memcmp(file.data() + header, values.data(), 24) == 0);
}
