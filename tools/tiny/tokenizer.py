"""Byte-level BPE for nemo-tiny: training, encoding and decoding (GPT-2 alphabet, Llama-3 pre-tokens)."""
import collections
import json

import regex  # Debian: python3-regex

PATTERN = regex.compile(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+")

# Ids 0..17 are those of the real Nemotron vocabulary.
SPECIALS = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "<SPECIAL_5>", "<SPECIAL_6>", "<SPECIAL_7>",
            "<SPECIAL_8>", "<SPECIAL_9>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>",
            "</tool_call>", "<tool_response>", "</tool_response>"]
IM_START, IM_END, THINK, END_THINK = 10, 11, 12, 13


def byte_alphabet():
    """GPT-2's byte -> printable character table."""
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    table, extra = {}, 0
    for b in range(256):
        if b in keep:
            table[b] = chr(b)
        else:
            table[b] = chr(256 + extra)
            extra += 1
    return table


BYTE_TO_CHAR = byte_alphabet()
CHAR_TO_BYTE = {c: b for b, c in BYTE_TO_CHAR.items()}


def to_alphabet(text):
    return "".join(BYTE_TO_CHAR[b] for b in text.encode("utf-8"))


class Tokenizer:
    def __init__(self, tokens, merges):
        self.tokens = tokens
        self.merges = merges
        self.ids = {t: i for i, t in enumerate(tokens)}
        self.rank = {tuple(m.split(" ")): i for i, m in enumerate(merges)}
        self.special = regex.compile("|".join(regex.escape(s) for s in SPECIALS))
        self.cache = {}

    def bpe(self, piece):
        parts = list(piece)
        while len(parts) > 1:
            best = min(range(len(parts) - 1), key=lambda i: self.rank.get((parts[i], parts[i + 1]), 1 << 30))
            pair = (parts[best], parts[best + 1])
            if pair not in self.rank:
                break
            merged, i = [], 0
            while i < len(parts):
                if i + 1 < len(parts) and (parts[i], parts[i + 1]) == pair:
                    merged.append(parts[i] + parts[i + 1])
                    i += 2
                else:
                    merged.append(parts[i])
                    i += 1
            parts = merged
        return [self.ids[p] for p in parts]

    def encode_plain(self, text):
        out = []
        for piece in PATTERN.findall(text):
            ids = self.cache.get(piece)
            if ids is None:
                key = to_alphabet(piece)
                ids = [self.ids[key]] if key in self.ids else self.bpe(key)
                if len(self.cache) < 200000:
                    self.cache[piece] = ids
            out.extend(ids)
        return out

    def encode(self, text):
        out, at = [], 0
        for m in self.special.finditer(text):
            out.extend(self.encode_plain(text[at:m.start()]))
            out.append(self.ids[m.group()])
            at = m.end()
        out.extend(self.encode_plain(text[at:]))
        return out

    def decode(self, ids):
        out = bytearray()
        for i in ids:
            t = self.tokens[i]
            out += t.encode() if i < len(SPECIALS) else bytes(CHAR_TO_BYTE[c] for c in t)
        return out.decode("utf-8", "replace")

    def save(self, path):
        with open(path, "w") as f:
            json.dump({"tokens": self.tokens, "merges": self.merges}, f, ensure_ascii=False)

    @staticmethod
    def load(path):
        with open(path) as f:
            d = json.load(f)
        return Tokenizer(d["tokens"], d["merges"])


def train(texts, keep_whole, size):
    """Merges in two stages: first inside words, then (space, word). So a word with and without its leading
    space share one spelling, and digits and punctuation never merge with letters or with one another."""
    bare, spaced, punct = collections.Counter(), collections.Counter(), collections.Counter()
    special = regex.compile("|".join(regex.escape(s) for s in SPECIALS))
    for text in texts:
        for chunk in special.split(text):
            for piece in PATTERN.findall(chunk):
                word = piece[1:] if not piece[0].isalpha() else piece
                if word.isalpha():
                    bare[word] += 1
                    if piece[0] == " ":
                        spaced[word] += 1
                elif not any(c.isdigit() for c in piece):
                    punct[piece] += 1
    for w in keep_whole:
        bare[w] += 100000
        spaced[w] += 1
    tokens = list(SPECIALS) + [BYTE_TO_CHAR[b] for b in range(256)]
    known = set(tokens)
    merges = []

    def add(a, b):
        merges.append(a + " " + b)
        if a + b not in known:
            known.add(a + b)
            tokens.append(a + b)

    words = {w: [list(to_alphabet(w)), c] for w, c in bare.items() if c >= 3}
    puncts = {p: [list(to_alphabet(p)), c] for p, c in punct.items() if c >= 50}

    def grow(table, limit, floor):
        while len(tokens) < limit:
            pairs = collections.Counter()
            for parts, c in table.values():
                for a, b in zip(parts, parts[1:]):
                    pairs[a, b] += c
            if not pairs:
                return
            # ties by spelling: the result never depends on dictionary order
            (a, b), c = min(pairs.items(), key=lambda kv: (-kv[1], kv[0]))
            if c < floor:
                return
            add(a, b)
            for item in table.values():
                parts, out, i = item[0], [], 0
                while i < len(parts):
                    if i + 1 < len(parts) and parts[i] == a and parts[i + 1] == b:
                        out.append(a + b)
                        i += 2
                    else:
                        out.append(parts[i])
                        i += 1
                item[0] = out

    grow(puncts, len(tokens) + 40, 50)
    singles = sum(1 for w in spaced)
    grow(words, size - min(singles, int(size * 0.36)), 3)
    space = BYTE_TO_CHAR[32]
    firsts = collections.Counter()
    for w, c in spaced.items():
        parts = words[w][0] if w in words else list(to_alphabet(w))
        firsts[parts[0]] += c + (100000 if w in keep_whole else 0)
    for part, _ in sorted(firsts.items(), key=lambda kv: (-kv[1], kv[0])):
        if len(tokens) >= size:
            break
        add(space, part)
    while len(tokens) < size:
        tokens.append("<SPECIAL_%d>" % len(tokens))
    return Tokenizer(tokens, merges)
