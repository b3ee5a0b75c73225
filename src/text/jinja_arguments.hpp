// Reading the arguments of filters, tests, methods and functions.
#pragma once

#include "src/text/jinja_operations.hpp"

#include <initializer_list>
#include <string_view>
#include <vector>

namespace nemo::text::jinja {

/// Arguments matched to parameter names as Python does it.
class Parameters {
 public:
  /// Throws Failure for unknown, repeated, surplus or missing arguments; the first `required` must
  /// be given. `function` names the function in messages.
  Parameters(std::string_view function, const Arguments& arguments,
             std::initializer_list<std::string_view> names, std::size_t required = 0);

  [[nodiscard]] bool has(std::size_t index) const { return values_[index] != nullptr; }
  /// The argument, or none.
  [[nodiscard]] const Value& get(std::size_t index) const;
  [[nodiscard]] Value get(std::size_t index, Value fallback) const;
  [[nodiscard]] bool flag(std::size_t index, bool fallback = false) const;
  [[nodiscard]] Int integer(std::size_t index, Int fallback) const;
  [[nodiscard]] TextPtr text(std::size_t index) const;

 private:
  std::string_view function_;
  std::vector<std::string_view> names_;
  std::vector<const Value*> values_;
};

}  // namespace nemo::text::jinja
