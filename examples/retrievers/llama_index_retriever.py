"""A retriever for LlamaIndex that finds nodes by their words and their meaning."""

from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from searching import Texts


class HybridRetriever(BaseRetriever):
    """Finds the texts of an index; `is_hybrid` of False finds words alone."""

    def __init__(self, texts: Texts, count: int = 4, *, is_hybrid: bool = True) -> None:
        super().__init__()
        self._texts = texts
        self._count = count
        self._is_hybrid = is_hybrid

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        nodes = []
        query = query_bundle.query_str
        for match in self._texts.search(query, self._count, is_hybrid=self._is_hybrid):
            metadata = match.get("metadata", {})
            text = metadata.pop(self._texts.text_property, "")
            node = TextNode(id_=match["id"], text=text, metadata=metadata)
            nodes.append(NodeWithScore(node=node, score=match["score"]))
        return nodes
