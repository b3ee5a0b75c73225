"""Muon for the matrices inside layers, Adam for everything else, and a running average of the weights."""
import torch

MUON = ("in", "out", "qkv", "o", "up", "down", "up_e", "down_e", "up_s", "down_s")


def is_muon(name):
    return name.split(".")[-1] in MUON


def new_state(params, names):
    state = {}
    for n in names:
        state[n + "/1"] = torch.zeros_like(params[n])
        if not is_muon(n):
            state[n + "/2"] = torch.zeros_like(params[n])
    return state


def newton_schulz(g, steps=5):
    """A matrix near the semi-orthogonal one closest to each g[i] [rows, cols], rows <= cols."""
    x = g / (g.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        a = torch.bmm(x, x.transpose(1, 2))
        x = torch.baddbmm(x, torch.baddbmm(a, a, a, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return x


@torch.no_grad()
def step(name, w, g, state, ema, lr, t, keep, decay=0.1):
    """Updates one parameter with gradient g at step t (from 1) and its average with weight 1 - keep."""
    m = state[name + "/1"]
    if is_muon(name):
        m.mul_(0.95).add_(g)
        u = g + 0.95 * m
        u = u if u.dim() == 3 else u[None]
        flip = u.shape[1] > u.shape[2]
        u = newton_schulz(u.transpose(1, 2) if flip else u)
        u = (u.transpose(1, 2) if flip else u).reshape(w.shape)
        # 0.2 sqrt(larger side): an update as large as Adam's, so both share one rate
        w.mul_(1 - lr * decay).add_(u, alpha=-lr * 0.2 * max(w.shape[-2:]) ** 0.5)
    else:
        v = state[name + "/2"]
        m.lerp_(g, 0.1)
        v.lerp_(g * g, 0.02)
        u = (m / (1 - 0.9 ** t)) / ((v / (1 - 0.98 ** t)).sqrt_() + 1e-8)
        if w.dim() == 2:
            w.mul_(1 - lr * decay * 0.1)
        w.add_(u, alpha=-lr)
    ema.lerp_(w, 1 - keep)


def share(names, params, workers):
    """Names per worker with about equal work."""
    load, parts = [0.0] * workers, [[] for _ in range(workers)]
    cost = {n: params[n].numel() * (40.0 * min(params[n].shape[-2:]) if is_muon(n) else 20.0) for n in names}
    for n in sorted(names, key=lambda n: (-cost[n], n)):
        i = load.index(min(load))
        parts[i].append(n)
        load[i] += cost[n]
    return parts
