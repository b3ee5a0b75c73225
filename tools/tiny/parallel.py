"""nemo-tiny in plain PyTorch, for a GPU: rows of conversations padded at their ends, all tokens at once.

Nothing looks ahead, so padding needs no mask. The Mamba-2 scan goes by chunks of Q tokens: with c = cumsum(dt A) in one,

    y_i = sum_{j<=i} exp(c_i - c_j) (C_i . B_j) dt_j x_j  +  exp(c_i) C_i . S,    S: the state before the chunk.
"""
import math

import torch
import torch.nn.functional as F

from model import route

PAD = 0       # <unk>, which no conversation holds
CHUNK = 64    # longest Q: Q x Q decays per head against states of 64 x 32
TILE = 8      # Q is a multiple of this, for the tensor cores


def padded(length):
    """(chunks, tokens per chunk) that hold `length` tokens."""
    chunks = -(-length // CHUNK)
    return chunks, -(-length // (chunks * TILE)) * TILE


def rmsnorm(x, w, eps):
    if x.is_cuda:
        return F.rms_norm(x, x.shape[-1:], w, eps)  # one kernel; newer PyTorch only
    y = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)
    return y if w is None else y * w


class Conv(torch.autograd.Function):
    """Causal convolution of each channel: y_t = b + sum_k w_k x_{t-K+1+k}, for x [B, L, C], w [C, K]."""

    @staticmethod
    def forward(ctx, x, w, b):
        K, L = w.shape[1], x.shape[1]
        x = F.pad(x, (0, 0, K - 1, 0))
        ctx.save_for_backward(x, w)
        y = torch.addcmul(b, x[:, :L], w[:, 0])
        for k in range(1, K):
            y.addcmul_(x[:, k:k + L], w[:, k])
        return y

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        K, L = w.shape[1], g.shape[1]
        late = F.pad(g, (0, 0, 0, K - 1))
        dx = g * w[:, K - 1]
        for k in range(K - 1):
            dx.addcmul_(late[:, K - 1 - k:K - 1 - k + L], w[:, k])
        dw = torch.stack([(x[:, k:k + L] * g).sum((0, 1)) for k in range(K)], 1)
        return dx, dw, g.sum((0, 1))


def scan(x, dt, A, B, C, chunks):
    """x [b, L, H, P], dt [b, L, H], A [H], B and C [b, L, G, N] -> y [b, L, H, P]."""
    b, L, H, P = x.shape
    G, N = B.shape[2:]
    Q, each = L // chunks, H // G
    c = (dt * A).reshape(b, chunks, Q, H).permute(0, 1, 3, 2).cumsum(3)              # [b, n, H, Q]
    x = (x * dt[..., None]).reshape(b, chunks, Q, H, P).permute(0, 1, 3, 2, 4)        # [b, n, H, Q, P]
    B = B.reshape(b, chunks, Q, G, N).permute(0, 1, 3, 2, 4)                          # [b, n, G, Q, N]
    C = C.reshape(b, chunks, Q, G, N).permute(0, 1, 3, 2, 4)
    later = torch.ones(Q, Q, dtype=torch.bool, device=x.device).triu(1)
    decay = (c[..., :, None] - c[..., None, :]).masked_fill(later, -math.inf).exp()
    score = torch.matmul(C, B.transpose(3, 4))                                     # [b, n, G, Q, Q]
    m = decay.reshape(b, chunks, G, each, Q, Q) * score[:, :, :, None]
    y = torch.matmul(m.reshape(b, chunks, H, Q, Q), x)
    if chunks > 1:
        last = c[..., -1:]
        own = (x * (last - c).exp()[..., None]).reshape(b, chunks, G, each, Q, P)  # what each token leaves behind
        own = own.permute(0, 1, 2, 4, 3, 5).reshape(b, chunks, G, Q, each * P)
        own = torch.matmul(B.transpose(3, 4), own)                                 # [b, n, G, N, each P]
        own = own.reshape(b, chunks, G, N, each, P).permute(0, 2, 4, 1, 3, 5).reshape(b, H, chunks, N * P)
        total = last[..., 0].permute(0, 2, 1).cumsum(2)                            # [b, H, n]
        before = F.pad(total, (1, 0))[..., :-1]
        never = torch.ones(chunks, chunks, dtype=torch.bool, device=x.device).triu()
        carry = (before[..., :, None] - total[..., None, :]).masked_fill(never, -math.inf).exp()
        S = torch.matmul(carry, own).reshape(b, G, each, chunks, N, P).permute(0, 3, 1, 4, 2, 5)
        far = torch.matmul(C, S.reshape(b, chunks, G, N, each * P)).reshape(b, chunks, G, Q, each, P)
        y = y + far.permute(0, 1, 2, 4, 3, 5).reshape(b, chunks, H, Q, P) * c.exp()[..., None]
    return y.permute(0, 1, 3, 2, 4).reshape(b, L, H, P)


def mamba(p, q, c, u, chunks):
    b, L, _ = u.shape
    z, xbc, dt = (u @ p[q + "in"].t()).split([c.I, c.C, c.H], 2)
    x, B, C = F.silu(Conv.apply(xbc, p[q + "conv_w"], p[q + "conv_b"])).split([c.I, c.G * c.N, c.G * c.N], 2)
    x = x.reshape(b, L, c.H, c.P)
    y = scan(x, F.softplus(dt + p[q + "dt_bias"]), -torch.exp(p[q + "A_log"]), B.reshape(b, L, c.G, c.N),
             C.reshape(b, L, c.G, c.N), chunks)
    y = torch.addcmul(y, x, p[q + "D"][:, None]).reshape(b, L, c.I) * F.silu(z)
    y = rmsnorm(y.reshape(b, L, c.G, -1), None, c.eps).reshape(b, L, c.I) * p[q + "gnorm"]
    return y @ p[q + "out"].t()


def heads(c, qkv):
    """[b, L, (Hq + 2 Hkv) hd] -> q [b, Hq, L, hd], k and v [b, Hkv, L, hd]."""
    x = qkv.reshape(*qkv.shape[:2], -1, c.hd).transpose(1, 2)
    return x.split([c.Hq, c.Hkv, c.Hkv], 1)


def attention(p, q, c, u):
    b, L, _ = u.shape
    Q, K, V = heads(c, u @ p[q + "qkv"].t())
    K, V = (t.repeat_interleave(c.Hq // c.Hkv, 1) for t in (K, V))
    if u.is_cuda:  # flash attention takes 16-bit numbers only; its sums are fp32
        y = F.scaled_dot_product_attention(Q.bfloat16(), K.bfloat16(), V.bfloat16(), is_causal=True).float()
    else:
        later = torch.ones(L, L, dtype=torch.bool).triu(1)
        s = torch.matmul(Q, K.transpose(2, 3)) / math.sqrt(c.hd)
        y = torch.matmul(s.masked_fill(later, -math.inf).softmax(3), V)
    return y.transpose(1, 2).reshape(b, L, -1) @ p[q + "o"].t()


def relu2(x):
    return x.relu().square()


def moe(p, q, c, u, real):
    """All experts for every token, most of them times 0; the second result counts the real tokens of each."""
    idx, w = route(u.flatten(0, -2), p[q + "gate"], p[q + "bias"], c)
    dense = torch.zeros(len(w), c.E, device=u.device).scatter(1, idx, w)
    with torch.no_grad():
        load = ((dense > 0) & real.reshape(-1, 1)).sum(0)
    hidden = relu2(u @ p[q + "up_e"].flatten(0, 1).t()).reshape(-1, c.E, c.m) * dense[..., None]
    down = p[q + "down_e"].transpose(1, 2).reshape(c.E * c.m, c.d)
    return (hidden.reshape(*u.shape[:-1], -1) @ down + relu2(u @ p[q + "up_s"].t()) @ p[q + "down_s"].t()), load


def forward(p, c, tokens, loads=None):
    """Normalised trunk output [b, L, d] of tokens [b, L]; L = chunks times tokens per chunk, as padded() says."""
    h, real, chunks = F.embedding(tokens, p["embed"]), tokens != PAD, -(-tokens.shape[1] // CHUNK)
    for i, kind in enumerate(c.pattern):
        q = "%d." % i
        u = rmsnorm(h, p[q + "norm"], c.eps)
        if kind == "M":
            out = mamba(p, q, c, u, chunks)
        elif kind == "*":
            out = attention(p, q, c, u)
        elif kind == "-":
            out = relu2(u @ p[q + "up"].t()) @ p[q + "down"].t()
        else:
            out, load = moe(p, q, c, u, real)
            if loads is not None:
                loads[q + "bias"] = loads.get(q + "bias", 0) + load
        h = h + out
    return rmsnorm(h, p["norm"], c.eps)
