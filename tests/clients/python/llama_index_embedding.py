"""LlamaIndex's embeddings, sync and async. The package has no option for the URL."""

import asyncio
import json
import os

from llama_index.embeddings.cloudflare_workersai import CloudflareEmbedding, base

base.API_URL_TEMPLATE = os.environ["CLOUDFLARE_BASE_URL"] + "/accounts/{}/ai/run/{}"

embedding = CloudflareEmbedding(
    account_id=os.environ["CLOUDFLARE_ACCOUNT_ID"],
    auth_token=os.environ["CLOUDFLARE_API_TOKEN"],
    model=os.environ["MODEL"],
)
texts = ["a forgotten password", "ripe bananas"]
print(
    json.dumps(
        {
            "one": embedding.get_text_embedding(texts[0]),
            "many": embedding.get_text_embedding_batch(texts),
            "query": embedding.get_query_embedding(texts[1]),
            "async": asyncio.run(embedding.aget_text_embedding(texts[0])),
        }
    )
)
