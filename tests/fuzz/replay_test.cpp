// Every input that a fuzzer once found interesting runs through its target in every test run.
#include "catch.hpp"
#include "fuzz/fuzz_targets.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace {

using Target = int (*)(const std::uint8_t*, std::size_t);

void replay(const std::string& name, Target target) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry :
       std::filesystem::directory_iterator(NEMO_SOURCE_DIR "/tests/fuzz/corpus/" + name)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  CHECK(!files.empty());
  for (const std::filesystem::path& path : files) {
    std::ifstream file(path, std::ios::binary);
    // Exactly as many bytes as the file: a read past the end is then visible to a sanitizer.
    const std::vector<char> bytes((std::istreambuf_iterator<char>(file)), {});
    INFO(path.filename().string());
    CHECK_NOTHROW(target(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()));
  }
}

}  // namespace

#ifdef NEMO_HAS_FUZZ_FOLDER
TEST_CASE("the folder corpus replays without a finding") { replay("folder", nemo_fuzz_folder); }
#endif

#ifdef NEMO_HAS_FUZZ_GGUF
TEST_CASE("the GGUF corpus replays without a finding") { replay("gguf", nemo_fuzz_gguf); }
#endif

#ifdef NEMO_HAS_FUZZ_PRODUCTS
TEST_CASE("the product corpus replays without a finding") {
  replay("products", nemo_fuzz_products);
}
#endif

#ifdef NEMO_HAS_FUZZ_TEMPLATE
TEST_CASE("the template corpus replays without a finding") {
  replay("template", nemo_fuzz_template);
}
#endif

#ifdef NEMO_HAS_FUZZ_TOKENIZER
TEST_CASE("the tokenizer corpus replays without a finding") {
  replay("tokenizer", nemo_fuzz_tokenizer);
}
#endif
