"""nemo-tiny: a small NemotronH. Parameters, a fast flat training forward and a token-by-token decoder.

h <- h + mixer(rmsnorm(h)) for each letter of `pattern` (M Mamba-2, * attention, E experts, - MLP);
logits = head rmsnorm(h). Documents lie one after the other in one flat row of tokens, without padding.
"""
import ctypes
import hashlib
import math
import os
import subprocess
import tempfile
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F


@dataclass
class Config:
    pattern: str = "M*EM-M*E"
    vocab: int = 1408
    d: int = 192
    Hq: int = 4
    Hkv: int = 2
    hd: int = 128
    H: int = 8          # Mamba heads
    P: int = 32         # Mamba head width
    G: int = 2          # groups of B and C
    N: int = 64         # state width
    K: int = 4          # convolution taps
    E: int = 8          # routed experts
    k: int = 2          # experts per token
    m: int = 96         # expert width
    s: int = 192        # shared-expert width
    ff: int = 384       # width of the dense MLP
    scale: float = 2.5  # routed scaling factor
    eps: float = 1e-5

    @property
    def I(self):
        return self.H * self.P

    @property
    def C(self):
        return self.I + 2 * self.G * self.N

    @property
    def in_rows(self):
        return self.I + self.C + self.H


def shapes(c):
    """Parameter name -> shape; q, k and v are one matrix here and three in the file."""
    out = {"embed": (c.vocab, c.d)}
    for i, kind in enumerate(c.pattern):
        p = "%d." % i
        out[p + "norm"] = (c.d,)
        if kind == "M":
            out.update({p + "in": (c.in_rows, c.d), p + "conv_w": (c.C, c.K), p + "conv_b": (c.C,),
                        p + "dt_bias": (c.H,), p + "A_log": (c.H,), p + "D": (c.H,), p + "gnorm": (c.I,),
                        p + "out": (c.d, c.I)})
        elif kind == "*":
            out.update({p + "qkv": ((c.Hq + 2 * c.Hkv) * c.hd, c.d), p + "o": (c.d, c.Hq * c.hd)})
        elif kind == "-":
            out.update({p + "up": (c.ff, c.d), p + "down": (c.d, c.ff)})
        else:
            out.update({p + "gate": (c.E, c.d), p + "up_e": (c.E, c.m, c.d), p + "down_e": (c.E, c.d, c.m),
                        p + "up_s": (c.s, c.d), p + "down_s": (c.d, c.s)})
    out["norm"] = (c.d,)
    out["head"] = (c.vocab, c.d)
    return out


def init(c, seed, related=None):
    """related: rows of the vocabulary that share a spelling (with and without its space) start out alike."""
    g = torch.Generator().manual_seed(seed)
    depth = len(c.pattern)
    p = {}
    for name, shape in shapes(c).items():
        leaf = name.split(".")[-1]
        if leaf in ("norm", "gnorm"):
            t = torch.ones(shape)
        elif leaf == "D":
            t = torch.ones(shape)
        elif leaf == "conv_b":
            t = torch.zeros(shape)
        elif leaf == "conv_w":
            t = (torch.rand(shape, generator=g) * 2 - 1) / math.sqrt(c.K)
        elif leaf == "A_log":
            t = torch.log(1 + 15 * torch.rand(shape, generator=g))
        elif leaf == "dt_bias":
            dt = torch.exp(torch.rand(shape, generator=g) * (math.log(0.1) - math.log(0.001)) + math.log(0.001))
            t = dt + torch.log(-torch.expm1(-dt))
        elif leaf == "embed":
            t = torch.randn(shape, generator=g) * 0.5
        elif leaf == "head":
            t = torch.randn(shape, generator=g) * 0.02
        else:
            t = torch.randn(shape, generator=g) / math.sqrt(shape[-1])
            if leaf in ("out", "o", "down", "down_e", "down_s"):
                t *= 0.5 / math.sqrt(depth)
        p[name] = t
    if related:
        for name in ("embed", "head"):
            for a, b in related:
                p[name][b] = 0.9 * p[name][a] + 0.44 * p[name][b]
    for i, kind in enumerate(c.pattern):
        if kind == "E":
            p["%d.bias" % i] = torch.zeros(c.E)  # e_score_correction_bias: balanced by hand, not by gradient
    return p


# ---- fast path ------------------------------------------------------------------------------------------
class _Shape(ctypes.Structure):
    _fields_ = [(n, ctypes.c_int) for n in ("T", "docs", "I", "H", "P", "G", "N", "K")]


