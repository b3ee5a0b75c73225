"""Trains the multi-token prediction block of nemo-tiny on the frozen model of a GGUF file, and folds it into the file:
`mtp.py train --dir DIR` starts or resumes, `mtp.py export --dir DIR --out FILE`; see docs/TINY.md.

    x = eh [rmsnorm(embed[token_{i+1}]); rmsnorm(H_i)]        H_i: the trunk's output after its last norm
    x = x + attention(rmsnorm(x));  x = x + moe(rmsnorm(x));  x = rmsnorm(x);  head x predicts token_{i+2}

Draft n > 1 of slot i puts the x of draft n-1 in the place of H. It sees keys and values as when drafting: of draft 1 for
slots up to i, and of its own drafts 2..n. The target is the trunk's own distribution, so what is trained is acceptance.
"""
import argparse
import math
import os
import time

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
import torch.nn.functional as F

import export
import gguf
import model
import optimizer
import tasks
import train

DEPTH_WEIGHT = (1.0, 0.7, 0.5)  # drafts trained, and what their losses count


def shapes(c):
    """Names as in model.shapes; "in" is eh_proj."""
    return {"enorm": (c.d,), "hnorm": (c.d,), "in": (c.d, 2 * c.d), "norm": (c.d,),
            "qkv": ((c.Hq + 2 * c.Hkv) * c.hd, c.d), "o": (c.d, c.Hq * c.hd), "norm2": (c.d,), "gate": (c.E, c.d),
            "up_e": (c.E, c.m, c.d), "down_e": (c.E, c.d, c.m), "up_s": (c.s, c.d), "down_s": (c.d, c.s),
            "final": (c.d,)}


def init(c, seed):
    g = torch.Generator().manual_seed(seed)
    p = {}
    for name, shape in shapes(c).items():
        p[name] = torch.ones(shape) if len(shape) == 1 else torch.randn(shape, generator=g) / math.sqrt(shape[-1])
        if name in ("o", "down_e", "down_s"):
            p[name] *= 0.25
    p["bias"] = torch.zeros(c.E)
    return p


def drafts(p, c, embed, hidden, following, documents, rows):
    """Normalised outputs of drafts 1, 2, ... of slots `rows`, and the experts' loads.
    hidden [T, d], following: the token after each slot [T], documents: which one a slot is in [T]."""
    T, n = len(following), len(rows)
    group = c.Hq // c.Hkv
    visible = (documents[rows][:, None] == documents[None]) & (torch.arange(T)[None] <= rows[:, None])
    mask = torch.zeros(n, T).masked_fill_(~visible, -math.inf)
    scale = 1 / math.sqrt(c.hd)

    def fuse(h, tokens):
        e = model.RmsNorm.apply(F.embedding(tokens, embed), p["enorm"], c.eps)
        x = model.linear(torch.cat([e, model.RmsNorm.apply(h, p["hnorm"], c.eps)], 1), p["in"])
        return x, model.linear(model.RmsNorm.apply(x, p["norm"], c.eps), p["qkv"]).view(len(x), -1, c.hd)

    out, load, own = [], 0, []
    x, qkv = fuse(hidden, following)
    k1, v1 = (t.transpose(0, 1) for t in qkv[:, c.Hq:].split(c.Hkv, 1))  # [Hkv, T, hd]
    x, qkv = x[rows], qkv[rows]
    for depth in range(len(DEPTH_WEIGHT)):
        if depth > 0:
            at = (rows + depth).clamp(max=T - 1)
            x, qkv = fuse(out[-1], following[at])
            own.append((qkv[:, c.Hq:c.Hq + c.Hkv], qkv[:, c.Hq + c.Hkv:]))
        q = qkv[:, :c.Hq].reshape(n, c.Hkv, group, c.hd)
        s = torch.matmul(q.permute(1, 2, 0, 3).reshape(c.Hkv, group * n, c.hd), k1.transpose(1, 2))
        s = s.view(c.Hkv, group, n, T) * scale + mask
        extra = [(q * k[:, :, None]).sum(-1).permute(1, 2, 0)[..., None] * scale for k, _ in own]
        w = torch.softmax(torch.cat([s] + extra, 3), 3)
        y = torch.matmul(w[..., :T].reshape(c.Hkv, group * n, T), v1).view(c.Hkv, group, n, c.hd).permute(2, 0, 1, 3)
        for i, (_, v) in enumerate(own):
            y = y + w[..., T + i].permute(2, 0, 1)[..., None] * v[:, :, None]
        x = x + model.linear(y.reshape(n, -1), p["o"])
        mixed, count = model.moe(p, "", c, model.RmsNorm.apply(x, p["norm2"], c.eps))
        load = load + count
        out.append(model.RmsNorm.apply(x + mixed, p["final"], c.eps))
    return out, load


