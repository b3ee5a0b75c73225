"""Checks a GGUF export and the training code: `check.py [--model FILE] [--dir DIR] [--templates FILE] [--device cuda]`.

1. keys and tensor shapes agree; 2. the logits of the file (weights as stored, read back) equal those of the training
checkpoint up to Q8_0 rounding; 3. the fused kernels and the parallel form equal the token-by-token decoder, and their
gradients one another (with --device cuda: those of the parallel form there and on the CPU); 4. the tokenizer
round-trips; 5. the chat template renders the given reference cases (without tools) letter by letter.
"""
import argparse
import json
import os

os.environ.setdefault("OMP_NUM_THREADS", "2")

import torch
import torch.nn.functional as F

import export
import feed
import gguf
import model
import parallel
import tasks


@torch.no_grad()
def recurrent(p, c, ids):
    dec = model.Decoder(p, c, 1, len(ids))
    return torch.cat([dec.step(ids[t:t + 1]) for t in range(len(ids))])


def by_kernels(p, c, ids):
    """Trunk output of padded rows by the CPU kernels, zeros at padding."""
    real = ids != parallel.PAD
    x = model.forward(p, c, ids[real], model.Docs(real.sum(1)))
    return torch.zeros(*ids.shape, c.d).masked_scatter(real[..., None], x)


def by_parallel(p, c, ids):
    return parallel.forward(p, c, ids)


def gradients(form, p, c, groups, device):
    """Loss and gradients at fresh weights, where no gradient is near zero."""
    p = {n: t.detach().to(device) for n, t in p.items()}
    names = list(model.shapes(c))
    for n in names:
        p[n].requires_grad_(True)
    loss = 0
    for group in groups:
        ids, rows, goals = (torch.from_numpy(x).long().to(device) for x in group)
        x = form(p, c, ids).flatten(0, 1)[rows]
        loss = loss + F.cross_entropy(x @ p["head"].t(), goals)
    loss.backward()
    return loss.item(), {n: p[n].grad.cpu() for n in names}


def check_forms(p, c, tok, ids, slow, device):
    """The forms that train against the decoder's logits `slow` for `ids`, and their gradients."""
    model.BF16 = False
    torch.set_float32_matmul_precision("high")
    chunks, each = parallel.padded(len(ids))
    row = F.pad(ids, (0, chunks * each - len(ids)))[None]
    tight = device == "cpu"  # the GPU multiplies in TF32 and attends in bf16
    forms = {"kernels": by_kernels} if tight else {}
    forms["parallel form"] = by_parallel
    for name, form in forms.items():
        with torch.no_grad():
            x = form({n: t.to(device) for n, t in p.items()}, c, row.to(device))[0, :len(ids)].cpu()
        fast = x @ p["head"].t()
        kl = (slow.log_softmax(1).exp() * (slow.log_softmax(1) - fast.log_softmax(1))).sum(1).mean()
        print("%s on %s against decoder, %d tokens: mean KL %.1e, largest difference %.1e" % (
            name, device, len(ids), kl, (slow - fast).abs().max()), flush=True)
        assert kl < (1e-6 if tight else 1e-2)
    groups, _ = feed.pool(tok, tasks.training_rng(0, 1), 1500, 1.0, tasks.DEFAULT_MIX)
    fresh = model.init(c, 0)
    want = gradients(by_kernels if tight else by_parallel, fresh, c, groups, "cpu")
    got = gradients(by_parallel, fresh, c, groups, device)
    worst, name = max(((got[1][n] - g).norm() / g.norm(), n) for n, g in want[1].items())
    print("gradients: loss %.5f and %.5f, largest relative difference %.1e in %s" % (want[0], got[0], worst, name),
          flush=True)
    assert worst < (1e-3 if tight else 0.25)  # rounding also sends a few tokens to other experts


def check_template(source, path):
    import jinja2
    env = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    env.filters["items"] = lambda d: d.items()
    env.filters["tojson"] = lambda x: json.dumps(x, ensure_ascii=False)
    template = env.from_string(source)
    good = skipped = 0
    for case in json.load(open(path)):
        if "nano.jinja" not in case["template"] or case.get("tools") or "expected" not in case:
            skipped += 1
            continue
        got = template.render(messages=case["messages"], **case["kwargs"])
        if got != case["expected"]:
            print("template differs on %s:\n  got  %r\n  want %r" % (case["id"], got, case["expected"]))
        else:
            good += 1
    print("template: %d cases equal, %d of other models or with tools skipped" % (good, skipped))


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--model", default=os.path.join(export.HERE, "..", "..", "models", "nemo-tiny.gguf"))
    ap.add_argument("--dir", help="training directory to compare with")
    ap.add_argument("--templates", help="reference renderings (JSON)")
    ap.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    a = ap.parse_args()
    p, c, tok = export.read(a.model)
    names = model.shapes(c)
    print("%s: %s, %d parameters, %d bytes" % (a.model, c.pattern, sum(p[n].numel() for n in names),
                                               os.path.getsize(a.model)))
    assert all(tuple(p[n].shape) == tuple(s) for n, s in names.items())
    rng = tasks.evaluation_rng("check")
    text = "".join(s for s, _ in tasks.document(rng, 0.5)) + "\u00e9\u4f60 1234 it's  \n\n x"
    ids = tok.encode(text)
    assert tok.decode(ids) == text, "tokenizer does not round-trip"
    assert not any(sum(ch.isdigit() for ch in t) > 1 for t in tok.tokens[18:] if not t.startswith("<SPECIAL_"))
    ids = torch.tensor(ids)
    slow = recurrent(p, c, ids)
    check_forms(p, c, tok, ids, slow, a.device)
    if a.dir:
        run = torch.load(os.path.join(a.dir, "checkpoint.pt"))
        ref = recurrent({n: t.detach() for n, t in run["ema"].items()}, c, ids)
        kl = (ref.log_softmax(1).exp() * (ref.log_softmax(1) - slow.log_softmax(1))).sum(1)
        print("file against checkpoint: mean KL %.2e, same argmax %.4f" % (
            kl.mean(), (ref.argmax(1) == slow.argmax(1)).float().mean()))
    if a.templates:
        check_template(gguf.Reader(a.model).metadata["tokenizer.chat_template"], a.templates)


if __name__ == "__main__":
    main()
