"""The texts whose vectors were computed by another implementation.

`make_reference_embeddings.py` wrote the vectors in ``tests/data/embeddings``; change one of
these texts and they must be written again.
"""

ROUNDING = 32 * 2.0**-24
"""How far apart two ways of computing one number of an embedding may be: 1.9e-6.

The sum of n products of float32 is off by about sqrt(n) · 2^-24 of what is added up, and a number
of a unit vector of d dimensions is about 1/sqrt(d). A layer's sums have at most 4d terms, so each
adds about 2 · 2^-24 whatever the width; 12 layers of 6 sums, whose errors are independent, make
2 · sqrt(72) · 2^-24. Which sums are taken in which order depends on the processor, on how many
texts are in a batch and on how long they are.
"""

TEXTS = (
    "This is a story about an orange cloud",
    "This is a story about a llama",
    "This is a story about a hugging emoji",
    "orange cloud",
    "a",
    "",
    "   \t\n  ",
    "How do I reset my password?",
    "I FORGOT MY LOGIN CREDENTIALS!!!",
    "Crème brûlée, naïve façade, Ångström, señor",
    "日本語の文章です。 한국어 문장입니다.",
    "Это предложение на русском языке; هذه جملة بالعربية",
    "🦙🧡☁️🤗 \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\ue000\ue001 \uffff",
    "null\x00byte and \u200bzero\u200bwidth",
    "def distance(a, b):\n    return sum((x - y) ** 2 for x, y in zip(a, b)) ** 0.5",
    "<p>Prices: $1,299.00 (was 1.499,00 &euro;) &mdash; 13% off!</p>",
    "x" * 101 + " pneumonoultramicroscopicsilicovolcanoconiosis",
    "The quick brown fox jumps over the lazy dog. " * 30,
    "lorem ipsum dolor sit amet " * 2_000,
)
