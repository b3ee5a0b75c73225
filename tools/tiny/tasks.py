"""Task generators: every question nemo-tiny is trained on, with its working, its answer and its checking rule."""
import random
import re
from dataclasses import dataclass

from facts import FACTS, UNKNOWN, UNKNOWN_ANSWER, UNKNOWN_THOUGHT
from words import ADJECTIVES, LETTERS, NAMES, NOUNS, PLACES, SYSTEMS, sentence

OPS = "+-*"


@dataclass
class Turn:
    task: str
    user: str
    think: str      # working shown when thinking is on
    answer: str     # content after the working
    plain: str      # content when thinking is off
    rule: str       # how a content is judged: exact, last_number, last_word


def judge(rule, content, expected):
    """The same three rules as nemo::eval: exact text, last integer, last word."""
    if rule == "exact":
        return content.strip() == expected.strip()
    pattern = r"-?\d+" if rule == "last_number" else r"[A-Za-z]+"
    a, b = re.findall(pattern, content), re.findall(pattern, expected)
    return bool(a) and a[-1] == b[-1]


# ---- arithmetic ---------------------------------------------------------------------------------------
def held_out(op, a, b):
    """One operand pair in ten is never trained on; evaluation uses only these."""
    x = ((a * 100 + b) * 3 + OPS.index(op)) * 2654435761 & 0xFFFFFFFF
    x ^= x >> 15
    x = x * 2246822519 & 0xFFFFFFFF
    x ^= x >> 13
    return x % 10 == 0


def columns(a, b, width):
    """Column sums of two zero-padded numbers, ones first; returns lines and the result padded by one digit."""
    lines, carry, digits = [], 0, ""
    for i in range(width):
        x, y = a // 10 ** i % 10, b // 10 ** i % 10
        s = x + y + carry
        lines.append("%d+%d+%d=%02d" % (x, y, carry, s))
        carry, digits = s // 10, str(s % 10) + digits
    return lines, str(carry) + digits


