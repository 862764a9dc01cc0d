"""Every limit of the wire, in one table with three profiles.

`cloudflare` has the limits of the live service today, `cloudflare-2025` those of its older
documentation (20 instead of 50 matches with values), `open` is for one's own hardware. A setting
chooses the profile, and ``vicinal limits`` prints it. These numbers stand nowhere else in the
package.
"""

import re
from dataclasses import dataclass, fields, replace

ACCOUNT_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")  # API schema: at most 32 characters; the rest ours


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a request, all inclusive; None means no bound.

    Sources are the platform's limits page unless the comment beside a number says otherwise.
    """

    dimensions_min: int = 1  # API schema; the live service refuses below 32
    dimensions_max: int = 1536
    id_bytes_max: int = 64
    namespace_bytes_max: int = 64
    metadata_bytes_max: int = 10_240  # of compact JSON, as the live error text says
    metadata_depth_max: int = 100  # ours: parsers of the live service's kind stop at 128
    multipart_parts_max: int = 100  # ours: clients send one or two
    record_bytes_max: int = 1024 * 1024  # ours: of one vector's JSON, spaces included
    record_nodes_max: int = 50_000  # ours: members, arrays and objects of one; all take time
    index_name_bytes_max: int = 64
    description_bytes_max: int = 1_024  # ours: the API gives none
    top_k_default: int = 5
    top_k_max: int = 100
    top_k_full_max: int = 50  # with values or all metadata; since 2026-03-16
    batch_vectors_max: int = 5_000
    body_bytes_max: int = 100 * 1024 * 1024
    json_body_bytes_max: int = 1024 * 1024  # ours: bodies that are not vectors or texts
    worker_body_bytes_max: int = 16 * 1024 * 1024  # ours: a Worker may have 10 MB, compressed
    list_count_default: int = 100  # API schema
    list_count_max: int = 1_000  # API schema
    get_ids_max: int = 20  # seen in live errors
    delete_ids_max: int = 100  # seen in live errors
    facet_values_default: int = 10  # ours
    facet_values_max: int = 1_000  # ours
    query_text_bytes_max: int = 8_192  # ours: of the words of one query
    candidates_max: int = 1_000  # ours: that diversity or a reranker chooses from
    metadata_indexes_max: int = 10
    indexed_string_bytes_max: int = 64
    property_name_chars_max: int = 512
    filter_bytes_max: int = 2_047  # "less than 2048 bytes" of compact JSON
    filter_key_chars_max: int = 512
    filter_extensions: bool = False  # ours: our operators without a header that asks for them
    filter_depth_max: int = 8  # ours: of $and, $or and $not in each other
    filter_clauses_max: int = 128  # ours: conditions, $and, $or and $not of a filter that has these
    indexes_per_account_max: int | None = 50_000
    namespaces_per_index_max: int | None = 50_000
    vectors_per_index_max: int | None = 20_000_000  # since 2026-08-04
    texts_per_embedding_max: int = 100  # model pages
    generation_body_bytes_max: int = 16 * 1024 * 1024  # ours: the longest contexts, and pictures


_CLOUDFLARE = Limits()

PROFILES: dict[str, Limits] = {
    "cloudflare": _CLOUDFLARE,
    "cloudflare-2025": replace(_CLOUDFLARE, top_k_full_max=20, vectors_per_index_max=5_000_000),
    "open": replace(
        _CLOUDFLARE,
        dimensions_max=4_096,
        id_bytes_max=512,
        top_k_max=1_000,
        top_k_full_max=1_000,
        batch_vectors_max=100_000,
        get_ids_max=10_000,
        delete_ids_max=10_000,
        body_bytes_max=1024 * 1024 * 1024,
        json_body_bytes_max=16 * 1024 * 1024,
        list_count_max=10_000,
        filter_extensions=True,
        indexes_per_account_max=None,
        namespaces_per_index_max=None,
        vectors_per_index_max=None,
    ),
}


def rows() -> list[tuple[str, tuple[int | None, ...]]]:
    """Return ``(name, value in each profile)`` in declaration order, for printing."""
    return [
        (field.name, tuple(getattr(limits, field.name) for limits in PROFILES.values()))
        for field in fields(Limits)
    ]
