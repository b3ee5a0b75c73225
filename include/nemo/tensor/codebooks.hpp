// Lookup tables of the codebook formats (IQ1, IQ2, IQ3): each entry is a small vector of bytes.
// Element j of an entry is the byte (word >> 8j) & 255, on every machine.
#pragma once

#include <cstdint>

namespace nemo {

/// A table of kEntries vectors, one word each; 64-byte aligned so that gathers stay in few lines.
template <class Word, int kEntries>
struct alignas(64) Codebook {
  Word words[kEntries];
};

// Eight magnitudes of {8, 25, 43} an entry.
extern const Codebook<std::uint64_t, 256> kIq2xxsBook;
extern const Codebook<std::uint64_t, 512> kIq2xsBook;
extern const Codebook<std::uint64_t, 1024> kIq2sBook;
// Four magnitudes an entry: {4, 12, 20, 28, 36, 44, 52, 62} and {1, 3, ..., 15}.
extern const Codebook<std::uint32_t, 256> kIq3xxsBook;
extern const Codebook<std::uint32_t, 512> kIq3sBook;
// Eight signed values (int8) of {-1, 0, 1} an entry; IQ1_S and IQ1_M share it.
extern const Codebook<std::uint64_t, 2048> kIq1sBook;

// 4-bit codes: the non-linear levels of IQ4_NL and IQ4_XS, and twice the E2M1 values of
// MXFP4/NVFP4.
inline constexpr std::int8_t kIq4Levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                               1,    13,   25,  38,  53,  69,  89,  113};
inline constexpr std::int8_t kE2m1Doubled[16] = {0, 1,  2,  3,  4,  6,  8,  12,
                                                 0, -1, -2, -3, -4, -6, -8, -12};

}  // namespace nemo
