"""GGUF export of a training checkpoint, and the way back: `export.py --dir DIR --out FILE`."""
import argparse
import os

import numpy as np
import torch

import gguf
import model
import tokenizer
from gguf import ARRAY, BOOL, F32, I32, STRING, TYPE_F32, TYPE_Q8_0, U32

HERE = os.path.dirname(os.path.abspath(__file__))
ARCH = "nemotron_h_moe"


def metadata(c, tok):
    def per_block(values):
        return (I32, [values.get(kind, 0) for kind in c.pattern])

    kinds = [3] * len(tokenizer.SPECIALS)
    kinds[0] = 2
    for i in range(12, 18):  # thinking and tool marks are text for a reader, not control
        kinds[i] = 4
    kinds += [5 if t.startswith("<SPECIAL_") else 1 for t in tok.tokens[len(kinds):]]
    with open(os.path.join(HERE, "template.jinja")) as f:
        template = f.read().rstrip("\n")
    a = ARCH + "."
    return [
        ("general.architecture", STRING, ARCH), ("general.type", STRING, "model"),
        ("general.name", STRING, "nemo-tiny"), ("general.basename", STRING, "nemo-tiny"),
        ("general.description", STRING, "Trained from nothing by tools/tiny of the libnemo project"),
        ("general.quantization_version", U32, 2), ("general.file_type", U32, 7),
        ("general.alignment", U32, gguf.ALIGNMENT),
        (a + "block_count", U32, len(c.pattern)), (a + "context_length", U32, 4096),
        (a + "embedding_length", U32, c.d),
        (a + "feed_forward_length", ARRAY, per_block({"-": c.ff, "E": c.m})),
        (a + "attention.head_count", U32, c.Hq),
        (a + "attention.head_count_kv", ARRAY, per_block({"*": c.Hkv})),
        (a + "attention.key_length", U32, c.hd), (a + "attention.value_length", U32, c.hd),
        (a + "attention.layer_norm_rms_epsilon", F32, c.eps), (a + "attention.layer_norm_epsilon", F32, c.eps),
        (a + "rope.freq_base", F32, 10000.0), (a + "rope.dimension_count", U32, c.hd),
        (a + "rope.scaling.finetuned", BOOL, False),
        (a + "vocab_size", U32, c.vocab),
        (a + "ssm.conv_kernel", U32, c.K), (a + "ssm.state_size", U32, c.N), (a + "ssm.group_count", U32, c.G),
        (a + "ssm.inner_size", U32, c.I), (a + "ssm.time_step_rank", U32, c.H),
        (a + "expert_count", U32, c.E), (a + "expert_used_count", U32, c.k), (a + "expert_shared_count", U32, 1),
        (a + "expert_feed_forward_length", U32, c.m), (a + "expert_shared_feed_forward_length", U32, c.s),
        (a + "expert_weights_norm", BOOL, True), (a + "expert_weights_scale", F32, c.scale),
        (a + "expert_group_count", U32, 1), (a + "expert_group_used_count", U32, 1),
        ("tokenizer.ggml.model", STRING, "gpt2"), ("tokenizer.ggml.pre", STRING, "pixtral"),
        ("tokenizer.ggml.tokens", ARRAY, (STRING, tok.tokens)), ("tokenizer.ggml.token_type", ARRAY, (I32, kinds)),
        ("tokenizer.ggml.merges", ARRAY, (STRING, tok.merges)),
        ("tokenizer.ggml.bos_token_id", U32, 1), ("tokenizer.ggml.eos_token_id", U32, 11),
        ("tokenizer.ggml.unknown_token_id", U32, 0), ("tokenizer.ggml.padding_token_id", U32, 0),
        ("tokenizer.ggml.add_bos_token", BOOL, False), ("tokenizer.ggml.add_eos_token", BOOL, False),
        ("tokenizer.chat_template", STRING, template)]


# leaf of model.shapes -> name in the file
PLAIN = {"norm": "attn_norm.weight", "in": "ssm_in.weight", "conv_w": "ssm_conv1d.weight",
         "conv_b": "ssm_conv1d.bias", "dt_bias": "ssm_dt.bias", "A_log": "ssm_a", "D": "ssm_d",
         "gnorm": "ssm_norm.weight", "out": "ssm_out.weight", "o": "attn_output.weight", "up": "ffn_up.weight",
         "down": "ffn_down.weight", "gate": "ffn_gate_inp.weight", "bias": "exp_probs_b.bias",
         "up_e": "ffn_up_exps.weight", "down_e": "ffn_down_exps.weight", "up_s": "ffn_up_shexp.weight",
         "down_s": "ffn_down_shexp.weight"}
