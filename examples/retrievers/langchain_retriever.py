"""A retriever for LangChain that finds documents by their words and their meaning."""

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from searching import Texts


class HybridRetriever(BaseRetriever):
    """Finds the texts of an index; `is_hybrid` of False finds words alone."""

    texts: Texts
    count: int = 4
    is_hybrid: bool = True

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        documents = []
        for match in self.texts.search(query, self.count, is_hybrid=self.is_hybrid):
            metadata = match.get("metadata", {})
            text = metadata.pop(self.texts.text_property, "")
            metadata["score"] = match["score"]
            documents.append(Document(id=match["id"], page_content=text, metadata=metadata))
        return documents
