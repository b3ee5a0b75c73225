#!/usr/bin/env python3
"""Writes src/text/python_unicode_tables.cpp from the Unicode data of the Python that runs it.

Usage: python3 scripts/make_unicode_tables.py | clang-format > src/text/python_unicode_tables.cpp
"""
import sys
import unicodedata

LAST = 0x110000


def flags(code):
    char = chr(code)
    return (
        char.isalpha()
        | char.isdecimal() << 1
        | char.isdigit() << 2
        | char.isnumeric() << 3
        | char.isprintable() << 4
        | char.isupper() << 5
        | char.islower() << 6
        | char.istitle() << 7
    )


def property_ranges():
    previous, ranges = None, []
    for code in range(LAST):
        now = flags(code)
        if now != previous:
            ranges.append(code << 8 | now)
            previous = now
    return ranges


def mapping(function):
    """Runs (first, count, stride, delta) of one-character results, and the longer results."""
    simple, longer = {}, {}
    for code in range(LAST):
        if 0xD800 <= code < 0xE000:
            continue
        text = function(chr(code))
        if len(text) == 1 and text != chr(code):
            simple[code] = ord(text) - code
        elif len(text) > 1:
            longer[code] = text
    runs = []
    while simple:
        first = min(simple)
        delta, stride, count = simple[first], 1, 1
        for step in (1, 2):
            length = 1
            while simple.get(first + length * step) == delta:
                length += 1
            if length > count:
                stride, count = step, length
        for index in range(count):
            del simple[first + index * stride]
        runs.append((first, count, stride, delta))
    return runs, longer


def escaped(text):
    return "".join(f"\\x{byte:02x}" for byte in text.encode())


def main():
    out = sys.stdout
    out.write("// Unicode %s properties and case mappings as Python's str methods see them;\n"
              "// made by scripts/make_unicode_tables.py.\n" % unicodedata.unidata_version)
    out.write('#include "src/text/python_unicode_tables.hpp"\n\nnamespace nemo::text {\n\n')
    out.write("// clang-format off\n")
    ranges = property_ranges()
    out.write("extern const std::array<std::uint32_t, kPropertyRanges> kProperties{{\n")
    for start in range(0, len(ranges), 9):
        out.write("".join("0x%07x," % value for value in ranges[start:start + 9]) + "\n")
    out.write("}};\n\n")
    sizes = {"kPropertyRanges": len(ranges)}
    for name, function in (("Upper", str.upper), ("Lower", str.lower), ("Title", str.title)):
        runs, longer = mapping(function)
        sizes["k%sRuns" % name] = len(runs)
        sizes["k%sSpecials" % name] = len(longer)
        out.write("extern const std::array<CaseRun, k%sRuns> k%s{{\n" % (name, name))
        for start in range(0, len(runs), 4):
            out.write("".join("{0x%x,%d,%d,%d}," % run for run in runs[start:start + 4]) + "\n")
        out.write("}};\n\n")
        out.write("extern const std::array<CaseSpecial, k%sSpecials> k%sSpecial{{\n" % (name, name))
        items = sorted(longer.items())
        for start in range(0, len(items), 3):
            out.write("".join('{0x%x,"%s"},' % (code, escaped(text))
                              for code, text in items[start:start + 3]) + "\n")
        out.write("}};\n\n")
    out.write("// clang-format on\n\n}  // namespace nemo::text\n")
    sys.stderr.write("".join("inline constexpr std::size_t %s = %d;\n" % item
                             for item in sizes.items()))


if __name__ == "__main__":
    main()
