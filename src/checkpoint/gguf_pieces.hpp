// What a GGUF of a checkpoint consists of: its keys, and its tensors with their bytes where they
// lie.
#pragma once

#include "stored_bytes.hpp"

#include <nemo/checkpoint/checkpoint.hpp>
#include <nemo/io/gguf_writer.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace nemo {

/// A tensor to be written. Moves, but does not copy: runs may point into values.
struct GgufPiece {
  std::string name;
  DType type = DType::f32;
  std::vector<std::int64_t> dims;                // contiguous first
  std::vector<std::span<const std::byte>> runs;  // its bytes, one run after the other
  std::vector<float> values = {};                // of small tensors, which become floats
  const TensorRef* planar = nullptr;             // in packs: the matrix that `plane` belongs to
  StoredPlane plane = StoredPlane::codes;

  GgufPiece(std::string n, DType t, std::vector<std::int64_t> d,
            std::vector<std::span<const std::byte>> r)
      : name(std::move(n)), type(t), dims(std::move(d)), runs(std::move(r)) {}
  GgufPiece(std::string n, std::vector<std::int64_t> d, std::vector<float> v)
      : name(std::move(n)),
        dims(std::move(d)),
        runs{std::as_bytes(std::span(v))},
        values(std::move(v)) {}
  GgufPiece(GgufPiece&&) = default;
  GgufPiece& operator=(GgufPiece&&) = default;
};

class PlanePieces;

/// All tensors of a checkpoint, planar ones by `planes`. Throws Error{unsupported} for them if that
/// is null, since no GGUF can hold them unchanged.
[[nodiscard]] std::vector<GgufPiece> gguf_pieces(const Checkpoint& checkpoint,
                                                 PlanePieces* planes = nullptr);

/// Sizes, tokenizer, template, sampling defaults. Returns what was left out, in sentences.
std::vector<std::string> put_gguf_model(GgufWriter& writer, const Checkpoint& checkpoint);

}  // namespace nemo
