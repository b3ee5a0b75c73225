#!/usr/bin/env python3
"""Compares nemo with llama.cpp on one file: alternately, in one run, with everything pinned equal.

  bench/compare.py -m MODEL.gguf --llama-bench PATH        a llama-bench binary
  bench/compare.py -m MODEL.gguf --node-llama FOLDER       `npm install node-llama-cpp` ran there

Each round times every test with nemo and with the peer, in that order and back, so that both see the
same neighbours; --reps N times each N times, over the depths in turns. Prints medians, and the median
of the rounds' ratios with the smallest and the largest; --json FILE appends one line for each test.
With depths 0 and others (-d 0,16384) it also says what depth costs: the time that each cached token
adds to a decoded one, and the part of its speed that prefill keeps, medians of repetitions next to
each other. Needs the python3 standard library only.
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


def count_flags(kind, tokens, depths):
    counts = ["-p", str(tokens), "-n", "0"] if kind == "pp" else ["-p", "0", "-n", str(tokens)]
    return counts + ["-d", ",".join(str(d) for d in depths)]


class Nemo:
    """Engines measure a test at some depths: {depth: [tokens/s of each repetition]}."""

    name = "nemo"

    def __init__(self, a, tests):
        del tests
        self.words = [a.nemo, "bench", "-m", a.model, "-t", str(a.threads), "--chunk", str(a.batch),
                      "--kv", a.nemo_kv, "--reps", str(a.reps), "--json-lines"]
        if a.kernels:
            self.words += ["--kernels", a.kernels]
        self.command = shlex.join(self.words)

    def measure(self, kind, tokens, depths):
        lines = run(self.words + count_flags(kind, tokens, depths)).splitlines()
        results = [json.loads(line) for line in lines]
        self.kernels = results[0]["kernels"]
        return {r["depth"]: r["tok_s_reps"] for r in results}


class LlamaBench:
    name = "llama.cpp"

    def __init__(self, a, tests):
        del tests
        self.words = [a.llama_bench, "-m", a.model, "-t", str(a.threads), "-b", str(a.batch),
                      "-ub", str(a.batch), "-ctk", a.kv, "-ctv", a.kv, "-fa", "1", "-ngl", "0",
                      "-r", str(a.reps), "-o", "json"]
        self.command = shlex.join(self.words)

    def measure(self, kind, tokens, depths):
        results = json.loads(run(self.words + count_flags(kind, tokens, depths)))
        return {r["n_depth"]: r["samples_ts"] for r in results}


class NodeLlama:
    name = "llama.cpp"

    def __init__(self, a, tests):
        self.reps = a.reps
        states = a.states or tempfile.mkdtemp(prefix="nemo-compare-")
        os.makedirs(states, exist_ok=True)
        options = {"threads": a.threads, "batch": a.batch, "kv": a.kv, "states": states,
                   "context": max(max(n for _, n in tests) + max(a.depth) + 8, a.batch)}
        words = ["node", str(ROOT / "bench/peer_node.mjs"), a.node_llama, a.model,
                 json.dumps(options)]
        self.command = shlex.join(words)
        try:
            self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            text=True)
        except OSError as error:
            fail(f"node: {error.strerror}")

    def measure(self, kind, tokens, depths):
        speeds = {depth: [] for depth in depths}
        for _ in range(self.reps):
            for depth in depths:
                speeds[depth].append(self.measure_once(kind, tokens, depth))
        return speeds

    def measure_once(self, kind, tokens, depth):
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
        return reply["tok_s"]


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
    p.add_argument("--reps", type=int, default=1, help="of a test in a round, over the depths in turns")
    p.add_argument("--states", metavar="FOLDER", help="keeps node-llama-cpp's states at depth for the next run")
    p.add_argument("--json", metavar="FILE", help="appends a line for each test")
    a = p.parse_args()
    if a.rounds < 1 or a.reps < 1 or a.threads < 1 or a.batch < 1:
        p.error("--rounds, --reps, --threads and --batch: at least 1")
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


def added_time(shallow, deep, depth):
    """Microseconds that each of `depth` cached tokens adds to a decoded token, pair by pair."""
    return [(1 / y - 1 / x) / depth * 1e6 for x, y in zip(shallow, deep)]


def middle(values):
    """Median, and what half of the values lie between."""
    if len(values) < 4:
        return f"{statistics.median(values):.3f}"
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{median:.3f} ({low:.3f} .. {high:.3f})"


def cost_of_depth(kind, tokens, shallow, deep, depth):
    """A line about it; shallow and deep are {engine: speeds}, in the order in which they were taken."""
    name, engines = f"{kind}{tokens}", ("nemo", "llama.cpp")
    if kind == "tg":
        ours, theirs = (added_time(shallow[e], deep[e], depth) for e in engines)
        ratio = statistics.median(ours) / statistics.median(theirs)
        return (f"{name}: a cached token of {depth} adds {middle(ours)} us to a decoded one, "
                f"llama.cpp {middle(theirs)} us: {ratio:.2f} of it")
    ours, theirs = (statistics.median(y / x for x, y in zip(shallow[e], deep[e])) for e in engines)
    return f"{name}: keeps {100 * ours:.0f} % of its speed at depth {depth}, llama.cpp {100 * theirs:.0f} %"


def main():
    a = arguments()
    tests = [(kind, n) for kind, list_ in (("pp", a.prompt_tokens), ("tg", a.max_tokens)) for n in list_ if n > 0]
    if not tests:
        fail("nothing to measure: give -p or -n a number of tokens")
    nemo = Nemo(a, tests)
    peer = LlamaBench(a, tests) if a.llama_bench else NodeLlama(a, tests)
    for test in tests:
        peer.measure(*test, a.depth)  # warm: pages in memory, states at depth computed
    # Of each test and depth, all speeds of each engine; a.reps of them are a round's.
    speeds = {(*test, d): {"nemo": [], "llama.cpp": []} for test in tests for d in a.depth}
    for r in range(a.rounds):
        for test in tests:
            for engine in (nemo, peer) if r % 2 == 0 else (peer, nemo):
                for depth, values in engine.measure(*test, a.depth).items():
                    speeds[(*test, depth)][engine.name] += values
        print(f"round {r + 1} of {a.rounds}", file=sys.stderr)

    print(f"{Path(a.model).name}, {a.threads} threads, chunks of {a.batch}, nemo {nemo.kernels} "
          f"kv {a.nemo_kv}, llama.cpp kv {a.kv}, {a.rounds} rounds")
    print(f"{'test':8} {'depth':>6} {'nemo tok/s':>11} {'llama.cpp':>11} {'ratio':>7}   smallest .. largest")
    for (kind, n, depth), of_engines in speeds.items():
        ours, theirs = ([statistics.median(values[i:i + a.reps]) for i in range(0, len(values), a.reps)]
                        for values in (of_engines["nemo"], of_engines["llama.cpp"]))
        ratios = sorted(x / y for x, y in zip(ours, theirs))
        row = {"test": f"{kind}{n}", "depth": depth, "nemo_tok_s": statistics.median(ours),
               "llama_tok_s": statistics.median(theirs), "ratio": statistics.median(ratios),
               "ratio_min": ratios[0], "ratio_max": ratios[-1]}
        print(f"{row['test']:8} {depth:6} {row['nemo_tok_s']:11.2f} {row['llama_tok_s']:11.2f} "
              f"{row['ratio']:7.2f}   {ratios[0]:.2f} .. {ratios[-1]:.2f}")
        if a.json:
            row |= {"model": Path(a.model).name, "threads": a.threads, "batch": a.batch,
                    "kernels": nemo.kernels, "nemo_kv": a.nemo_kv, "llama_kv": a.kv,
                    "nemo_samples": of_engines["nemo"], "llama_samples": of_engines["llama.cpp"],
                    "reps": a.reps, "machine": cpu_name(), "commit": commit(),
                    "command": shlex.join(sys.argv), "nemo_command": nemo.command,
                    "llama_command": peer.command}
            with open(a.json, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
    for kind, n in tests:
        for depth in a.depth:
            if depth > 0 and 0 in a.depth:
                print(cost_of_depth(kind, n, speeds[kind, n, 0], speeds[kind, n, depth], depth))


if __name__ == "__main__":
    main()
