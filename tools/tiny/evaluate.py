"""Accuracy of an exported model on fresh cases: `evaluate.py --model FILE [--cases N] [--task NAME]`."""
import argparse
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

import torch

import export
import model
import tasks
from tokenizer import END_THINK, IM_END

LIMIT = {"arithmetic": 180, "recall": 60, "hashhop": 60, "hashhop3": 80, "hashhop4": 100, "format": 90, "facts": 120}


@torch.no_grad()
def generate(p, c, prompts, limit):
    """Greedy continuations. Prompts of any length run side by side: a row starts to generate when its own ends."""
    dec = model.Decoder(p, c, len(prompts), max(map(len, prompts)) + limit)
    out = [[] for _ in prompts]
    done = [False] * len(prompts)
    rows = list(range(len(prompts)))  # prompt of each row of the decoder
    device = p["embed"].device
    token = torch.tensor([q[0] for q in prompts], device=device)
    t = 0
    while not all(done):
        pick = dec.step(token).argmax(1).tolist()
        t += 1
        following = []
        for j, i in enumerate(rows):
            if t < len(prompts[i]):
                following.append(prompts[i][t])
                continue
            following.append(pick[j])
            if not done[i]:
                out[i].append(pick[j])
                done[i] = pick[j] == IM_END or len(out[i]) >= limit
        left = [j for j, i in enumerate(rows) if not done[i]]
        if len(left) < 0.6 * len(rows):  # moving caches costs more than a few idle rows
            dec.keep(left)
            rows, following = [rows[j] for j in left], [following[j] for j in left]
        token = torch.tensor(following, device=device)
    return out


def content_of(tok, ids, thinking):
    if thinking:
        ids = ids[ids.index(END_THINK) + 1:] if END_THINK in ids else []
    return tok.decode([i for i in ids if i != IM_END]).strip()


def measure(p, c, tok, task, cases, seed, thinking, length=None, together=50):
    """(right, wrong samples)"""
    rng = tasks.evaluation_rng("%s %s %s" % (seed, task, length))
    turns = [tasks.evaluation_turn(task, rng, length) for _ in range(cases)]
    right, wrong = 0, []
    turns.sort(key=lambda t: len(t.user))
    for at in range(0, cases, together):
        part = turns[at:at + together]
        outs = generate(p, c, [tok.encode(tasks.prompt_of(t, thinking)) for t in part], LIMIT[task])
        for t, ids in zip(part, outs):
            content = content_of(tok, ids, thinking)
            if tasks.judge(t.rule if not thinking else "exact", content, t.answer if thinking else t.plain):
                right += 1
            else:
                wrong.append((t.user, tok.decode(ids), t.answer))
    return right, wrong


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--model", default=os.path.join(export.HERE, "..", "..", "models", "nemo-tiny.gguf"))
    ap.add_argument("--cases", type=int, default=100)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--task", action="append")
    ap.add_argument("--length", type=int, help="recall: tokens of text in every case (default: 20 to 1000)")
    ap.add_argument("--device", default="cpu", help="cpu or cuda")
    ap.add_argument("--together", type=int, default=50, help="cases side by side")
    ap.add_argument("--show", type=int, default=0, help="print this many failures per task")
    a = ap.parse_args()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    p, c, tok = export.read(a.model)
    p = {n: t.to(a.device) for n, t in p.items()}
    for task in a.task or list(LIMIT):
        for thinking in (True, False):
            start = time.time()
            right, wrong = measure(p, c, tok, task, a.cases, a.seed, thinking, a.length, a.together)
            print("%-10s thinking %-3s %5.1f %%  (%d of %d, %.0f s)" % (
                task, "on" if thinking else "off", 100 * right / a.cases, right, a.cases, time.time() - start), flush=True)
            for user, got, want in wrong[:a.show]:
                print("   user: %r\n   got:  %r\n   want: %r" % (user[-200:], got, want))


if __name__ == "__main__":
    main()
