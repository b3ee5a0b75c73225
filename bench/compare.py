#!/usr/bin/env python3
"""Compares nemo with llama.cpp on one file: alternately, in one run, with everything pinned equal.

  bench/compare.py -m MODEL.gguf --llama-bench PATH        a llama-bench binary
  bench/compare.py -m MODEL.gguf --node-llama FOLDER       `npm install node-llama-cpp` ran there

Each round times every test once with nemo and once with the peer, in that order and back, so that
both see the same neighbours. Prints medians, and the median of the rounds' ratios with the smallest
and the largest; --json FILE appends one line for each test. With depths 0 and others (-d 0,16384) it
also says what depth costs: the time that each cached token adds to a decoded one, and the part of its
speed that prefill keeps. Needs the python3 standard library only.
"""
import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def fail(message):
    sys.exit(f"compare: {message}")


def run(words):
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError as error:
        fail(f"{words[0]}: {error.strerror}")
    if done.returncode != 0:
        fail(f"{shlex.join(words)} failed with {done.returncode}: {done.stderr.strip()[-300:]}")
    return done.stdout


class Nemo:
    name = "nemo"

    def __init__(self, a, tests):
        del tests
        self.words = [a.nemo, "bench", "-m", a.model, "-t", str(a.threads), "--chunk", str(a.batch),
                      "--kv", a.nemo_kv, "--reps", "1", "--json"]
        if a.kernels:
            self.words += ["--kernels", a.kernels]
        self.command = shlex.join(self.words)

    def measure(self, kind, tokens, depth):
        counts = ["-p", str(tokens), "-n", "0"] if kind == "pp" else ["-p", "0", "-n", str(tokens)]
        result = json.loads(run(self.words + counts + ["-d", str(depth)]))[0]
        self.kernels = result["kernels"]
        return result["tok_s"], result


class LlamaBench:
    name = "llama.cpp"

    def __init__(self, a, tests):
        del tests
        self.words = [a.llama_bench, "-m", a.model, "-t", str(a.threads), "-b", str(a.batch),
                      "-ub", str(a.batch), "-ctk", a.kv, "-ctv", a.kv, "-fa", "1", "-ngl", "0",
                      "-r", "1", "-o", "json"]
        self.command = shlex.join(self.words)

    def measure(self, kind, tokens, depth):
        counts = ["-p", str(tokens), "-n", "0"] if kind == "pp" else ["-p", "0", "-n", str(tokens)]
        result = json.loads(run(self.words + counts + ["-d", str(depth)]))[0]
        return result["avg_ts"], {}


