"""Retrieval with LangChain: the store keeps vectors in an index and texts in D1.

Where the server is, is said by CLOUDFLARE_BASE_URL, CLOUDFLARE_API_TOKEN and
CLOUDFLARE_ACCOUNT_ID.
"""

import os

from langchain_cloudflare import CloudflareVectorize, CloudflareWorkersAIEmbeddings
from notes import NOTES, QUESTION

BASE_URL = os.environ["CLOUDFLARE_BASE_URL"]
ACCOUNT = os.environ["CLOUDFLARE_ACCOUNT_ID"]
TOKEN = os.environ["CLOUDFLARE_API_TOKEN"]
INDEX, DATABASE = "langchain-notes", "notes"
# The package takes the URL of D1 from here alone.
os.environ["CF_D1_BASE_URL"] = f"{BASE_URL}/accounts/{ACCOUNT}/d1/database/{DATABASE}"

embeddings = CloudflareWorkersAIEmbeddings(
    api_base_url=f"{BASE_URL}/accounts",
    account_id=ACCOUNT,
    api_token=TOKEN,
    model_name=os.environ.get("MODEL", "@cf/baai/bge-base-en-v1.5"),
)
store = CloudflareVectorize(
    embedding=embeddings,
    base_url=BASE_URL,
    account_id=ACCOUNT,
    api_token=TOKEN,
    d1_database_id=DATABASE,
    index_name=INDEX,
    default_wait_seconds=0.05,
)

if INDEX not in [index["name"] for index in store.list_indexes()]:
    dimensions = len(embeddings.embed_query(QUESTION))
    store.create_index(index_name=INDEX, dimensions=dimensions, metric="cosine", wait=True)
store.add_texts(NOTES, ids=[str(number) for number in range(len(NOTES))], upsert=True, wait=True)

print(QUESTION)
# With metadata the package asks for 20 matches whatever `k` is; the texts come from D1 anyway.
for document, score in store.similarity_search_with_score(QUESTION, k=2, return_metadata="none"):
    print(f"{score:.2f}  {document.page_content}")
