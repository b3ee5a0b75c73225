// Names and limits of KV storage formats.
#include <nemo/base/error.hpp>
#include <nemo/cache/kv_format.hpp>
#include <nemo/kv_kernels.hpp>

#include <bit>
#include <string_view>

namespace nemo {
namespace {

[[noreturn]] void refuse(ErrorCode code, const KvFormat& format, const std::string& why) {
  throw Error(code, "KV format '" + format.name() + "': " + why);
}

constexpr bool known_group(std::int64_t group) noexcept {
  return group == 16 || group == 32 || group == 64 || group == 128;
}

void check_bits(const KvFormat& format, const char* what, std::int32_t bits) {
  if (bits >= 2 && bits <= 8) return;
  refuse(ErrorCode::usage, format,
         std::string(what) + " have " + std::to_string(bits) + " bits; there are 2 to 8");
}

}  // namespace

const char* name_of(KvRotation rotation) noexcept {
  switch (rotation) {
    case KvRotation::none:
      return "none";
    case KvRotation::hadamard:
      return "hadamard";
    case KvRotation::rotor:
      return "rotor";
    case KvRotation::haar:
      return "haar";
    case KvRotation::iso:
      return "iso";
    case KvRotation::iso_full:
      return "iso-full";
    case KvRotation::planar:
      return "planar";
    case KvRotation::rotor3:
      return "rotor3";
  }
  return "?";
}

std::string KvFormat::name() const {
  const std::string bits = std::to_string(key_bits);
  switch (scheme) {
    case KvScheme::fp16:
      return "fp16";
    case KvScheme::turbo:
      return "turbo:" + bits + "," + std::to_string(value_bits) + ",sink=" + std::to_string(sink);
    case KvScheme::rotor: {
      std::string text = "rotor:" + bits + "," + std::to_string(key_group);
      if (value_bits != key_bits) text += ",v=" + std::to_string(value_bits);
      if (sink != 128) text += ",sink=" + std::to_string(sink);
      if (rotation != KvRotation::rotor) text += std::string(",preset=") + name_of(rotation);
      return text;
    }
    case KvScheme::affine: {
      std::string text = "affine:" + bits + "," + std::to_string(key_group);
      if (value_bits != key_bits) text += ",v=" + std::to_string(value_bits);
      if (sink != 0) text += ",sink=" + std::to_string(sink);
      return text;
    }
  }
  return "?";
}

void KvFormat::check() const {
  if (scheme == KvScheme::fp16) return;
  check_bits(*this, "keys", key_bits);
  check_bits(*this, "values", value_bits);
  if (!known_group(key_group) || (value_group != 0 && !known_group(value_group))) {
    refuse(ErrorCode::usage, *this, "the group must be 16, 32, 64 or 128 channels");
  }
  if (sink < 0 || sink > (1 << 20)) {
    refuse(ErrorCode::usage, *this, "sink must be 0 to 1048576 tokens");
  }
}

void KvFormat::check(std::int64_t head_dim) const {
  check();
  if (scheme == KvScheme::fp16) return;
  const std::string model = "this model's heads of " + std::to_string(head_dim) + " channels";
  if (head_dim < 16 || head_dim > kKvMaxDim || head_dim % 16 != 0) {
    refuse(ErrorCode::unsupported, *this,
           model + " cannot be packed (multiples of 16 up to " + std::to_string(kKvMaxDim) +
               " can); use fp16");
  }
  if (scheme == KvScheme::turbo) {
    if (!std::has_single_bit(static_cast<std::uint64_t>(head_dim))) {
      refuse(ErrorCode::unsupported, *this,
             model + " are no power of two, which the Hadamard transform needs; use rotor");
    }
    return;  // its groups shrink with the head
  }
  for (const std::int32_t group : {key_group, value_group}) {
    if (group != 0 && head_dim % group != 0) {
      refuse(ErrorCode::unsupported, *this,
             "a group of " + std::to_string(group) + " does not divide " + model);
    }
  }
}

}  // namespace nemo