def _load():
    src = os.path.join(os.path.dirname(os.path.abspath(__file__)), "kernels.cpp")
    with open(src, "rb") as f:
        tag = hashlib.sha256(f.read()).hexdigest()[:12]
    so = os.path.join(tempfile.gettempdir(), "nemo-tiny-%d-%s.so" % (os.getuid(), tag))
    if not os.path.exists(so):
        tmp = so + ".%d" % os.getpid()
        subprocess.check_call(["g++", "-O3", "-march=native", "-ffast-math", "-fopenmp", "-shared", "-fPIC", src,
                               "-l:libblas.so.3", "-o", tmp])
        os.replace(tmp, so)
    lib = ctypes.CDLL(so)
    lib.xent.restype = ctypes.c_double
    return lib


LIB = None


def library():
    """The kernels, compiled on first use."""
    global LIB
    if LIB is None:
        LIB = _load()
    return LIB


def call(name, *args):
    conv = []
    for a in args:
        if isinstance(a, torch.Tensor):
            assert a.is_contiguous()
            conv.append(ctypes.c_void_p(a.data_ptr()))
        elif isinstance(a, float):
            conv.append(ctypes.c_float(a))
        elif isinstance(a, int):
            conv.append(ctypes.c_int(a))
        else:
            conv.append(a)
    return getattr(library(), name)(*conv)


class Docs:
    """Where documents start and stop in a flat batch."""

    def __init__(self, lengths):
        n = np.asarray(lengths, np.int32)
        stop = np.cumsum(n, dtype=np.int32)
        start = stop - n
        self.T, self.count = int(stop[-1]), len(n)
        self.pos = torch.from_numpy(np.concatenate([np.arange(x, dtype=np.int32) for x in n]))
        self.start, self.stop = torch.from_numpy(start), torch.from_numpy(stop)
        spans = (n + 15) // 16
        self.ckpt_at = torch.from_numpy((np.cumsum(spans) - spans).astype(np.int32))
        self.spans = int(spans.sum())
        # longest first for the dynamic schedules
        order = np.argsort(-n, kind="stable")
        self.start, self.stop = self.start[order].contiguous(), self.stop[order].contiguous()
        self.ckpt_at = self.ckpt_at[order].contiguous()


class RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w, eps):
        y, rstd = torch.empty_like(x), torch.empty(x.shape[0])
        call("rmsnorm_fwd", x, w, y, rstd, x.shape[0], x.shape[1], eps)
        ctx.save_for_backward(x, w, rstd)
        return y

    @staticmethod
    def backward(ctx, dy):
        x, w, rstd = ctx.saved_tensors
        dx, dw = torch.empty_like(x), torch.zeros_like(w)
        call("rmsnorm_bwd", x, w, rstd, dy.contiguous(), dx, dw, x.shape[0], x.shape[1])
        return dx, dw, None


class Mamba(torch.autograd.Function):
    @staticmethod
    def forward(ctx, zx, conv_w, conv_b, dt_bias, A_log, D, gnorm, c, docs):
        T, sh = zx.shape[0], _Shape(zx.shape[0], docs.count, c.I, c.H, c.P, c.G, c.N, c.K)
        pre, act = torch.empty(T, c.C), torch.empty(T, c.C)
        dtv, y, rstd = torch.empty(T, c.H), torch.empty(T, c.I), torch.empty(T, c.G)
        ckpt, out = torch.empty(docs.spans, c.H, c.N, c.P), torch.empty(T, c.I)
        call("mamba_fwd", ctypes.byref(sh), zx, docs.pos, docs.start, docs.stop, docs.ckpt_at, conv_w, conv_b,
             dt_bias, A_log, D, gnorm, c.eps, pre, act, dtv, y, rstd, ckpt, out)
        ctx.save_for_backward(zx, conv_w, dt_bias, A_log, D, gnorm, pre, act, dtv, y, rstd, ckpt)
        ctx.c, ctx.docs, ctx.sh = c, docs, sh
        return out

    @staticmethod
    def backward(ctx, dout):
        zx, conv_w, dt_bias, A_log, D, gnorm, pre, act, dtv, y, rstd, ckpt = ctx.saved_tensors
        c, docs = ctx.c, ctx.docs
        dzx, dact, dy = torch.empty_like(zx), torch.empty_like(act), torch.empty_like(y)
        g = [torch.zeros_like(conv_w), torch.zeros(c.C), torch.zeros_like(dt_bias), torch.zeros_like(A_log),
             torch.zeros_like(D), torch.zeros_like(gnorm)]
        call("mamba_bwd", ctypes.byref(ctx.sh), zx, docs.pos, docs.start, docs.stop, docs.ckpt_at, conv_w, dt_bias,
             A_log, D, gnorm, pre, act, dtv, y, rstd, ckpt, dout.contiguous(), dzx, dact, dy, *g)
        return (dzx, *g, None, None)


class Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, qkv, c, docs):
        out, lse = torch.empty(docs.T, c.Hq * c.hd), torch.empty(docs.T, c.Hq)
        call("attn_fwd", qkv, docs.start, docs.stop, docs.count, c.Hq, c.Hkv, c.hd, out, lse)
        ctx.save_for_backward(qkv, out, lse)
        ctx.c, ctx.docs = c, docs
        return out

    @staticmethod
    def backward(ctx, dout):
        qkv, out, lse = ctx.saved_tensors
        c, docs = ctx.c, ctx.docs
        dqkv = torch.empty_like(qkv)
        call("attn_bwd", qkv, docs.start, docs.stop, docs.count, c.Hq, c.Hkv, c.hd, out, lse, dout.contiguous(), dqkv)
        return dqkv, None, None


class Experts(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u, up, down, weight, order, first, c):
        T, n = u.shape[0], u.shape[0] * c.k
        hidden, y, out = torch.empty(n, c.m), torch.empty(n, c.d), torch.empty(n, c.d)
        call("moe_fwd", u, up, down, weight, order, first, T, c.k, c.d, c.m, c.E, hidden, y, out)
        ctx.save_for_backward(u, up, down, weight, order, first, hidden, y)
        ctx.c = c
        return out.view(T, c.k, c.d).sum(1)

    @staticmethod
    def backward(ctx, dout):
        u, up, down, weight, order, first, hidden, y = ctx.saved_tensors
        c, T = ctx.c, u.shape[0]
        du, dw = torch.empty(T * c.k, c.d), torch.empty(T * c.k)
        dup, ddown = torch.zeros_like(up), torch.zeros_like(down)
        call("moe_bwd", u, up, down, weight, order, first, T, c.k, c.d, c.m, c.E, hidden, y, dout.contiguous(), du,
             dw, dup, ddown)
        return du.view(T, c.k, c.d).sum(1), dup, ddown, dw.view(T, c.k), None, None, None


def _has_bf16():
    try:
        with open("/proc/cpuinfo") as f:
            return "avx512_bf16" in f.read()
    except OSError:
        return False


BF16 = _has_bf16()  # products of bf16 with fp32 sums: twice as fast where the processor has them


class Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        if BF16:
            x, w = x.bfloat16(), w.bfloat16()
        ctx.save_for_backward(x, w)
        return (x @ w.t()).float()

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        g = g.to(x.dtype)
        return (g @ w).float(), (g.t() @ x).float()


linear = Linear.apply


