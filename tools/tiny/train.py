"""Trains nemo-tiny: `train.py --dir DIR` starts or resumes; see docs/TINY.md.

On a GPU one process does it (loop.py). On a CPU one process per core, each with one thread: they draw small batches
from a common counter, add up gradients in shared memory and update half of the parameters each. They meet three times
a step, so a busy machine costs little.
"""
import argparse
import ctypes
import multiprocessing as mp
import os
import signal
import time

os.environ["OMP_NUM_THREADS"] = "1"

import torch
import torch.nn.functional as F

import export
import feed
import loop
import model
import optimizer
import parallel
import tasks
import tokenizer
import words
from facts import FACTS

MICROS = 6  # small batches of one step


def build_tokenizer(size):
    """The vocabulary comes from the task generators themselves; the result is the same on every machine."""
    rng = tasks.random.Random("vocabulary")
    texts = ["".join(s for s, _ in tasks.document(rng, 0.3)) for _ in range(6000)]
    texts += ["\n".join([f[1], f[2]] + f[3]) for f in FACTS] * 20 + words.SYSTEMS * 50
    return tokenizer.train(texts, words.NOUNS, size)


def spelling_pairs(tok):
    """Ids of (word, space + word)."""
    space = tokenizer.BYTE_TO_CHAR[32]
    return [(tok.ids[t[1:]], i) for i, t in enumerate(tok.tokens) if len(t) > 2 and t[0] == space and t[1:] in tok.ids]


def fresh(a):
    c = model.Config()
    if a.warm:
        p, c, tok = export.read(a.warm)
    else:
        tok = export.read(a.vocabulary)[2] if a.vocabulary else build_tokenizer(c.vocab)
        p = model.init(c, a.seed, spelling_pairs(tok))
    return {"params": p, "ema": {n: t.clone() for n, t in p.items()},
            "opt": optimizer.new_state(p, list(model.shapes(c))), "step": 0, "tokens": 0, "seconds": 0.0,
            "seed": a.seed, "config": vars(c), "tokenizer": (tok.tokens, tok.merges)}


