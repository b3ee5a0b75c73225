// The fuzz targets: each takes arbitrary bytes, must not crash, hang or leak, and throws when an
// invariant does not hold. libFuzzer drives them, and every test run replays their corpora.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

int nemo_fuzz_folder(const std::uint8_t* data, std::size_t size);
int nemo_fuzz_gguf(const std::uint8_t* data, std::size_t size);
int nemo_fuzz_products(const std::uint8_t* data, std::size_t size);
int nemo_fuzz_template(const std::uint8_t* data, std::size_t size);
int nemo_fuzz_tokenizer(const std::uint8_t* data, std::size_t size);

/// Fails the run: an invariant that must hold for every input does not.
inline void fuzz_require(bool holds, const char* invariant) {
  if (!holds) throw std::logic_error(std::string("violated: ") + invariant);
}
