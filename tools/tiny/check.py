"""Checks a GGUF export: `check.py [--model FILE] [--dir DIR] [--templates templates.json]`.

1. keys and tensor shapes agree; 2. the logits of the file (weights as stored, read back) equal those of the training
checkpoint up to Q8_0 rounding, and the fused kernels equal the token-by-token decoder; 3. the tokenizer
round-trips; 4. the chat template renders the given reference cases (without tools) letter by letter.
"""
import argparse
import json
import os

os.environ.setdefault("OMP_NUM_THREADS", "2")

import torch

import export
import gguf
import model
import tasks


@torch.no_grad()
def recurrent(p, c, ids):
    dec = model.Decoder(p, c, 1, len(ids))
    return torch.cat([dec.step(ids[t:t + 1]) for t in range(len(ids))])


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
    model.BF16 = False
    with torch.no_grad():
        fast = model.forward(p, c, ids, model.Docs([len(ids)])) @ p["head"].t()
    print("kernels against decoder, %d tokens: largest difference %.2e" % (len(ids), (slow - fast).abs().max()))
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
