"""Word pools and small grammars of the training text; src/eval/tasks.cpp repeats the pools it needs."""
NOUNS = """apple river stone lamp falcon amber cedar otter maple tiger violin candle window garden ladder bridge
castle silver copper marble velvet cotton pepper ginger lemon cherry walnut almond carrot potato basket bucket
hammer needle button ribbon mirror pillow carpet blanket kettle saucer pencil marker folder letter packet ticket
wallet jacket helmet saddle anchor rocket engine wheel pedal cable socket magnet prism crystal pebble canyon
valley forest meadow desert island harbor lagoon glacier thunder shadow breeze winter summer autumn spring sunset
comet planet meteor orbit saturn eagle robin sparrow heron raven badger rabbit beaver walrus donkey monkey camel
turtle lizard salmon oyster lobster spider beetle cricket hornet tulip orchid daisy clover fern willow acorn
bamboo cactus barley honey butter cheese muffin cookie waffle noodle tomato onion melon mango peach olive
trumpet guitar piano drum flute cello banjo whistle compass lantern shovel barrel wagon canoe kayak sail""".split()

ADJECTIVES = """old quiet small green bright heavy narrow warm cold gentle hidden wooden golden empty round soft plain
simple broken distant""".split()
PLACES = """market library station kitchen tower village school museum theater bakery""".split()
VERBS = """waits rests stands sleeps shines moves turns grows stays falls""".split()
ACTS = """sees finds holds likes paints carries follows hears keeps moves""".split()
NAMES = """Anna Ben Clara David Emma Frank Grace Henry Iris Jack""".split()
LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"

SYSTEMS = ["You are a helpful assistant.", "Be terse.", "You are nemo-tiny.", "Answer briefly.", "Be kind.",
           "You answer questions.", "You are a careful assistant.", "Keep answers short.",
           "You are a small language model inside libnemo.", "Think step by step."]


def sentence(rng):
    """One filler sentence of about nine tokens."""
    k = rng.randrange(6)
    a, n, m = rng.choice(ADJECTIVES), rng.choice(NOUNS), rng.choice(NOUNS)
    if k == 0:
        return "The %s %s %s near the %s." % (a, n, rng.choice(VERBS), m)
    if k == 1:
        return "%s %s the %s %s." % (rng.choice(NAMES), rng.choice(ACTS), a, n)
    if k == 2:
        return "In the %s, the %s is %s." % (rng.choice(PLACES), n, a)
    if k == 3:
        return "The %s %s the %s." % (n, rng.choice(ACTS), m)
    if k == 4:
        return "Every %s in the %s %s." % (n, rng.choice(PLACES), rng.choice(VERBS))
    return "A %s %s %s with a %s %s." % (a, n, rng.choice(VERBS), rng.choice(ADJECTIVES), m)
