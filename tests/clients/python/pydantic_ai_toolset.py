"""Pydantic AI's provider package: embeddings, and the tools that an agent stores and searches with.

The package has no option for the URL.
"""

import asyncio
import json
import os
import sys

from pydantic_ai_cloudflare import CloudflareEmbeddingModel, VectorizeToolset, vectorize

BASE_URL, ACCOUNT = os.environ["CLOUDFLARE_BASE_URL"], os.environ["CLOUDFLARE_ACCOUNT_ID"]
TOKEN, MODEL = os.environ["CLOUDFLARE_API_TOKEN"], os.environ["MODEL"]
vectorize.VECTORIZE_BASE_URL = f"{BASE_URL}/accounts"


class Embeddings(CloudflareEmbeddingModel):
    base_url = f"{BASE_URL}/accounts/{ACCOUNT}/ai/v1"


async def main(task: str) -> object:
    if task == "embed":
        model = Embeddings(
            MODEL, account_id=ACCOUNT, api_key=TOKEN, gateway_id=None, dimensions=384
        )
        made = await model.embed(["ripe bananas"], input_type="document")
        return [list(each) for each in made.embeddings]
    tools = VectorizeToolset(
        index_name="library", embedding_model=MODEL, account_id=ACCOUNT, api_key=TOKEN
    )
    if task == "store":
        arguments = {"text": "How to reset a forgotten password", "source": "manual"}
        return await tools.call_tool("store_knowledge", arguments, None, None)
    return await tools.call_tool("search_knowledge", {"query": "I cannot log in"}, None, None)


print(json.dumps(asyncio.run(main(sys.argv[1]))))
