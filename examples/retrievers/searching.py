"""A search by words and by meaning at once, over REST."""

import json
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote


@dataclass(frozen=True)
class Texts:
    """An index whose metadata has texts in a property with a metadata index of type text.

    `base_url` is as for the official SDK, like ``http://127.0.0.1:8790/client/v4``.
    """

    base_url: str
    account: str
    token: str
    index: str
    text_property: str = "text"

    def search(self, text: str, count: int, *, is_hybrid: bool) -> list[dict[str, Any]]:
        """Return the best matches for a text: by its words, and by the index's own model as well
        if `is_hybrid`."""
        body: dict[str, Any] = {"text": text, "topK": count, "returnMetadata": "all"}
        if is_hybrid:
            body["hybrid"] = True
        request = urllib.request.Request(
            f"{self.base_url}/accounts/{quote(self.account)}/vectorize/v2/indexes/"
            f"{quote(self.index)}/query",
            json.dumps(body).encode(),
            {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            matches: list[dict[str, Any]] = json.load(answer)["result"]["matches"]
        return matches