class Relu2(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        r = x.relu_()
        ctx.save_for_backward(r)
        return r * r

    @staticmethod
    def backward(ctx, g):
        (r,) = ctx.saved_tensors
        return (g * r).mul_(2)


def route(u, gate, bias, c):
    """Top-k by biased score; weights are the unbiased sigmoids, normalised, times the routed scale."""
    p = torch.sigmoid(u @ gate.t())
    idx = (p.detach() + bias).topk(c.k, dim=1).indices
    w = p.gather(1, idx)
    return idx, w / (w.sum(1, keepdim=True) + 1e-20) * c.scale


def moe(p, q, c, u):
    """Mixture of experts with the parameters named q + ...: its output, and the tokens per expert."""
    idx, w = route(u, p[q + "gate"], p[q + "bias"], c)
    flat = idx.reshape(-1)
    order = torch.argsort(flat, stable=True).to(torch.int32)
    load = torch.bincount(flat, minlength=c.E)
    first = torch.cat([torch.zeros(1, dtype=torch.long), load.cumsum(0)]).to(torch.int32)
    return (Experts.apply(u, p[q + "up_e"], p[q + "down_e"], w, order, first, c)
            + linear(Relu2.apply(linear(u, p[q + "up_s"])), p[q + "down_s"])), load


def forward(p, c, tokens, docs, loads=None):
    """Normalised trunk output [T, d]. loads, if given, collects the tokens per expert of each E layer."""
    h = F.embedding(tokens, p["embed"])
    for i, kind in enumerate(c.pattern):
        q = "%d." % i
        u = RmsNorm.apply(h, p[q + "norm"], c.eps)
        if kind == "M":
            y = Mamba.apply(linear(u, p[q + "in"]), p[q + "conv_w"], p[q + "conv_b"], p[q + "dt_bias"], p[q + "A_log"],
                            p[q + "D"], p[q + "gnorm"], c, docs)
            out = linear(y, p[q + "out"])
        elif kind == "*":
            out = linear(Attention.apply(linear(u, p[q + "qkv"]), c, docs), p[q + "o"])
        elif kind == "-":
            out = linear(Relu2.apply(linear(u, p[q + "up"])), p[q + "down"])
        else:
            out, load = moe(p, q, c, u)
            if loads is not None:
                loads[i] = load
        h = h + out
    return RmsNorm.apply(h, p["norm"], c.eps)


class CrossEntropy(torch.autograd.Function):
    """Sum of the rows' weighted losses times `scale`; the gradient is formed in place of the logits."""

    @staticmethod
    def forward(ctx, x, head, target, weight, row_loss, scale):
        logits = x @ head.t()
        total = call("xent", logits, target, weight, row_loss, x.shape[0], head.shape[0], scale)
        kind = torch.bfloat16 if BF16 else torch.float32
        ctx.save_for_backward(x.to(kind), head.to(kind), logits)
        return torch.tensor(total)

    @staticmethod
    def backward(ctx, g):
        x, head, d = ctx.saved_tensors
        d = d.to(x.dtype)
        return (d @ head).float(), (d.t() @ x).float(), None, None, None, None


# ---- plain path: batched, one token at a time; also the reference of the kernels ----------------------------
class Decoder:
    """Recurrent form of the model for B sequences side by side; step() takes one token of each."""

    def __init__(self, p, c, B, capacity):
        self.p, self.c, self.at = p, c, 0

        def state(letter, *shape):
            return {i: torch.zeros(shape, device=p["embed"].device) for i, k in enumerate(c.pattern) if k == letter}

        self.conv = state("M", B, c.K - 1, c.C)
        self.ssm = state("M", B, c.H, c.P, c.N)
        self.kv = state("*", 2, B, c.Hkv, capacity, c.hd)

    def keep(self, rows):
        """Drop finished sequences."""
        self.conv = {i: t[rows] for i, t in self.conv.items()}
        self.ssm = {i: t[rows] for i, t in self.ssm.items()}
        self.kv = {i: t[:, rows] for i, t in self.kv.items()}

    def step(self, tokens):
        p, c, B = self.p, self.c, len(tokens)

        def norm(x, w):
            return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + c.eps) * w

        h = p["embed"][tokens]
        for i, kind in enumerate(c.pattern):
            q = "%d." % i
            u = norm(h, p[q + "norm"])
            if kind == "M":
                zx = u @ p[q + "in"].t()
                z, xbc, dt = zx[:, :c.I], zx[:, c.I:c.I + c.C], zx[:, c.I + c.C:]
                window = torch.cat([self.conv[i], xbc[:, None]], 1)
                self.conv[i] = window[:, 1:]
                v = F.silu((window * p[q + "conv_w"].t()).sum(1) + p[q + "conv_b"])
                x = v[:, :c.I].view(B, c.H, c.P)
                rep = c.H // c.G
                Bm = v[:, c.I:c.I + c.G * c.N].view(B, c.G, c.N).repeat_interleave(rep, 1)
                Cm = v[:, c.I + c.G * c.N:].view(B, c.G, c.N).repeat_interleave(rep, 1)
                dt = F.softplus(dt + p[q + "dt_bias"])
                a = torch.exp(dt * -torch.exp(p[q + "A_log"]))
                S = self.ssm[i] * a[..., None, None] + (dt[..., None] * x)[..., None] * Bm[:, :, None]
                self.ssm[i] = S
                y = (S * Cm[:, :, None]).sum(-1) + p[q + "D"][:, None] * x
                g = y.reshape(B, c.I) * F.silu(z)
                g = norm(g.view(B, c.G, -1), p[q + "gnorm"].view(c.G, -1)).reshape(B, c.I)
                out = g @ p[q + "out"].t()
            elif kind == "*":
                x = (u @ p[q + "qkv"].t()).view(B, c.Hq + 2 * c.Hkv, c.hd)
                kv = self.kv[i]
                kv[0, :, :, self.at], kv[1, :, :, self.at] = x[:, c.Hq:c.Hq + c.Hkv], x[:, c.Hq + c.Hkv:]
                k, v = kv[0, :, :, :self.at + 1], kv[1, :, :, :self.at + 1]
                s = torch.matmul(x[:, :c.Hq].reshape(B, c.Hkv, -1, c.hd), k.transpose(2, 3)) / math.sqrt(c.hd)
                out = torch.matmul(torch.softmax(s, -1), v).reshape(B, -1) @ p[q + "o"].t()
            elif kind == "-":
                out = F.relu(u @ p[q + "up"].t()).square() @ p[q + "down"].t()
            else:
                idx, w = route(u, p[q + "gate"], p[q + "bias"], c)
                dense = torch.zeros(B, c.E, device=w.device).scatter_(1, idx, w)
                hid = F.relu(torch.einsum("bd,emd->bem", u, p[q + "up_e"])).square() * dense[..., None]
                out = (torch.einsum("bem,edm->bd", hid, p[q + "down_e"])
                       + F.relu(u @ p[q + "up_s"].t()).square() @ p[q + "down_s"].t())
            h = h + out
        self.at += 1
        return norm(h, p["norm"]) @ p["head"].t()
