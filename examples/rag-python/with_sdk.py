"""Retrieval with the official SDK: embed notes, store them, find what answers a question.

Where the server is, is said by CLOUDFLARE_BASE_URL, CLOUDFLARE_API_TOKEN and
CLOUDFLARE_ACCOUNT_ID; without the first the same program uses Cloudflare.
"""

import json
import os

from cloudflare import Cloudflare
from notes import NOTES, QUESTION

ACCOUNT = os.environ["CLOUDFLARE_ACCOUNT_ID"]
MODEL = os.environ.get("MODEL", "@cf/baai/bge-base-en-v1.5")
INDEX = "notes"

client = Cloudflare()
indexes = client.vectorize.indexes


def embed(texts: list[str]) -> list[list[float]]:
    """Return one vector a text."""
    return client.ai.run(MODEL, account_id=ACCOUNT, text=texts)["data"]


vectors = embed(NOTES)
if INDEX not in [index.name for index in indexes.list(account_id=ACCOUNT)]:
    config = {"dimensions": len(vectors[0]), "metric": "cosine"}
    indexes.create(account_id=ACCOUNT, name=INDEX, config=config)
lines = [
    json.dumps({"id": str(number), "values": values, "metadata": {"text": text}})
    for number, (text, values) in enumerate(zip(NOTES, vectors, strict=True))
]
# Vicinal answers when queries see the write. Cloudflare does not know the header: wait there.
indexes.upsert(
    INDEX, account_id=ACCOUNT, body="\n".join(lines), extra_headers={"Prefer": "wait=30"}
)

found = indexes.query(
    INDEX, account_id=ACCOUNT, vector=embed([QUESTION])[0], top_k=2, return_metadata="all"
)
print(QUESTION)
for match in found.matches:
    print(f"{match.score:.2f}  {match.metadata['text']}")
