// Arbitrary bytes as a GGUF file (or, when they start with a brace, as a config.json): the reader,
// the configuration, the checkpoint view and the tokenizer it describes work or throw nemo::Error.
#include "fuzz/fuzz_targets.hpp"

#include <nemo/base/error.hpp>
#include <nemo/checkpoint/gguf_checkpoint.hpp>
#include <nemo/checkpoint/gguf_layout.hpp>

#include <span>
#include <string_view>

namespace {

using namespace nemo;

std::byte last_byte(const std::byte* data, std::uint64_t size) {
  fuzz_require(size > 0, "no tensor is empty");
  return data[size - 1];  // the sanitizer knows whether it is there
}

void fuzz_config(std::string_view text) {
  const ModelConfig config = config_from_json(parse_config_json(text, "fuzz"));
  fuzz_require(config.parameters() >= config.active_parameters(),
               "all parameters are at least the used");
  std::int64_t elements = 0;
  for (const LayoutTensor& tensor : gguf_layout(config)) elements += tensor.elements();
  fuzz_require(elements > 0, "a model has parameters");
}

void fuzz_file(std::span<const std::byte> bytes) {
  Gguf gguf = Gguf::from_memory(bytes, "fuzz");
  for (const std::string_view key : gguf.keys()) {
    const GgufValue& value = *gguf.find(key);
    if (value.element != GgufType::string) continue;
    fuzz_require(gguf.find_strings(key)->size() == value.count, "every string is there");
  }
  for (const GgufTensor& tensor : gguf.tensors()) {
    volatile std::byte sink = last_byte(tensor.data, tensor.bytes);
    (void)sink;
  }
  try {
    (void)tokenizer_from_gguf(gguf);
  } catch (const Error&) {
  }
  const auto checkpoint = checkpoint_from_gguf(std::move(gguf));
  std::int64_t elements = 0;
  for (const TensorRef& tensor : checkpoint->tensors()) {
    fuzz_require(tensor.bytes() > 0, "every tensor has bytes");
    volatile std::byte sink = last_byte(tensor.data, static_cast<std::uint64_t>(tensor.bytes()));
    (void)sink;
    if (!tensor.name.ends_with(".bias") || tensor.name.ends_with("gate.bias") ||
        tensor.name.ends_with("conv1d.bias")) {
      elements += tensor.elements();
    }
  }
  fuzz_require(elements == checkpoint->config().parameters(), "tensors make up the parameters");
  (void)checkpoint->sampling();
  (void)checkpoint->chat_template();
}

}  // namespace

int nemo_fuzz_gguf(const std::uint8_t* data, std::size_t size) {
  try {
    if (size > 0 && data[0] == '{') {
      fuzz_config({reinterpret_cast<const char*>(data), size});
    } else {
      fuzz_file(std::as_bytes(std::span(data, size)));
    }
  } catch (const Error&) {
  }
  return 0;
}

#ifdef NEMO_LIBFUZZER
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return nemo_fuzz_gguf(data, size);
}
#endif
