#!/usr/bin/env python3
"""Draws SVG plots for docs/PERFORMANCE.md from the lines of `nemo bench --json-lines`.

  bench/plot.py decode  LINES.json... -o FILE.svg    time per decoded token against depth, by model and cache
  bench/plot.py parts   LINES.json... -o FILE.svg    the same of its Mamba layers and of its attention by cache, without
                                                     the weight products; lines of --profile
  bench/plot.py prefill LINES.json... -o FILE.svg    time of a prompt against its length
  bench/plot.py threads LINES.json... -o FILE.svg    speed relative to one thread

Needs the python3 standard library only.
"""
import argparse
import json
import re
import sys
from pathlib import Path

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 420, 70, 20, 44, 56
COLOURS = ("#0b6e99", "#d9541e", "#2f8f4e", "#8a4fbf", "#b8860b", "#555555")


def ticks(most):
    """Round numbers from 0 to about `most`."""
    step = 10.0 ** len(str(int(most))) / 100
    while most / step > 8:
        step *= 2 if str(step).lstrip("0.")[0] != "2" else 2.5
    return [step * i for i in range(int(most / step) + 1)]


def number(x):
    return f"{x:g}"


def draw(title, x_label, y_label, series):
    """series: {name: [(x, y), ...]}; both axes start at 0."""
    most_x = max(x for points in series.values() for x, _ in points) or 1
    most_y = 1.08 * max(y for points in series.values() for _, y in points)

    def px(x):
        return LEFT + x / most_x * (WIDTH - LEFT - RIGHT)

    def py(y):
        return HEIGHT - BOTTOM - y / most_y * (HEIGHT - TOP - BOTTOM)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
           f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
           f'<text x="{LEFT}" y="20" font-size="15">{title}</text>']
    for y in ticks(most_y):
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{py(y):.1f}" y2="{py(y):.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 8}" y="{py(y) + 4:.1f}" text-anchor="end">{number(y)}</text>')
    for x in ticks(most_x):
        out.append(f'<text x="{px(x):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{number(x)}</text>')
    out.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 14}" text-anchor="middle">{x_label}</text>')
    out.append(f'<text transform="translate(18 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" '
               f'text-anchor="middle">{y_label}</text>')
    for i, (name, points) in enumerate(sorted(series.items())):
        colour = COLOURS[i % len(COLOURS)]
        path = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in sorted(points))
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{px(x):.1f}" cy="{py(y):.1f}" r="3" fill="{colour}"/>' for x, y in points]
        out.append(f'<text x="{LEFT + 12}" y="{TOP + 14 + 16 * i}" fill="{colour}">{name}</text>')
    return "\n".join(out + ["</svg>", ""])


def name_of(row, *extra):
    return " ".join([Path(row["model"]).stem, *(str(row[key]) for key in extra)])


def gather(rows, kind):
    series = {}
    for row in rows:
        tokens = int(re.sub(r"\D", "", row["test"]))
        if kind == "decode" and row["test"].startswith("tg"):
            series.setdefault(name_of(row, "kv"), []).append((row["depth"], 1e3 / row["tok_s"]))
        elif kind == "parts" and row["test"].startswith("tg"):
            for part in row.get("profile", ()):
                if part["part"] in ("mamba", "attention"):
                    name = part["part"] + (" " + row["kv"] if part["part"] == "attention" else "")
                    us = part["us_per_token"] - part["product_us_per_token"]
                    series.setdefault(name, {}).setdefault(row["depth"], us)
        elif kind == "prefill" and row["test"].startswith("pp") and row["depth"] == 0:
            series.setdefault(name_of(row), []).append((tokens, tokens / row["tok_s"]))
        elif kind == "threads" and row["depth"] == 0:
            series.setdefault(name_of(row, "test"), []).append((row["threads"], row["tok_s"]))
    if kind == "threads":
        for name, points in series.items():
            one = dict(points).get(1)
            if not one:
                sys.exit(f"plot: {name}: no line with one thread")
            series[name] = [(threads, speed / one) for threads, speed in points]
    if kind == "parts":  # Mamba layers take what they take: the first of several caches
        series = {name: list(points.items()) for name, points in series.items()}
    return series


LABELS = {
    "decode": ("Decoding at depth", "tokens in the cache", "ms per token"),
    "parts": ("Parts of decoding at depth", "tokens in the cache", "us per token"),
    "prefill": ("Reading a prompt", "tokens of the prompt", "seconds"),
    "threads": ("Threads", "threads", "speed, one thread = 1"),
}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("kind", choices=LABELS)
    p.add_argument("files", nargs="+")
    p.add_argument("-o", "--out", required=True)
    a = p.parse_args()
    rows = [json.loads(line) for f in a.files for line in Path(f).read_text().splitlines() if line.strip()]
    series = gather(rows, a.kind)
    if not series:
        sys.exit(f"plot: no line for a plot of {a.kind} in {', '.join(a.files)}")
    title, x_label, y_label = LABELS[a.kind]
    Path(a.out).write_text(draw(f"{title} ({rows[0]['machine']})", x_label, y_label, series), encoding="utf-8")


if __name__ == "__main__":
    main()