class Team:
    """What the processes share."""

    def __init__(self, run, names, workers):
        self.run, self.names, self.workers = run, names, workers
        for part in ("params", "ema", "opt"):
            for t in run[part].values():
                t.share_memory_()
        self.biases = [n for n in run["params"] if n.endswith(".bias")]
        self.grads = [{n: torch.zeros_like(run["params"][n]).share_memory_() for n in names} for _ in range(workers)]
        self.loads = {b: torch.zeros(workers, len(run["params"][b])).share_memory_() for b in self.biases}
        # per worker: loss sum, supervised tokens, tokens, squared gradient norm
        self.sums = torch.zeros(workers, 4, dtype=torch.float64).share_memory_()
        self.now = torch.zeros(4, dtype=torch.float64).share_memory_()  # step, tokens, rate, stop
        self.next = mp.Value("i", 0)
        self.barrier = mp.Barrier(workers)
        self.parts = optimizer.share(names, run["params"], workers)

    def work(self, w, a, mix, each_step):
        """One process; worker 0 also runs each_step() between steps."""
        torch.set_num_threads(1)
        torch.set_flush_denormal(True)
        run, names = self.run, self.names
        c, tok = model.Config(**run["config"]), tokenizer.Tokenizer(*run["tokenizer"])
        p = {n: t.detach() for n, t in run["params"].items()}
        for n in names:
            p[n].requires_grad_(True)
            p[n].grad = self.grads[w][n]
        norm_weight = 1.0 / (0.5 * a.batch)
        while True:
            if w == 0:
                each_step()
                self.next.value = 0
            self.barrier.wait()
            step, tokens, lr, stop = self.now.tolist()
            if stop:
                return
            step = int(step)
            self.sums[w] = 0
            for n in names:
                self.grads[w][n].zero_()
            for b in self.biases:
                self.loads[b][w] = 0
            while True:
                with self.next.get_lock():
                    micro = self.next.value
                    self.next.value += 1
                if micro >= MICROS:
                    break
                rng = tasks.training_rng(run["seed"], step * MICROS + micro)
                ids, target, weight, lengths = feed.flat(tok, rng, a.batch // MICROS, min(1.0, tokens / a.ramp), mix)
                docs, loads = model.Docs(lengths), {}
                x = model.forward(p, c, ids, docs, loads)
                rows = weight.nonzero()[:, 0]
                row_loss = torch.empty(len(rows))
                model.CrossEntropy.apply(x[rows], p["head"], target[rows], weight[rows], row_loss,
                                         norm_weight).backward()
                for i, count in loads.items():
                    self.loads["%d.bias" % i][w] += count
                self.sums[w, 0] += row_loss.sum().item()
                self.sums[w, 1] += len(rows)
                self.sums[w, 2] += docs.T
            self.barrier.wait()
            mine, square = {}, 0.0
            for n in self.parts[w]:
                mine[n] = sum(g[n] for g in self.grads)
                square += mine[n].pow(2).sum().item()
            self.sums[w, 3] = square
            self.barrier.wait()
            norm = self.sums[:, 3].sum().item() ** 0.5
            if norm < 1e4:  # also false for NaN: such a step is left out
                keep = loop.keep(a, step)
                for n, g in mine.items():
                    optimizer.step(n, p[n], g.mul_(min(1.0, 1 / norm)), run["opt"], run["ema"][n], lr, step, keep)
                if w == 0:
                    for b in self.biases:
                        loop.balance(p[b], run["ema"][b], self.loads[b].sum(0))


def child(team, w, a, mix):
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # end with the parent
    team.work(w, a, mix, None)


def on_gpu(a, run, mix):
    """The same in one process, with all experts and whole rows at once."""
    c = model.Config(**run["config"])

    def gradients(p, groups, loads):
        count, total = sum(len(rows) for _, rows, _ in groups), 0
        for ids, rows, goals in groups:
            x = parallel.forward(p, c, ids, loads).flatten(0, 1)[rows]
            loss = F.cross_entropy(x @ p["head"].t(), goals, reduction="sum") / count
            loss.backward()
            total = total + loss.detach()
        return total, count

    loop.train(a, run, list(model.shapes(c)), tokenizer.Tokenizer(*run["tokenizer"]), run["seed"],
               lambda step: min(1.0, step * a.batch / a.ramp), mix, gradients,
               saved=lambda whole: export.write(a.out, whole) if a.out else None)


def on_cpu(a, run, mix):
    model.library()
    path = os.path.join(a.dir, "checkpoint.pt")
    names = list(model.shapes(model.Config(**run["config"])))
    team = Team(run, names, a.workers)
    log = open(os.path.join(a.dir, "log.txt"), "a")
    print("parameters %d, %d workers" % (sum(run["params"][n].numel() for n in names), a.workers), file=log, flush=True)
    meter = {"saved": time.time(), "shown": time.time(), "loss": 0.0, "sup": 0.0, "tokens": 0, "began": False}

    def keep_run():
        loop.save(path, run)
        if a.out:
            export.write(a.out, run)
        meter["saved"] = time.time()

    def each_step():
        """Books the finished step, logs, saves, pauses and sets up the next one."""
        if meter["began"]:
            loss, sup, tokens, square = team.sums.sum(0).tolist()
            run["step"] += 1
            run["tokens"] += int(tokens)
            meter["loss"] += loss
            meter["sup"] += sup
            meter["tokens"] += tokens
            if run["step"] % 20 == 0:
                now = time.time()
                print("step %d tokens %.2fM loss %.4f norm %.2f lr %.1e supervised %.2f %.0f tok/s" % (
                    run["step"], run["tokens"] / 1e6, meter["loss"] / meter["sup"], square ** 0.5,
                    team.now[2].item(), meter["sup"] / meter["tokens"], meter["tokens"] / (now - meter["shown"])),
                    file=log, flush=True)
                meter.update(shown=now, loss=0.0, sup=0.0, tokens=0)
        meter["began"] = True
        stop = run["tokens"] >= a.tokens
        if stop or time.time() - meter["saved"] > a.save_every:
            keep_run()
        if os.path.exists(a.pause_file):
            keep_run()
            while os.path.exists(a.pause_file):
                time.sleep(1)
            meter["shown"] = time.time()
        step = run["step"] + 1
        team.now[:] = torch.tensor([step, run["tokens"], loop.rate(a, step, run["tokens"] / a.tokens), float(stop)],
                                   dtype=torch.float64)

    for w in range(1, a.workers):
        mp.Process(target=child, args=(team, w, a, mix), daemon=True).start()
    team.work(0, a, mix, each_step)


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    loop.arguments(ap, batch=7680, lr=3e-3, warmup=150, decay=0.25, save_every=120)
    ap.add_argument("--ramp", type=float, default=10e6, help="tokens until tasks have their full length")
    ap.add_argument("--mix", help="shares of tasks in place of the usual ones, as format=3,arithmetic=1")
    ap.add_argument("--warm", help="start from this GGUF file's weights instead of from nothing")
    ap.add_argument("--vocabulary", help="take the vocabulary of this GGUF file instead of building one")
    ap.add_argument("--out", help="export to this GGUF file at every checkpoint")
    ap.add_argument("--workers", type=int, default=os.cpu_count(), help="processes on a CPU")
    ap.add_argument("--pause-file", default="/tmp/pause_training")
    a = ap.parse_args()
    loop.choose_device(a)
    if a.minutes and a.device == "cpu":
        ap.error("--minutes is for a GPU: give --tokens")
    os.makedirs(a.dir, exist_ok=True)
    path = os.path.join(a.dir, "checkpoint.pt")
    run = torch.load(path) if os.path.exists(path) else fresh(a)
    mix = {k: float(v) for k, v in (x.split("=") for x in a.mix.split(","))} if a.mix else tasks.DEFAULT_MIX
    (on_gpu if a.device == "cuda" else on_cpu)(a, run, mix)


if __name__ == "__main__":
    main()
