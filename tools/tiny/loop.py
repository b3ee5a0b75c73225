"""The training loop of one process and one device, fed by others: for the model on a GPU and for its draft head."""
import os
import time

import torch

import feed
import optimizer

SHARED = ("params", "ema", "opt")


def arguments(ap, batch, lr, warmup, decay, save_every):
    """Flags that every kind of training has."""
    ap.add_argument("--dir", required=True, help="holds checkpoint.pt and log.txt")
    ap.add_argument("--seed", type=int, default=0)
    ap.add_argument("--tokens", type=float, default=40e6, help="length of the learning-rate schedule")
    ap.add_argument("--minutes", type=float, help="length of the schedule by the clock, on a GPU")
    ap.add_argument("--decay", type=float, default=decay, help="last part of the schedule, with falling rate")
    ap.add_argument("--batch", type=int, default=batch, help="tokens per step")
    ap.add_argument("--lr", type=float, default=lr)
    ap.add_argument("--warmup", type=int, default=warmup, help="steps until the rate is reached")
    ap.add_argument("--average", type=float, default=0.997, help="what the running average of weights keeps per step")
    ap.add_argument("--save-every", type=float, default=save_every, help="seconds between checkpoints")
    ap.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")


def choose_device(a):
    if a.device == "auto":
        a.device = "cuda" if torch.cuda.is_available() else "cpu"


def rate(a, step, done):
    """Learning rate: warm-up, constant, linear decay to one fiftieth."""
    return a.lr * min(1.0, step / a.warmup) * min(1.0, max(0.02, (1 - done) / a.decay))


def keep(a, step):
    return min(a.average, 1 - 5 / (step + 10))


def save(path, run):
    torch.save(run, path + ".tmp")
    os.replace(path + ".tmp", path)


def balance(bias, average, load):
    """Pushes the load of experts together."""
    bias += 1e-3 * torch.sign(load.float().mean() - load)
    average.copy_(bias)


def on_cpu(run):
    return {**run, **{part: {n: t.detach().cpu() for n, t in run[part].items()} for part in SHARED}}


def train(a, run, names, tok, seed, progress, mix, gradients, note=lambda: "", saved=lambda run: None):
    """Trains run["params"] until the schedule ends. gradients(params, groups, loads) adds a step's gradients up and
    returns its loss and its targets' number; saved(run) is told of every checkpoint."""
    path, device = os.path.join(a.dir, "checkpoint.pt"), torch.device(a.device)
    workers = max(1, min(12, os.cpu_count() - 2))
    pools = feed.Feed(tok, seed, run["step"] + 1, a.batch, progress, mix, workers, device)  # forks before CUDA starts
    torch.set_flush_denormal(True)
    torch.set_float32_matmul_precision("high")  # TF32 products where there are such
    run = {**run, **{part: {n: t.to(device) for n, t in run[part].items()} for part in SHARED}}
    p = run["params"]
    for n in names:
        p[n].requires_grad_(True)
    log = open(os.path.join(a.dir, "log.txt"), "a")

    def say(text):
        print(text, file=log, flush=True)
        print(text, flush=True)

    say("parameters %d on %s, %d workers" % (sum(p[n].numel() for n in names), a.device, workers))
    written = shown = time.time()
    began = shown - run["seconds"]
    losses, targets, tokens, waited = 0.0, 0, 0, 0.0
    while True:
        run["seconds"] = time.time() - began
        done = run["seconds"] / (60 * a.minutes) if a.minutes else run["tokens"] / a.tokens
        if done >= 1 or time.time() - written > a.save_every:
            whole = on_cpu(run)
            save(path, whole)
            saved(whole)
            written = time.time()
        if done >= 1:
            return
        start = time.time()
        groups, total = pools.next()
        waited += time.time() - start
        run["step"] += 1
        run["tokens"] += total
        step, loads = run["step"], {}
        loss, count = gradients(p, groups, loads)
        grads = {n: p[n].grad for n in names}
        norm = torch.stack([g.square().sum() for g in grads.values()]).sum().sqrt().item()
        lr = rate(a, step, done)
        if norm < 1e4:  # also false for NaN: such a step is left out
            for n, g in grads.items():
                optimizer.step(n, p[n], g.mul_(min(1.0, 1 / norm)), run["opt"], run["ema"][n], lr, step, keep(a, step))
            with torch.no_grad():
                for b, load in loads.items():
                    balance(p[b], run["ema"][b], load)
        for n in names:
            p[n].grad = None
        losses += loss.item() * count
        targets += count
        tokens += total
        if step % 20 == 0:
            now = time.time()
            say("step %d tokens %.2fM loss %.4f norm %.2f lr %.1e supervised %.2f %.0f tok/s, %.0f %% waiting%s" % (
                step, run["tokens"] / 1e6, losses / targets, norm, lr, targets / tokens, tokens / (now - shown),
                100 * waited / (now - shown), note()))
            losses, targets, tokens, waited, shown = 0.0, 0, 0, 0.0, now