def working(op, a, b):
    if op == "+":
        lines, total = columns(a, b, 2)
        return ["%02d+%02d" % (a, b)] + lines + [total]
    if op == "-":
        if a < b:
            return ["-(%02d-%02d)" % (b, a)] + working("-", b, a)[1:]
        borrow = 1 if a % 10 < b % 10 else 0
        ones = a % 10 + 10 * borrow - b % 10
        tens = a // 10 - b // 10 - borrow
        return ["%02d-%02d" % (a, b), "%d%d-%d=%d" % (borrow, a % 10, b % 10, ones),
                "%d-%d-%d=%d" % (a // 10, b // 10, borrow, tens), "%d%d" % (tens, ones)]
    lines, rows = ["%02d*%02d" % (a, b)], []
    for y in (b % 10, b // 10):
        low, high = y * (a % 10), y * (a // 10)
        lines.append("%d*%d=%02d" % (y, a % 10, low))
        lines.append("%d*%d=%02d+%d=%02d" % (y, a // 10, high, low // 10, high + low // 10))
        lines.append("%02d*%d=%03d" % (a, y, a * y))
        rows.append(a * y)
    lines.append("%04d+%04d" % (rows[0], rows[1] * 10))
    sums, total = columns(rows[0], rows[1] * 10, 4)
    return lines + sums + [total[1:]]


ASK = ["Solve: %s", "What is %s?", "Calculate %s.", "%s = ?", "Compute %s", "Solve %s", "%s", "Please solve %s",
       "How much is %s?", "solve: %s", "what is %s", "What is %s", "What's %s?", "Can you solve %s?", "%s =", "Tell me %s.",
       "calculate %s", "Please calculate %s.", "Solve %s."]
WORDS_FOR = {"+": "plus", "-": "minus", "*": "times"}


def arithmetic(rng, held=False, op=None):
    op = op or rng.choice("++--****")
    while True:
        a, b = rng.randrange(10, 100), rng.randrange(10, 100)
        if not held and rng.random() < 0.08:
            a = rng.randrange(0, 10)
        if not held and rng.random() < 0.08:
            b = rng.randrange(0, 10)
        if op == "-" and a < b and (held or rng.random() < 0.8):
            a, b = b, a
        if held_out(op, a, b) == held:
            break
    k = 0.0 if held else rng.random()
    if k < 0.7:
        expr = "%d %s %d" % (a, op, b)
    elif k < 0.85:
        expr = "%d%s%d" % (a, op, b)
    else:
        expr = "%d %s %d" % (a, rng.choice(["x", "times"]) if op == "*" else WORDS_FOR[op], b)
    value = {"+": a + b, "-": a - b, "*": a * b}[op]
    ask = rng.choice(ASK[:3]) if held else rng.choice(ASK[:3] if rng.random() < 0.6 else ASK)
    lines = "\n".join(working(op, a, b))
    return Turn("arithmetic", ask % expr, lines, str(value), lines + "\nAnswer: %d" % value, "last_number")


# ---- recall -------------------------------------------------------------------------------------------
def password(rng):
    k = rng.random()
    if k < 0.7:
        return "%s-%s-%02d" % (rng.choice(NOUNS), rng.choice(NOUNS), rng.randrange(10, 100))
    if k < 0.85:
        return "".join(rng.choice(LETTERS) for _ in range(2)) + "%04d" % rng.randrange(10000)
    return "".join(rng.choice(LETTERS + "23456789") for _ in range(6))


ASK_PASSWORD = ["What is the password?", "What was the password in the text?", "Tell me the password.",
                "Which password does the text give?"]
ASK_KEYED = ["What is the password for the %s?", "Tell me the password for the %s.", "And for the %s?"]
INTROS = ["Read this text.", "Here is a note.", "Read the text and remember the password.", "Please read this."]


def hide(rng, secrets, filler_tokens):
    lines = [sentence(rng) for _ in range(max(1, filler_tokens // 9))]
    for s in secrets:
        lines.insert(rng.randrange(len(lines) + 1), s)
    return " ".join(lines)


def recall(rng, filler_tokens):
    """One password without a name."""
    pw = password(rng)
    text = hide(rng, ["The password is %s." % pw], filler_tokens)
    ans = "The password is %s." % pw
    user = "%s\n\n%s\n\n%s" % (rng.choice(INTROS), text, rng.choice(ASK_PASSWORD))
    return Turn("recall", user, "The text says: " + ans, ans, ans, "exact")


def recall_keyed(rng, filler_tokens, secrets, questions):
    """Several named passwords and several questions: many supervised answers for one text."""
    keys = rng.sample(PLACES + NOUNS, secrets)
    table = {k: password(rng) for k in keys}
    text = hide(rng, ["The password for the %s is %s." % kv for kv in table.items()], filler_tokens)
    turns = []
    for i in range(questions):
        k = rng.choice(keys)
        ask = rng.choice(ASK_KEYED if i else ASK_KEYED[:2]) % k
        ans = "The password for the %s is %s." % (k, table[k])
        user = ask if i else "%s\n\n%s\n\n%s" % (rng.choice(INTROS), text, ask)
        turns.append(Turn("recall", user, "The text says: " + ans, ans, ans, "exact"))
    return turns


# ---- hash chains --------------------------------------------------------------------------------------
ASK_HOP = ["Start at %s and follow %d links. Where do you end?", "Start at %s. Follow %d links.",
           "From %s, follow %d links. Where does that lead?"]


def hashhop(rng, pairs, hops, questions=1):
    names = rng.sample(NOUNS, pairs + 1)
    lines = ["%s->%s" % (names[i], names[i + 1]) for i in range(pairs)]
    rng.shuffle(lines)
    turns = []
    for q in range(questions):
        n = hops if isinstance(hops, int) else rng.choice(hops)
        at = rng.randrange(pairs - n + 1)
        path = names[at:at + n + 1]
        think = "\n".join("%d:%s->%s" % (i + 1, path[i], path[i + 1]) for i in range(n))
        ask = rng.choice(ASK_HOP) % (path[0], n)
        user = ask if q else "Links:\n%s\n\n%s" % ("\n".join(lines), ask)
        turns.append(Turn("hashhop", user, think, path[-1], think + "\nEnd: " + path[-1], "last_word"))
    return turns


# ---- format: count, sort, reverse, copy, lay out --------------------------------------------------------
KINDS = {"count": 1.2, "sort": 1.5, "reverse": 2.2, "copy": 0.6, "numbered": 1, "bullets": 1, "json": 1, "commas": 1,
         "echo": 0.5}  # shares in training; evaluation takes all alike


def fmt(rng, kind=None):
    kind = kind or rng.choice(list(KINDS))
    n = rng.randrange(3, 8)
    words = rng.sample(NOUNS, n)
    spaced, comma = " ".join(words), ", ".join(words)
    if kind == "count":
        n = rng.randrange(2, 10)
        words = rng.sample(NOUNS, n)
        lines = "\n".join("%d %s" % (i + 1, w) for i, w in enumerate(words))
        user = rng.choice(["How many words are in this list: %s", "Count the words: %s"]) % " ".join(words)
        return Turn("format", user, lines, str(n), lines + "\nTotal: %d" % n, "last_number")
    if kind == "sort":
        nums = rng.sample(range(10), n)
        user = rng.choice(["Sort these numbers: %s", "Sort from small to large: %s"]) % ", ".join(map(str, nums))
        out, thought = ", ".join(map(str, sorted(nums))), "I sort the numbers."
    elif kind == "reverse":
        user = rng.choice(["Reverse the order of these words: %s", "Reverse these words: %s"]) % spaced
        out, thought = " ".join(words[::-1]), "I start at the end."
    elif kind == "copy":
        user = rng.choice(["Repeat after me: %s", "Copy this: %s", "Say: %s"]) % spaced
        out, thought = spaced, "I copy the words."
    elif kind == "echo":
        s = sentence(rng)
        user = rng.choice(["Repeat this sentence: %s", "Copy the sentence: %s"]) % s
        out, thought = s, "I copy the sentence."
    elif kind == "numbered":
        user = rng.choice(["Write as a numbered list: %s", "Make a numbered list: %s"]) % comma
        out, thought = "\n".join("%d. %s" % (i + 1, w) for i, w in enumerate(words)), "A numbered list."
    elif kind == "bullets":
        user = rng.choice(["Write as a bullet list: %s", "Make a bullet list: %s"]) % comma
        out, thought = "\n".join("- " + w for w in words), "A bullet list."
    elif kind == "json":
        user = rng.choice(["Write as a JSON list: %s", "Make a JSON list: %s"]) % comma
        out, thought = "[" + ", ".join('"%s"' % w for w in words) + "]", "A JSON list."
    else:
        user = rng.choice(["Join with commas: %s", "Put commas between these words: %s"]) % spaced
        out, thought = comma, "I add commas."
    return Turn("format", user, thought, out, out, "exact")


# ---- small talk ---------------------------------------------------------------------------------------
def fact(rng, intent=None):
    if intent is None and rng.random() < 0.12:
        if rng.random() < 0.4:
            q = sentence(rng)
        else:
            q = rng.choice(UNKNOWN)
            q = q % tuple([rng.choice(NOUNS), rng.choice(ADJECTIVES)][:q.count("%s")])
        return Turn("facts", q, UNKNOWN_THOUGHT, UNKNOWN_ANSWER, UNKNOWN_ANSWER, "exact")
    _, thought, answer, asks = rng.choice(FACTS) if intent is None else next(f for f in FACTS if f[0] == intent)
    q = rng.choice(asks)
    return Turn("facts", vary(rng, q), thought, answer, answer, "exact")


PREFIXES = ["Hi, ", "Hey, ", "So, ", "Ok, ", "Hello, ", "Tell me: ", "Please: ", "A question: "]


def vary(rng, q):
    """Small changes of spelling that people make."""
    if rng.random() < 0.12 and " " in q:
        q = rng.choice(PREFIXES) + (q if q.startswith("I ") or rng.random() < 0.5 else q[0].lower() + q[1:])
    k = rng.random()
    if k < 0.15:
        q = q.lower()
    elif k < 0.25:
        q = q.rstrip("?")
    elif k < 0.32:
        q = q.lower().rstrip("?")
    elif k < 0.4 and q[-1].isalpha():
        q += rng.choice("!.")
    elif k < 0.43:
        q = q.rstrip("?") + rng.choice([", please", ", please?", "??", " please"])
    return q


def introduction(rng):
    """The user says a name or a liking and asks for it, later or at once."""
    if rng.random() < 0.5:
        name = rng.choice(NAMES) if rng.random() < 0.5 else rng.choice(NOUNS).capitalize()
        say = rng.choice(["My name is %s.", "I am %s.", "Hi, I am %s.", "Hello, my name is %s."]) % name
        reply, ask = "Nice to meet you, %s!" % name, rng.choice(["What is my name?", "Who am I?", "Do you know my name?"])
        recall_it = "Your name is %s." % name
    else:
        thing = rng.choice(NOUNS)
        say = rng.choice(["Remember the word %s.", "The secret word is %s.", "Please remember: %s."]) % thing
        reply = "I will remember the word %s." % thing
        ask = rng.choice(["What is the word?", "Which word did I give you?", "What was the secret word?"])
        recall_it = "The word is %s." % thing
    first = Turn("facts", say, "I note it.", reply, reply, "exact")
    second = Turn("facts", ask, "I look back.", recall_it, recall_it, "exact")
    between = [fact(rng) if rng.random() < 0.5 else arithmetic(rng) for _ in range(rng.choice([0, 0, 1, 2]))]
    return [first] + between + [second]


# ---- conversations ------------------------------------------------------------------------------------
def render(turns, thinking, system="", keep=True):
    """Segments (text, supervised). keep=False drops the working of old turns as the chat template does."""
    out = [("<|im_start|>system\n%s<|im_end|>\n" % system, False)]
    for i, t in enumerate(turns):
        out.append(("<|im_start|>user\n%s<|im_end|>\n<|im_start|>assistant\n" % t.user, False))
        last = i + 1 == len(turns)
        if thinking and (last or keep):
            out += [("<think>\n", False), ("%s\n</think>\n%s<|im_end|>" % (t.think, t.answer), True)]
        elif thinking:
            out.append(("<think></think>\n%s<|im_end|>" % t.answer, False))
        else:
            out += [("<think></think>", False), (t.plain + "<|im_end|>", True)]
        if not last:
            out.append(("\n", False))
    return out


def prompt_of(turn, thinking, system=""):
    return ("<|im_start|>system\n%s<|im_end|>\n<|im_start|>user\n%s<|im_end|>\n<|im_start|>assistant\n%s"
            % (system, turn.user, "<think>\n" if thinking else "<think></think>"))


DEFAULT_MIX = {"arithmetic": 0.30, "recall": 0.14, "hashhop": 0.14, "format": 0.18, "facts": 0.18, "mixed": 0.06}


def document(rng, progress, mix=DEFAULT_MIX):
    """One training conversation; progress in [0, 1] widens recall distance and link tables."""
    thinking = rng.random() < 0.6
    system = "" if rng.random() < 0.65 else rng.choice(SYSTEMS)
    kind = rng.choices(list(mix), list(mix.values()))[0]
    keep = rng.random() < 0.8
    if kind == "arithmetic":
        turns = [arithmetic(rng) for _ in range(rng.choice([1, 1, 2, 3]))]
    elif kind == "recall":
        longest = 60 + int(940 * max(0.0, progress - 0.15) / 0.6) if progress < 0.75 else 2000
        # log-uniform: mostly short, sometimes the full distance
        length = int(20 * (longest / 20) ** rng.random())
        if rng.random() < 0.4:
            turns = [recall(rng, length)]
        else:
            turns = recall_keyed(rng, length, rng.randrange(1, 7), rng.randrange(1, 7))
            keep = True
    elif kind == "hashhop":
        pairs = rng.randrange(5, 10 + int(30 * progress))
        turns = hashhop(rng, pairs, [2, 2, 2, 3, 4], rng.randrange(1, 6))
        keep = True
    elif kind == "format":
        turns = [fmt(rng, k) for k in rng.choices(list(KINDS), list(KINDS.values()), k=rng.choice([1, 2, 3, 4]))]
    elif kind == "facts":
        turns = introduction(rng) if rng.random() < 0.15 else [fact(rng) for _ in range(rng.choice([1, 1, 2, 3]))]
    else:
        turns = introduction(rng) if rng.random() < 0.2 else []
        for _ in range(rng.randrange(2, 6)):
            k = rng.random()
            turns += ([arithmetic(rng)] if k < 0.4 else [fmt(rng)] if k < 0.6 else [fact(rng)] if k < 0.8
                      else hashhop(rng, 6, 2) if k < 0.9 else [recall(rng, 30)])
        keep = rng.random() < 0.5
    return render(turns, thinking, system, keep)


def evaluation_turn(task, rng, length=None):
    if task == "arithmetic":
        return arithmetic(rng, held=True)
    if task == "recall":
        return recall(rng, length if length else int(20 * 50 ** rng.random()))
    if task.startswith("hashhop"):
        hops = int(task[7:] or 2)
        return hashhop(rng, rng.randrange(8, 33), hops)[0]
    if task == "format":
        return fmt(rng)
    if task == "facts":
        return fact(rng)
    raise ValueError("unknown task " + task)


def training_rng(seed, step):
    return random.Random("train %d %d" % (seed, step))


def evaluation_rng(seed):
    return random.Random("evaluate %s" % seed)