class NodeLlama:
    name = "llama.cpp"

    def __init__(self, a, tests):
        states = a.states or tempfile.mkdtemp(prefix="nemo-compare-")
        os.makedirs(states, exist_ok=True)
        options = {"threads": a.threads, "batch": a.batch, "kv": a.kv, "states": states,
                   "context": max(max(d + n for _, n, d in tests) + 8, a.batch)}
        words = ["node", str(ROOT / "bench/peer_node.mjs"), a.node_llama, a.model,
                 json.dumps(options)]
        self.command = shlex.join(words)
        try:
            self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            text=True)
        except OSError as error:
            fail(f"node: {error.strerror}")

    def measure(self, kind, tokens, depth):
        try:
            self.process.stdin.write(json.dumps({"kind": kind, "tokens": tokens, "depth": depth}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            fail(f"the peer ended early: {self.command}")
        reply = json.loads(line)
        if "error" in reply:
            fail(f"the peer: {reply['error']}")
        return reply["tok_s"], {}


def arguments():
    def counts(text):
        return [int(x) for x in text.split(",")]

    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("-m", "--model", required=True)
    p.add_argument("--nemo", default=str(ROOT / "build/release/nemo"), help="the program; default: %(default)s")
    peer = p.add_mutually_exclusive_group(required=True)
    peer.add_argument("--llama-bench", metavar="PATH")
    peer.add_argument("--node-llama", metavar="FOLDER")
    p.add_argument("-p", "--prompt-tokens", type=counts, default=[512])
    p.add_argument("-n", "--max-tokens", type=counts, default=[64])
    p.add_argument("-d", "--depth", type=counts, default=[0])
    p.add_argument("-t", "--threads", type=int, default=2)
    p.add_argument("-b", "--batch", type=int, default=512, help="tokens of a prefill step, both sides")
    p.add_argument("--kv", default="f16", help="the peer's cache type: f16, q8_0, q4_0")
    p.add_argument("--nemo-kv", default="fp16", help="nemo's cache policy")
    p.add_argument("--kernels", help="nemo's kernel table; default: the best of this CPU")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--states", metavar="FOLDER", help="keeps node-llama-cpp's states at depth for the next run")
    p.add_argument("--json", metavar="FILE", help="appends a line for each test")
    a = p.parse_args()
    if a.rounds < 1 or a.threads < 1 or a.batch < 1:
        p.error("--rounds, --threads and --batch: at least 1")
    if not Path(a.model).is_file():
        fail(f"{a.model}: no such file")
    return a


def cpu_name():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown CPU"


def commit():
    done = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"],
                          capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def slow_down(shallow, deep, depth):
    """Microseconds that each of `depth` cached tokens adds to a decoded token, round by round."""
    return [(1 / y - 1 / x) / depth * 1e6 for x, y in zip(shallow, deep)]


def print_cost_of_depth(speeds, tests):
    for kind, n, depth in tests:
        shallow, deep = speeds.get((kind, n, 0)), speeds[kind, n, depth]
        if depth == 0 or shallow is None:
            continue
        if kind == "tg":
            ours, theirs = (statistics.median(slow_down(shallow[name], deep[name], depth))
                            for name in ("nemo", "llama.cpp"))
            print(f"tg{n}: a cached token of {depth} adds {ours:.3f} us to a decoded one, llama.cpp {theirs:.3f} us: "
                  f"{ours / theirs:.2f} of it")
        else:
            ours, theirs = (statistics.median(y / x for x, y in zip(shallow[name], deep[name]))
                            for name in ("nemo", "llama.cpp"))
            print(f"pp{n}: keeps {100 * ours:.0f} % of its speed at depth {depth}, llama.cpp {100 * theirs:.0f} %")


def main():
    a = arguments()
    tests = [(kind, n, d) for d in a.depth
             for kind, list_ in (("pp", a.prompt_tokens), ("tg", a.max_tokens)) for n in list_ if n > 0]
    if not tests:
        fail("nothing to measure: give -p or -n a number of tokens")
    nemo = Nemo(a, tests)
    peer = LlamaBench(a, tests) if a.llama_bench else NodeLlama(a, tests)
    for test in tests:
        peer.measure(*test)  # warm: pages in memory, states at depth computed
    speeds = {test: {"nemo": [], "llama.cpp": []} for test in tests}
    for r in range(a.rounds):
        for test in tests:
            for engine in (nemo, peer) if r % 2 == 0 else (peer, nemo):
                speeds[test][engine.name].append(engine.measure(*test)[0])
        print(f"round {r + 1} of {a.rounds}", file=sys.stderr)

    print(f"{Path(a.model).name}, {a.threads} threads, chunks of {a.batch}, nemo {nemo.kernels} "
          f"kv {a.nemo_kv}, llama.cpp kv {a.kv}, {a.rounds} rounds")
    print(f"{'test':8} {'depth':>6} {'nemo tok/s':>11} {'llama.cpp':>11} {'ratio':>7}   smallest .. largest")
    for kind, n, depth in tests:
        ours, theirs = speeds[kind, n, depth]["nemo"], speeds[kind, n, depth]["llama.cpp"]
        ratios = sorted(x / y for x, y in zip(ours, theirs))
        row = {"test": f"{kind}{n}", "depth": depth, "nemo_tok_s": statistics.median(ours),
               "llama_tok_s": statistics.median(theirs), "ratio": statistics.median(ratios),
               "ratio_min": ratios[0], "ratio_max": ratios[-1]}
        print(f"{row['test']:8} {depth:6} {row['nemo_tok_s']:11.2f} {row['llama_tok_s']:11.2f} "
              f"{row['ratio']:7.2f}   {ratios[0]:.2f} .. {ratios[-1]:.2f}")
        if a.json:
            row |= {"model": Path(a.model).name, "threads": a.threads, "batch": a.batch,
                    "kernels": nemo.kernels, "nemo_kv": a.nemo_kv, "llama_kv": a.kv,
                    "nemo_samples": ours, "llama_samples": theirs, "machine": cpu_name(),
                    "commit": commit(), "command": shlex.join(sys.argv),
                    "nemo_command": nemo.command, "llama_command": peer.command}
            with open(a.json, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
    print_cost_of_depth(speeds, tests)


if __name__ == "__main__":
    main()