def loss_of(p, trunk, c, ids, target, weight, lengths, sums):
    """Weighted loss of one batch; sums [depths, 3] collects drafts, right ones, and right ones so far in a row."""
    T = len(ids)
    docs = model.Docs(lengths)
    documents = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    with torch.no_grad():
        hidden = model.forward(trunk, c, ids, docs)
    place = torch.arange(T)
    follows = (place + 1 < T) & (documents[(place + 1).clamp(max=T - 1)] == documents)
    rows = (follows & (weight[(place + 1).clamp(max=T - 1)] > 0)).nonzero()[:, 0]
    out, load = drafts(p, c, trunk["embed"], hidden, target, documents, rows)
    total, row = 0, torch.ones(len(rows), dtype=torch.bool)
    for depth, x in enumerate(out):
        at = rows + depth + 1
        inside = at < T
        at = at.clamp(max=T - 1)
        inside &= (documents[at] == documents[rows]) & (weight[at] > 0)
        with torch.no_grad():
            goal = hidden[at] @ trunk["head"].t()
        guess = model.linear(x, trunk["head"])
        ce = -(goal.softmax(1) * guess.log_softmax(1)).sum(1)
        total = total + DEPTH_WEIGHT[depth] * ce[inside].sum()
        right = goal.argmax(1) == guess.argmax(1)
        row = row & right
        sums[depth] += torch.tensor([inside.sum(), (right & inside).sum(), (row & inside).sum()])
    return total / len(rows), load


def train_block(a):
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    os.makedirs(a.dir, exist_ok=True)
    trunk, c, tok = export.read(a.model)
    path = os.path.join(a.dir, "checkpoint.pt")
    if os.path.exists(path):
        run = torch.load(path)
    else:
        p = init(c, a.seed)
        run = {"params": p, "ema": {n: t.clone() for n, t in p.items()},
               "opt": optimizer.new_state(p, list(shapes(c))), "step": 0, "tokens": 0, "seed": a.seed}
    p = run["params"]
    log = open(os.path.join(a.dir, "log.txt"), "a")
    print("parameters %d" % sum(p[n].numel() for n in shapes(c)), file=log, flush=True)
    saved = shown = time.time()
    sums, losses = torch.zeros(len(DEPTH_WEIGHT), 3), []
    while run["tokens"] < a.tokens:
        run["step"] += 1
        step, done = run["step"], run["tokens"] / a.tokens
        lr = a.lr * min(1.0, step / 100) * min(1.0, max(0.02, (1 - done) / a.decay))
        rng = tasks.training_rng(1000 + run["seed"], step)  # not the trunk's own batches
        ids, target, weight, lengths = train.batch(tok, rng, a.batch, 0.6, tasks.DEFAULT_MIX)
        for n in shapes(c):
            p[n].requires_grad_(True)
            p[n].grad = None
        loss, load = loss_of(p, trunk, c, ids, target, weight, lengths, sums)
        loss.backward()
        grads = {n: p[n].grad for n in shapes(c)}
        for n in grads:
            p[n].requires_grad_(False)
        norm = math.sqrt(sum(g.pow(2).sum().item() for g in grads.values()))
        if norm < 1e4:
            keep = min(0.997, 1 - 5 / (step + 10))
            for n, g in grads.items():
                optimizer.step(n, p[n], g.mul_(min(1.0, 1 / norm)), run["opt"], run["ema"][n], lr, step, keep)
            p["bias"] += 1e-3 * torch.sign(load.float().mean() - load)
            run["ema"]["bias"].copy_(p["bias"])
        run["tokens"] += len(ids)
        losses.append(loss.item())
        if step % 20 == 0:
            now = time.time()
            rates = " ".join("%.3f/%.3f" % (right / n, row / n) for n, right, row in sums.tolist())
            print("step %d tokens %.2fM loss %.4f norm %.2f lr %.1e right/in a row %s %.1f s" % (
                step, run["tokens"] / 1e6, sum(losses) / len(losses), norm, lr, rates, now - shown), file=log, flush=True)
            sums.zero_()
            losses, shown = [], now
        if run["tokens"] >= a.tokens or time.time() - saved > a.save_every:
            train.save(path, run)
            saved = time.time()


