// Which matrices come in kernel order, and which kernels read which.
#include <nemo/base/error.hpp>
#include <nemo/checkpoint/kernel_order.hpp>
#include <nemo/io/printable.hpp>

#include <algorithm>
#include <unordered_set>

namespace nemo {
namespace {

std::int64_t order_of(const Kernels& kernels, const TensorRef& tensor) noexcept {
  return kernels.format(tensor.type).lanes_of(rows_of(tensor, 0));
}

/// The tables of this CPU that read a pack, as a list.
std::string readers(std::int64_t lanes) {
  std::string names;
  for (const Kernels* table : available_kernels()) {
    if (kernel_order(*table) != lanes) continue;
    names += (names.empty() ? "" : ", ") + std::string(table->name);
  }
  return names;
}

}  // namespace

std::string order_name(std::int64_t lanes) {
  return lanes == 0 ? "file" : "rows" + std::to_string(lanes);
}

WeightRows rows_of(const TensorRef& tensor, std::int64_t index) noexcept {
  const std::int64_t row = row_bytes(tensor.type, tensor.cols());
  const MatrixBytes own = tensor.side.of(tensor.data, index, tensor.rows(), row);
  return {own.codes,          row,          tensor.cols(), own.scales, own.biases,
          tensor.side.planes, tensor.lanes, tensor.rows()};
}

std::int64_t order_unit(std::int64_t lanes, std::int64_t rows, std::int64_t cols,
                        std::int64_t count) noexcept {
  constexpr std::int64_t kLeast = 16;
  std::int64_t unit = KernelOrder::slab_rows(lanes, cols);
  // Slabs of the matrices of a stack that do not come in whole ones start where the matrices do.
  if (count > 1 && rows % unit != 0) unit = rows;
  while (unit % kLeast != 0) unit *= 2;
  return unit;
}

void order_rows(const Kernels& kernels, const TensorRef& tensor, std::int64_t first,
                std::int64_t rows, const RowsOut& to) {
  for_matrices(
      tensor, first, rows,
      [&](const WeightRows& from, std::int64_t row, std::int64_t count, std::int64_t done) {
        const auto at = [&](std::byte* plane) {
          return plane == nullptr ? nullptr : plane + done * from.planes.stride;
        };
        kernels.format(tensor.type)
            .to_kernel_order(from, row, count,
                             {to.codes + done * from.row_bytes, at(to.scales), at(to.biases)});
      });
}

std::int64_t kernel_order(const Kernels& kernels) noexcept {
  std::int64_t lanes = 0;
  for (const DTypeInfo& type : all_dtypes()) {
    lanes = std::max(lanes, kernels.format(type.type).lanes);
  }
  return lanes;
}

bool fits_kernel_order(const Checkpoint& checkpoint, const TensorRef& tensor, std::int64_t lanes) {
  // A convolution and a router's gate are read as floats, an embedding table row by row unless it
  // is the head as well.
  const std::string& name = tensor.name;
  return tensor.rank >= 2 && tensor.rows() % lanes == 0 && name.ends_with(".weight") &&
         !name.ends_with("gate.weight") && !name.ends_with("conv1d.weight") &&
         (name != "embeddings.weight" || checkpoint.find("lm_head.weight") == nullptr);
}

std::vector<const TensorRef*> kernel_order_tensors(const Checkpoint& checkpoint,
                                                   const Kernels& kernels) {
  if (checkpoint.pack() != nullptr) return {};
  std::vector<const TensorRef*> list;
  std::unordered_set<std::string_view> unfit;  // stored tensors with a part that does not fit
  for (const TensorRef& tensor : checkpoint.tensors()) {
    const std::int64_t lanes = order_of(kernels, tensor);
    if (lanes != 0 && fits_kernel_order(checkpoint, tensor, lanes)) {
      list.push_back(&tensor);
    } else {
      unfit.insert(tensor.stored);
    }
  }
  std::erase_if(list, [&](const TensorRef* tensor) { return unfit.contains(tensor->stored); });
  return list;
}

void require_readable(const Checkpoint& checkpoint, const Kernels& kernels) {
  const PackInfo* pack = checkpoint.pack();
  if (pack == nullptr) return;
  const std::int64_t lanes = kernel_order(kernels);
  const auto fail = [&](const std::string& what, bool remake) {
    const std::string table(kernels.name);
    std::string message = checkpoint.path() + ": " + what + "; ";
    if (remake) {
      message += "make it again: nemo pack -m " + pack->source + " -o " + checkpoint.path();
      if (&kernels != &select_kernels()) message += " --kernels " + table;
    } else {
      message += "use its source, " + pack->source;
    }
    const std::string others = readers(pack->lanes);
    if (!others.empty() && lanes != pack->lanes) message += ", or --kernels " + others;
    throw Error(ErrorCode::unsupported, message);
  };
  if (lanes == 0) {
    fail("this pack is in order " + order_name(pack->lanes) + ", kernels " +
             std::string(kernels.name) + " read file order only",
         false);
  }
  if (lanes != pack->lanes) {
    fail("this pack is in order " + order_name(pack->lanes) + ", kernels " +
             std::string(kernels.name) + " read " + order_name(lanes),
         true);
  }
  for (const TensorRef& tensor : checkpoint.tensors()) {
    if (tensor.lanes == 0 || order_of(kernels, tensor) == tensor.lanes) continue;
    fail("tensor " + in_quotes(tensor.stored) + " is " + std::string(info(tensor.type).name) +
             " in kernel order, which kernels " + std::string(kernels.name) + " do not have",
         true);
  }
}

void require_file_order(const Checkpoint& checkpoint) {
  if (checkpoint.pack() == nullptr) return;
  throw Error(ErrorCode::unsupported, checkpoint.path() +
                                          ": this is a pack, whose matrices lie in the order of "
                                          "some kernels; use its source, " +
                                          checkpoint.pack()->source);
}

}  // namespace nemo
