"""The texts whose vectors were computed by another implementation.

`make_reference_embeddings.py` wrote the vectors in ``tests/data/embeddings``; change one of
these texts and they must be written again.
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
