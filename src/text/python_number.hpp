// Numbers as Python reads, prints and divides them.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace nemo::text {

/// Python's int, as far as 128 bits reach: wide enough for every JSON integer and their products.
__extension__ typedef __int128 Int;

/// str(value).
[[nodiscard]] std::string int_text(Int value);

/// repr(value): the shortest digits that read back the same, "2.0", "1e+16", "inf", "nan".
[[nodiscard]] std::string float_repr(double value);

/// int(text, base) with base 0 or 2..36; nothing when Python raises ValueError or 128 bits
/// overflow.
[[nodiscard]] std::optional<Int> parse_int(std::string_view text, int base);

/// float(text); nothing when Python raises ValueError.
[[nodiscard]] std::optional<double> parse_float(std::string_view text);

/// int(value) of a finite float inside the 128 bits; nothing otherwise.
[[nodiscard]] std::optional<Int> truncate_to_int(double value);

// Division that rounds towards minus infinity; the remainder has the sign of the divisor (not 0).
[[nodiscard]] Int floor_div(Int a, Int b);
[[nodiscard]] Int floor_mod(Int a, Int b);
[[nodiscard]] double floor_mod(double a, double b);
[[nodiscard]] double floor_div(double a, double b);

/// round(value, digits): half to even on the exact decimal value.
[[nodiscard]] double round_float(double value, int digits);
[[nodiscard]] Int round_int(Int value, int digits);

}  // namespace nemo::text
