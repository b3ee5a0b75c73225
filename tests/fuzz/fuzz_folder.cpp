// Arbitrary bytes as a model's folder: u16 length of config.json, config.json, the weight file. The
// reader and the checkpoint view work or throw nemo::Error, and every plane lies inside the file.
#include "fuzz/fuzz_targets.hpp"

#include <nemo/base/error.hpp>
#include <nemo/checkpoint/folder_checkpoint.hpp>
#include <nemo/kernels.hpp>
#include <nemo/model/matrix.hpp>

#include <span>
#include <string>
#include <vector>

namespace {

using namespace nemo;

/// Decodes the last row of every matrix of a tensor: the sanitizer sees reads outside the file.
void decode_ends(const TensorRef& t) {
  const Matrix m{t.type, t.count(), t.rows(), t.cols(), t.data, t.scales, t.side};
  std::vector<float> row(static_cast<std::size_t>(t.cols()));
  for (std::int64_t i = 0; i < t.count(); ++i) {
    select_kernels("reference").format(t.type).decode_row(m.view(i), t.rows() - 1, row.data());
    (void)m.scale(i);
  }
}

void fuzz(std::span<const std::uint8_t> bytes) {
  if (bytes.size() < 2) return;
  const std::size_t length = bytes[0] + 256u * bytes[1];
  if (length > bytes.size() - 2) return;
  const auto config = bytes.subspan(2, length);
  const auto weights = bytes.subspan(2 + length);
  Safetensors tensors = Safetensors::from_memory(std::as_bytes(weights), "fuzz");
  for (const SafeTensor& t : tensors.tensors()) {
    if (t.bytes == 0) continue;
    volatile std::byte sink = t.data[t.bytes - 1];
    (void)sink;
  }
  const auto checkpoint = checkpoint_from_folder(
      {"fuzz", {}, std::string(config.begin(), config.end()), std::move(tensors)});
  std::int64_t elements = 0;
  for (const TensorRef& t : checkpoint->tensors()) {
    decode_ends(t);
    const bool counted = !t.name.ends_with(".bias") || t.name.ends_with("gate.bias") ||
                         t.name.ends_with("conv1d.bias");
    if (counted && !t.name.starts_with("mtp.")) elements += t.elements();
  }
  fuzz_require(elements == checkpoint->config().parameters(), "tensors make up the parameters");
  (void)checkpoint->sampling();
  (void)checkpoint->chat_template();
}

}  // namespace

int nemo_fuzz_folder(const std::uint8_t* data, std::size_t size) {
  try {
    fuzz({data, size});
  } catch (const Error&) {
  }
  return 0;
}

#ifdef NEMO_LIBFUZZER
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return nemo_fuzz_folder(data, size);
}
#endif
