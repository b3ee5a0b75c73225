"""Conversations as numbers: flat batches for the CPU kernels, padded ones, made ahead by other processes, for a GPU."""
import ctypes
import multiprocessing as mp
import signal

import numpy as np
import torch

import parallel
import tasks

GROUP = 24576  # padded tokens of one forward and backward pass: enough to hide launches, few enough to pad little


def conversation(tok, rng, progress, mix):
    """Ids of one conversation and, for each, whether it is the assistant's."""
    ids, supervised = [], []
    for text, on in tasks.document(rng, progress, mix):
        piece = tok.encode(text)
        ids += piece
        supervised += [on] * len(piece)
    return ids, supervised


def flat(tok, rng, budget, progress, mix):
    """Flat tokens, targets and weights of about `budget` tokens, and the conversations' lengths."""
    ids, target, weight, lengths, total = [], [], [], [], 0
    while total < budget:
        doc, supervised = conversation(tok, rng, progress, mix)
        ids += doc[:-1]
        target += doc[1:]
        weight += supervised[1:]
        lengths.append(len(doc) - 1)
        total += len(doc) - 1
    return torch.tensor(ids), torch.tensor(target), torch.tensor(weight, dtype=torch.float32), lengths


def pool(tok, rng, budget, progress, mix):
    """One step's groups [(ids [b, L], rows [n], goals [n])] of about `budget` tokens in all: rows of the flattened ids
    predict the assistant's tokens `goals`. Conversations of like length share a group. Also the number of tokens."""
    docs, total = [], 0
    while total < budget:
        docs.append(conversation(tok, rng, progress, mix))
        total += len(docs[-1][0]) - 1
    docs.sort(key=lambda d: -len(d[0]))
    groups = []
    while docs:
        chunks, each = parallel.padded(len(docs[0][0]) - 1)
        L = chunks * each
        count = max(1, GROUP // L)
        part, docs = docs[:count], docs[count:]
        ids = np.full((len(part), L), parallel.PAD, np.int32)
        rows, goals = [], []
        for i, (doc, supervised) in enumerate(part):
            ids[i, :len(doc) - 1] = doc[:-1]
            at = np.flatnonzero(supervised[1:])
            rows.append(i * L + at)
            goals.append(np.asarray(doc, np.int32)[at + 1])
        groups.append((ids, np.concatenate(rows).astype(np.int32), np.concatenate(goals)))
    return groups, total


def produce(pipe, tok, seed, step, stride, budget, progress, mix):
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # end with the parent
    while True:
        pipe.send(pool(tok, tasks.training_rng(seed, step), budget, progress(step), mix))
        step += stride


class Feed:
    """Pools of steps `step`, `step` + 1, ... on `device`; the same ones for any number of workers."""

    def __init__(self, tok, seed, step, budget, progress, mix, workers, device):
        self.device, self.turn, self.pipes = device, 0, []
        context = mp.get_context("fork")
        for w in range(workers):
            mine, theirs = context.Pipe(False)
            context.Process(target=produce, daemon=True,
                            args=(theirs, tok, seed, step + w, workers, budget, progress, mix)).start()
            theirs.close()
            self.pipes.append(mine)

    def next(self):
        groups, total = self.pipes[self.turn].recv()
        self.turn = (self.turn + 1) % len(self.pipes)
        numbers = torch.from_numpy(np.concatenate([x.reshape(-1) for g in groups for x in g]))
        parts = numbers.to(self.device).long().split([x.size for g in groups for x in g])
        shaped = [parts[3 * i].view(g[0].shape) for i, g in enumerate(groups)]
        return list(zip(shaped, parts[1::3], parts[2::3])), total
