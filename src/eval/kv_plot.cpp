// Draws quality against memory as an SVG file.
#include <nemo/eval/kv_quality.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace nemo::eval {
namespace {

constexpr double kWidth = 760, kHeight = 460, kLeft = 80, kRight = 150, kTop = 40, kBottom = 60;

std::string number(double value, const char* format = "%.1f") {
  char text[32];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '<') {
      out += "&lt;";
    } else if (c == '&') {
      out += "&amp;";
    } else {
      out += c;
    }
  }
  return out;
}

std::string label(double x, double y, const std::string& text, const char* anchor) {
  return "<text x=\"" + number(x) + "\" y=\"" + number(y) + "\" text-anchor=\"" + anchor + "\">" +
         escaped(text) + "</text>\n";
}

std::string line(double x1, double y1, double x2, double y2, const char* color) {
  return "<line x1=\"" + number(x1) + "\" y1=\"" + number(y1) + "\" x2=\"" + number(x2) +
         "\" y2=\"" + number(y2) + "\" stroke=\"" + color + "\"/>\n";
}

}  // namespace

std::string quality_svg(std::span<const KvQuality> results) {
  // Whole decades that hold all errors; no error at all stands on the lowest line.
  double least = 1, most = 1e-9, bytes = 1;
  for (const KvQuality& r : results) {
    bytes = std::max(bytes, r.bytes_per_token);
    if (r.kl_mean <= 0) continue;
    least = std::min(least, r.kl_mean);
    most = std::max(most, r.kl_mean);
  }
  const double low = std::floor(std::log10(std::min(least, most))) - 1;
  const double high = std::max(low + 1, std::ceil(std::log10(most)));
  const double step = std::pow(10.0, std::floor(std::log10(bytes / 2)));
  const double right = std::ceil(bytes / step * 1.02) * step;
  const auto x_of = [&](double b) { return kLeft + b / right * (kWidth - kLeft - kRight); };
  const auto y_of = [&](double kl) {
    const double decade = kl > 0 ? std::max(low, std::log10(kl)) : low;
    return kTop + (high - decade) / (high - low) * (kHeight - kTop - kBottom);
  };
  std::string svg = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + number(kWidth, "%.0f") +
                    "\" height=\"" + number(kHeight, "%.0f") +
                    "\" font-family=\"sans-serif\" font-size=\"12\">\n"
                    "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n";
  svg += label(kLeft, 22, "Mean KL of the logits against fp16, by KV cache policy", "start");
  for (double decade = low; decade <= high; ++decade) {
    const double y = y_of(std::pow(10.0, decade));
    svg += line(kLeft, y, kWidth - kRight, y, "#ddd");
    svg +=
        label(kLeft - 8, y + 4, decade == low ? "0" : number(std::pow(10.0, decade), "%g"), "end");
  }
  for (double b = 0; b <= right * 1.001; b += step * std::max(1.0, std::round(right / step / 8))) {
    svg += line(x_of(b), kHeight - kBottom, x_of(b), kHeight - kBottom + 5, "#444");
    svg += label(x_of(b), kHeight - kBottom + 20, number(b, "%.0f"), "middle");
  }
  svg += line(kLeft, kHeight - kBottom, kWidth - kRight, kHeight - kBottom, "#444");
  svg += line(kLeft, kTop, kLeft, kHeight - kBottom, "#444");
  svg +=
      label((kLeft + kWidth - kRight) / 2, kHeight - 16, "bytes per token, all layers", "middle");
  for (const KvQuality& r : results) {
    const double x = x_of(r.bytes_per_token), y = y_of(r.kl_mean);
    svg += "<circle cx=\"" + number(x) + "\" cy=\"" + number(y) + "\" r=\"4\" fill=\"#1f6fb2\"/>\n";
    svg += label(x + 8, y + 4, r.kv, "start");
  }
  return svg + "</svg>\n";
}

}  // namespace nemo::eval