# leaf of shapes() -> name in the block
BLOCK = {"enorm": "nextn.enorm.weight", "hnorm": "nextn.hnorm.weight", "in": "nextn.eh_proj.weight",
         "norm": "attn_norm.weight", "o": "attn_output.weight", "norm2": "post_attention_norm.weight",
         "gate": "ffn_gate_inp.weight", "bias": "exp_probs_b.bias", "up_e": "ffn_up_exps.weight",
         "down_e": "ffn_down_exps.weight", "up_s": "ffn_up_shexp.weight", "down_s": "ffn_down_shexp.weight",
         "final": "nextn.shared_head_norm.weight"}
KEEP_F32 = {"enorm", "hnorm", "norm", "norm2", "final", "gate", "bias"}


def block(p, c, index):
    out = []
    for leaf, x in p.items():
        x = x.detach().numpy()
        if leaf == "qkv":
            out += [("blk.%d.%s" % (index, n), x[a:b], gguf.TYPE_Q8_0) for n, a, b in export.qkv_parts(c)]
        else:
            out.append(("blk.%d.%s" % (index, BLOCK[leaf]), x, gguf.TYPE_F32 if leaf in KEEP_F32 else gguf.TYPE_Q8_0))
    return out


def export_block(a):
    """The file's own tensors keep their bytes."""
    f = gguf.Reader(a.model)
    arch = export.ARCH + "."
    if f.metadata.get(arch + "nextn_predict_layers"):
        raise SystemExit("%s already has a multi-token prediction block" % a.model)
    run = torch.load(os.path.join(a.dir, "checkpoint.pt"))
    _, c, _ = export.read(a.model)
    layers = len(c.pattern)
    extra = {arch + "block_count": layers + 1, arch + "feed_forward_length": c.m,
             arch + "attention.head_count_kv": c.Hkv}
    metadata = []
    for key, kind, v in f.items:
        if kind == gguf.ARRAY and key in extra:
            v = (v[0], v[1] + [extra[key]])
        metadata.append((key, kind, extra[key] if key in extra and kind != gguf.ARRAY else v))
        if key == arch + "vocab_size":
            metadata.append((arch + "nextn_predict_layers", gguf.U32, 1))
    gguf.write(a.out, metadata, [(n, f.stored[n], f.types[n]) for n in f.tensors] + block(run["ema"], c, layers))
    print("%s: %d bytes, %d tokens trained" % (a.out, os.path.getsize(a.out), run["tokens"]))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("what", choices=["train", "export"])
    ap.add_argument("--dir", required=True, help="holds checkpoint.pt and log.txt")
    ap.add_argument("--model", default=os.path.join(export.HERE, "..", "..", "models", "nemo-tiny.gguf"))
    ap.add_argument("--out")
    ap.add_argument("--seed", type=int, default=0)
    ap.add_argument("--tokens", type=float, default=3e6, help="length of the learning-rate schedule")
    ap.add_argument("--decay", type=float, default=0.4, help="last part of the schedule, with falling rate")
    ap.add_argument("--batch", type=int, default=1536)
    ap.add_argument("--lr", type=float, default=3e-3)
    ap.add_argument("--save-every", type=float, default=60, help="seconds between checkpoints")
    a = ap.parse_args()
    train_block(a) if a.what == "train" else export_block(a)


if __name__ == "__main__":
    main()
