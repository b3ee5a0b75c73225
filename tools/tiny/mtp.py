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

import torch
import torch.nn.functional as F

import export
import gguf
import loop
import optimizer
import parallel
import tasks
from parallel import rmsnorm

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


def drafts(p, c, embed, hidden, ids, loads):
    """Normalised outputs of drafts 1, 2, ... of all slots; hidden: the trunk's [b, L, d] for ids [b, L]."""
    b, L = ids.shape
    group, scale = c.Hq // c.Hkv, 1 / math.sqrt(c.hd)
    later = torch.ones(L, L, dtype=torch.bool, device=ids.device).triu(1)

    def fuse(h, depth):  # with the token after slot i + depth; past the end any token does
        e = rmsnorm(F.embedding(ids.roll(-1 - depth, 1), embed), p["enorm"], c.eps)
        x = torch.cat([e, rmsnorm(h, p["hnorm"], c.eps)], 2) @ p["in"].t()
        q, k, v = parallel.heads(c, rmsnorm(x, p["norm"], c.eps) @ p["qkv"].t())
        return x, q.reshape(b, c.Hkv, group, L, c.hd), k[:, :, None], v[:, :, None]

    out, own = [], []
    for depth in range(len(DEPTH_WEIGHT)):
        x, q, k, v = fuse(out[-1] if out else hidden, depth)
        if depth == 0:
            k1, v1 = k, v
        else:
            own.append((k, v))
        s = (torch.matmul(q, k1.transpose(3, 4)) * scale).masked_fill(later, -math.inf)
        w = torch.cat([s] + [(q * k).sum(4, keepdim=True) * scale for k, _ in own], 4).softmax(4)
        y = torch.matmul(w[..., :L], v1)
        for i, (_, v) in enumerate(own):
            y = y + w[..., L + i:L + i + 1] * v
        x = x + y.reshape(b, c.Hq, L, c.hd).transpose(1, 2).reshape(b, L, -1) @ p["o"].t()
        mixed, load = parallel.moe(p, "", c, rmsnorm(x, p["norm2"], c.eps), ids != parallel.PAD)
        loads["bias"] = loads.get("bias", 0) + load
        out.append(rmsnorm(x + mixed, p["final"], c.eps))
    return out


def loss_of(p, trunk, c, ids, supervised, loads, sums):
    """Sum of weighted losses of one group [b, L]; supervised [n]: slots whose next token is the assistant's. Adds to
    sums [depths, 3] the drafts, the right ones, and the right ones so far in a row."""
    b, L = ids.shape
    with torch.no_grad():
        hidden = parallel.forward(trunk, c, ids)
    out = drafts(p, c, trunk["embed"], hidden, ids, loads)
    hidden, spoken = hidden.flatten(0, 1), torch.zeros(b * L + len(DEPTH_WEIGHT), dtype=torch.bool, device=ids.device)
    spoken[supervised] = True
    rows = supervised - 1  # a conversation's first token is never the assistant's, so these lie in the same row
    total, row = 0, torch.ones(len(rows), dtype=torch.bool, device=ids.device)
    for depth, x in enumerate(out):
        at = rows + depth + 1
        inside = spoken[at] & (at // L == rows // L)
        at = at.clamp(max=b * L - 1)
        with torch.no_grad():
            goal = hidden[at] @ trunk["head"].t()
        guess = x.flatten(0, 1)[rows] @ trunk["head"].t()
        ce = -(goal.softmax(1) * guess.log_softmax(1)).sum(1)
        total = total + DEPTH_WEIGHT[depth] * (ce * inside).sum()
        right = goal.argmax(1) == guess.argmax(1)
        row = row & right
        sums[depth] += torch.stack([inside.sum(), (right & inside).sum(), (row & inside).sum()])
    return total


def train_block(a):
    os.makedirs(a.dir, exist_ok=True)
    loop.choose_device(a)
    trunk, c, tok = export.read(a.model)
    path = os.path.join(a.dir, "checkpoint.pt")
    if os.path.exists(path):
        run = torch.load(path)
    else:
        p = init(c, a.seed)
        run = {"params": p, "ema": {n: t.clone() for n, t in p.items()},
               "opt": optimizer.new_state(p, list(shapes(c))), "step": 0, "tokens": 0, "seconds": 0.0, "seed": a.seed}
    state = {}  # what lies on the device, which is used only after the loop has started its other processes

    def gradients(p, groups, loads):
        if not state:
            state.update(trunk={n: t.to(a.device) for n, t in trunk.items()},
                         sums=torch.zeros(len(DEPTH_WEIGHT), 3, dtype=torch.long, device=a.device))
        count, total = sum(len(rows) for _, rows, _ in groups), 0
        for ids, rows, _ in groups:
            loss = loss_of(p, state["trunk"], c, ids, rows, loads, state["sums"]) / count
            loss.backward()
            total = total + loss.detach()
        return total, count

    def note():
        rates = " ".join("%.3f/%.3f" % (right / n, row / n) for n, right, row in state["sums"].tolist())
        state["sums"].zero_()
        return ", right/in a row " + rates

    # not the trunk's own batches; scores of L x L keep the texts below 800 tokens
    loop.train(a, run, list(shapes(c)), tok, 1000 + run["seed"], lambda step: 0.6, tasks.DEFAULT_MIX, gradients, note)


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
    loop.arguments(ap, batch=1536, lr=3e-3, warmup=100, decay=0.4, save_every=60)
    ap.add_argument("--model", default=os.path.join(export.HERE, "..", "..", "models", "nemo-tiny.gguf"))
    ap.add_argument("--out")
    a = ap.parse_args()
    train_block(a) if a.what == "train" else export_block(a)


if __name__ == "__main__":
    main()
