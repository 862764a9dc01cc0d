"""LangChain's vector store and embeddings: texts are kept in D1, vectors in an index."""

import asyncio
import json
import os
import time

from langchain_cloudflare import CloudflareVectorize, CloudflareWorkersAIEmbeddings
from langchain_core.documents import Document

BASE_URL = os.environ["CLOUDFLARE_BASE_URL"]
ACCOUNT, TOKEN = os.environ["CLOUDFLARE_ACCOUNT_ID"], os.environ["CLOUDFLARE_API_TOKEN"]
# The package has an option for the URL of everything but D1.
os.environ["CF_D1_BASE_URL"] = f"{BASE_URL}/accounts/{ACCOUNT}/d1/database/texts"

embeddings = CloudflareWorkersAIEmbeddings(
    api_base_url=f"{BASE_URL}/accounts",
    account_id=ACCOUNT,
    api_token=TOKEN,
    model_name=os.environ["MODEL"],
)
store = CloudflareVectorize(
    embedding=embeddings,
    base_url=BASE_URL,
    account_id=ACCOUNT,
    api_token=TOKEN,
    d1_database_id="texts",
    index_name="library",
    default_wait_seconds=0.05,
)

said = {}
store.create_index(
    index_name="library", dimensions=len(embeddings.embed_query("one")), metric="cosine", wait=True
)
store.create_metadata_index(
    index_name="library", property_name="shelf", index_type="number", wait=True
)
documents = [
    Document(page_content="How to reset a forgotten password", metadata={"shelf": 1}),
    Document(page_content="Bananas ripen faster beside apples", metadata={"shelf": 2}),
    Document(page_content="The cat sleeps on the warm roof", metadata={"shelf": 2}),
]
said["ids"] = store.add_documents(documents, ids=["a", "b", "c"], wait=True)

found = store.similarity_search_with_score("I cannot log in to my account", k=2)
said["found"] = [(document.page_content, document.metadata, score) for document, score in found]
narrowed = store.similarity_search("I cannot log in", k=3, md_filter={"shelf": 2})
said["narrowed"] = sorted(document.page_content for document in narrowed)
said["by_id"] = [document.page_content for document in store.get_by_ids(["b"])]

store.add_texts(["How to change an old password"], ids=["a"], upsert=True, wait=True)
said["replaced"] = [document.page_content for document in store.get_by_ids(["a"])]
store.delete(ids=["a"], wait=True)
said["left"] = sorted(
    document.page_content for document in store.similarity_search("password", k=5)
)
said["async"] = [
    document.page_content for document in asyncio.run(store.asimilarity_search("pets", k=1))
]

deleted = store.delete_metadata_index(index_name="library", property_name="shelf")
end = time.monotonic() + 30
while store.get_index_info("library")["processedUpToMutation"] != deleted["mutationId"]:
    assert time.monotonic() < end, "the metadata index was never deleted"
    time.sleep(0.02)
said["metadata_indexes"] = store.list_metadata_indexes(index_name="library")
store.delete_index(index_name="library")
said["indexes"] = store.list_indexes()
print(json.dumps(said))