KEEP_F32 = {"norm", "conv_w", "conv_b", "dt_bias", "A_log", "D", "gnorm", "gate", "bias"}


def qkv_parts(c):
    q, kv = c.Hq * c.hd, c.Hkv * c.hd
    return (("attn_q.weight", 0, q), ("attn_k.weight", q, q + kv), ("attn_v.weight", q + kv, q + 2 * kv))


def tensors(p, c):
    out = [("token_embd.weight", p["embed"], TYPE_Q8_0), ("output_norm.weight", p["norm"], TYPE_F32),
           ("output.weight", p["head"], TYPE_Q8_0)]
    for name in p:
        if "." not in name:
            continue
        i, leaf = name.split(".")
        x = p[name]
        if leaf == "qkv":
            out += [("blk.%s.%s" % (i, n), x[a:b], TYPE_Q8_0) for n, a, b in qkv_parts(c)]
            continue
        if leaf == "A_log":
            x = -torch.exp(x)
        if leaf in ("A_log", "D"):
            x = x[:, None]
        if leaf == "gnorm":
            x = x.view(c.G, -1)
        out.append(("blk.%s.%s" % (i, PLAIN[leaf]), x, TYPE_F32 if leaf in KEEP_F32 else TYPE_Q8_0))
    return [(n, x.detach().numpy(), t) for n, x, t in out]


def read(path):
    """Parameters, config and tokenizer of an exported file (weights as dequantised)."""
    f = gguf.Reader(path)
    k = {key[len(ARCH) + 1:]: v for key, v in f.metadata.items() if key.startswith(ARCH + ".")}
    kv, ff = k["attention.head_count_kv"], k["feed_forward_length"]
    pattern = "".join("*" if kv[i] else "M" if not ff[i] else
                      "E" if "blk.%d.ffn_gate_inp.weight" % i in f.tensors else "-"
                      for i in range(k["block_count"] - k.get("nextn_predict_layers", 0)))
    inner, heads = k["ssm.inner_size"], k["ssm.time_step_rank"]
    c = model.Config(
        pattern=pattern, vocab=k["vocab_size"], d=k["embedding_length"], Hq=k["attention.head_count"], Hkv=max(kv),
        hd=k["attention.key_length"], H=heads, P=inner // heads, G=k["ssm.group_count"], N=k["ssm.state_size"],
        K=k["ssm.conv_kernel"], E=k["expert_count"], k=k["expert_used_count"], m=k["expert_feed_forward_length"],
        s=k["expert_shared_feed_forward_length"], ff=max([n for n, x in zip(ff, pattern) if x == "-"] or [0]),
        scale=k["expert_weights_scale"], eps=k["attention.layer_norm_rms_epsilon"])
    t = f.tensors
    p = {}
    for name, shape in list(model.shapes(c).items()) + [("%d.bias" % i, (c.E,)) for i, x in enumerate(pattern)
                                                        if x == "E"]:
        if "." not in name:
            x = t[{"embed": "token_embd.weight", "norm": "output_norm.weight", "head": "output.weight"}[name]]
        else:
            i, leaf = name.split(".")
            if leaf == "qkv":
                x = np.concatenate([t["blk.%s.%s" % (i, n)] for n, _, _ in qkv_parts(c)])
            else:
                x = t["blk.%s.%s" % (i, PLAIN[leaf])]
            if leaf == "A_log":
                x = np.log(-x)
        p[name] = torch.from_numpy(np.ascontiguousarray(x.reshape(shape)))
    return p, c, tokenizer.Tokenizer(f.metadata["tokenizer.ggml.tokens"], f.metadata["tokenizer.ggml.merges"])


def write(path, run, part="ema"):
    """Replaces the file in one move."""
    c = model.Config(**run["config"])
    gguf.write(path + ".tmp", metadata(c, tokenizer.Tokenizer(*run["tokenizer"])), tensors(run[part], c))
    os.replace(path + ".tmp", path)


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--dir", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--raw", action="store_true", help="the newest weights instead of their running average")
    a = ap.parse_args()
    run = torch.load(os.path.join(a.dir, "checkpoint.pt"))
    write(a.out, run, "params" if a.raw else "ema")
    print("%s: %d bytes, %d tokens trained" % (a.out, os.path.getsize(a.out), run["tokens"]))


if __name__ == "__main__":
    main()
