"""Reading and writing GGUF version 3: the value types and the tensor types (F32, F16, Q8_0) that nemo-tiny uses."""
import struct

import numpy as np

U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
TYPE_F32, TYPE_F16, TYPE_Q8_0 = 0, 1, 8
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
ALIGNMENT = 32


def quantize_q8_0(x):
    """Blocks of 32: an fp16 scale d = max|x| / 127, then 32 signed bytes round(x / d)."""
    b = np.ascontiguousarray(x, np.float32).reshape(-1, 32)
    d = np.abs(b).max(1) / 127
    inverse = np.divide(1, d, out=np.zeros_like(d), where=d > 0)
    q = np.sign(b) * np.floor(np.abs(b * inverse[:, None]) + 0.5)
    out = np.empty((len(b), 34), np.uint8)
    out[:, :2] = d.astype("<f2").view(np.uint8).reshape(-1, 2)
    out[:, 2:] = q.astype(np.int8).view(np.uint8)
    return out.tobytes()


def dequantize_q8_0(raw, shape):
    b = np.frombuffer(raw, np.uint8).reshape(-1, 34)
    d = b[:, :2].copy().view("<f2").astype(np.float32)
    return (b[:, 2:].view(np.int8).astype(np.float32) * d).reshape(shape)


def encode(x, kind):
    if kind == TYPE_Q8_0:
        return quantize_q8_0(x)
    return x.astype("<f4" if kind == TYPE_F32 else "<f2").tobytes()


class Stored:
    """A tensor's bytes as they are in a file."""

    def __init__(self, raw, shape):
        self.raw, self.shape, self.ndim = raw, shape, len(shape)


def text(s):
    b = s.encode()
    return struct.pack("<Q", len(b)) + b


def value(kind, v):
    if kind == STRING:
        return text(v)
    if kind == ARRAY:
        item, values = v
        return struct.pack("<IQ", item, len(values)) + b"".join(value(item, x) for x in values)
    return struct.pack("<" + SCALARS[kind], v)


def write(path, metadata, tensors):
    """metadata: [(key, type, value)], arrays as (item type, list). tensors: [(name, numpy array or Stored, type)];
    the array's last axis is the file's first dimension."""
    head, blobs, offset = bytearray(), [], 0
    head += b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    for key, kind, v in metadata:
        head += text(key) + struct.pack("<I", kind) + value(kind, v)
    for name, x, kind in tensors:
        raw = x.raw if isinstance(x, Stored) else encode(x, kind)
        head += text(name) + struct.pack("<I", x.ndim)
        head += b"".join(struct.pack("<Q", n) for n in reversed(x.shape)) + struct.pack("<IQ", kind, offset)
        blobs.append(raw + bytes(-len(raw) % ALIGNMENT))
        offset += len(blobs[-1])
    with open(path, "wb") as f:
        f.write(head + bytes(-len(head) % ALIGNMENT))
        for raw in blobs:
            f.write(raw)


class Reader:
    def __init__(self, path):
        with open(path, "rb") as f:
            self.data = f.read()
        self.at = 0
        if self.take(4) != b"GGUF" or self.number("I") != 3:
            raise ValueError("%s is not a GGUF 3 file" % path)
        tensors, keys = self.number("Q"), self.number("Q")
        self.metadata, self.items = {}, []  # items: as write() takes them
        for _ in range(keys):
            key, kind = self.string(), self.number("I")
            value = self.value(kind)
            self.items.append((key, kind, value))
            self.metadata[key] = value[1] if kind == ARRAY else value
        infos = []
        for _ in range(tensors):
            name = self.string()
            dims = [self.number("Q") for _ in range(self.number("I"))]
            infos.append((name, dims[::-1], self.number("I"), self.number("Q")))
        align = self.metadata.get("general.alignment", ALIGNMENT)
        base = -(-self.at // align) * align
        self.tensors, self.types, self.stored = {}, {}, {}
        for name, shape, kind, offset in infos:
            n = int(np.prod(shape))
            size = {TYPE_F32: 4 * n, TYPE_F16: 2 * n, TYPE_Q8_0: n // 32 * 34}[kind]
            raw = self.data[base + offset:base + offset + size]
            if len(raw) != size:
                raise ValueError("tensor %s ends past the file" % name)
            if kind == TYPE_Q8_0:
                x = dequantize_q8_0(raw, shape)
            else:
                x = np.frombuffer(raw, "<f4" if kind == TYPE_F32 else "<f2").astype(np.float32).reshape(shape)
            self.tensors[name], self.types[name], self.stored[name] = x, kind, Stored(raw, shape)

    def take(self, n):
        self.at += n
        return self.data[self.at - n:self.at]

    def number(self, code):
        return struct.unpack("<" + code, self.take(struct.calcsize(code)))[0]

    def string(self):
        return self.take(self.number("Q")).decode()

    def value(self, kind):
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            item, n = self.number("I"), self.number("Q")
            return item, [self.value(item) for _ in range(n)]
        return self.number(SCALARS[kind])
