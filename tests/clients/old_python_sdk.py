"""Drives the Python SDK 4.3.1; run by `test_old_python_sdk.py` under an interpreter that has it.

Prints one JSON object: what each step returned. It must run without this project or its
dependencies. Arguments: base URL, token, account, name of a new index, model.
"""

import json
import sys
import time
from typing import Any

NDJSON = (
    '{"id":"a","values":[1,0,0],"namespace":"n","metadata":{"k":1}}\n{"id":"b","values":[0,1,0]}'
)


def main(base_url: str, token: str, account: str, name: str, model: str) -> dict[str, Any]:
    import cloudflare

    client: Any = cloudflare.Cloudflare(api_token=token, base_url=base_url, max_retries=0)
    indexes, in_account = client.vectorize.indexes, {"account_id": account}

    def wait(mutation_id: str) -> None:
        end = time.monotonic() + 30
        while indexes.info(name, **in_account).processed_up_to_mutation != mutation_id:
            assert time.monotonic() < end, "the mutation was never processed"
            time.sleep(0.01)

    def refused(work: Any) -> dict[str, Any]:
        try:
            work()
        except cloudflare.APIStatusError as error:
            return {"class": type(error).__name__, "status": error.status_code}
        return {}

    seen: dict[str, Any] = {"version": cloudflare.__version__}
    config = {"dimensions": 3, "metric": "cosine"}
    made = indexes.create(name=name, config=config, description="old", **in_account)
    seen["created"] = [made.name, made.description, made.config.dimensions, made.config.metric]
    seen["duplicate"] = refused(lambda: indexes.create(name=name, config=config, **in_account))
    seen["absent"] = refused(lambda: indexes.get(f"{name}-not", **in_account))
    seen["listed"] = name in [each.name for each in indexes.list(**in_account)]
    wait(indexes.insert(name, body=NDJSON, **in_account).mutation_id)
    wait(indexes.upsert(name, body='{"id":"b","values":[0,0,1]}', **in_account).mutation_id)
    wait(
        indexes.metadata_index.create(
            name, property_name="k", index_type="number", **in_account
        ).mutation_id
    )
    wait(indexes.upsert(name, body=NDJSON, **in_account).mutation_id)
    found = indexes.query(
        name, vector=[1, 0, 0], top_k=2, return_values=True, return_metadata="all", **in_account
    )
    seen["found"] = [[m.id, m.score, m.values, m.metadata, m.namespace] for m in found.matches]
    filtered = indexes.query(name, vector=[1, 0, 0], filter={"k": {"$gte": 1}}, **in_account)
    seen["filtered"] = [match.id for match in filtered.matches]
    listed = indexes.metadata_index.list(name, **in_account).metadata_indexes
    seen["metadata_indexes"] = [[each.property_name, each.index_type] for each in listed]
    seen["got"] = indexes.get_by_ids(name, ids=["a"], **in_account)
    wait(indexes.delete_by_ids(name, ids=["a"], **in_account).mutation_id)
    seen["got_after_delete"] = indexes.get_by_ids(name, ids=["a"], **in_account)
    info = indexes.info(name, **in_account)
    seen["info"] = [info.dimensions, info.vector_count]
    wait(indexes.metadata_index.delete(name, property_name="k", **in_account).mutation_id)
    seen["embedded"] = client.ai.run(model, text=["hello", "worlds"], **in_account)["shape"]
    indexes.delete(name, **in_account)
    seen["gone"] = refused(lambda: indexes.get(name, **in_account))
    return seen


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:])))
