"""What a program written for an older official Python SDK does with documents: attach, poll, search, answer, clean up.

Called with the base URL, a key and a model's id, in a process of its own; prints what it has seen as one JSON object.
"""

from __future__ import annotations

import json
import sys

import openai

TEXT = b"# Refunds\n\nRefunds take five working days.\n"


def main(base_url: str, api_key: str, model: str) -> dict[str, object]:
    """Everything in the order in which a person does it."""
    client = openai.OpenAI(base_url=base_url, api_key=api_key, max_retries=0)
    store = client.vector_stores.create(name="handbook", metadata={"team": "support"})
    file = client.vector_stores.files.upload_and_poll(
        vector_store_id=store.id, file=("refunds.md", TEXT), poll_interval_ms=10
    )
    other = client.files.create(file=("roads.txt", b"Bridges are closed in winter."), purpose="assistants")
    batch = client.vector_stores.file_batches.create_and_poll(store.id, file_ids=[other.id], poll_interval_ms=10)
    changed = client.vector_stores.files.update(
        file.id, vector_store_id=store.id, attributes={"lang": "en", "year": 2026}
    )
    found = client.vector_stores.search(
        store.id, query="how long do refunds take", filters={"type": "eq", "key": "lang", "value": "en"}
    ).data
    answer = client.responses.create(
        model=model,
        input="How long do refunds take?",
        tools=[{"type": "file_search", "vector_store_ids": [store.id]}],
        include=["file_search_call.results"],
        max_output_tokens=4,
    )
    try:
        client.vector_stores.retrieve("vs_nothing")
        refusal = None
    except openai.NotFoundError as error:
        refusal = error.status_code
    return {
        "version": openai.__version__,
        "status": [file.status, batch.status],
        "counts": batch.file_counts.completed,
        "attributes": changed.attributes,
        "listed": sorted(one.id for one in client.vector_stores.files.list(store.id, limit=1))
        == sorted([file.id, other.id]),
        "found": [[one.filename, one.content[0].text] for one in found],
        "answered": [item.type for item in answer.output],
        "results": answer.output[0].results[0].filename,
        "refusal": refusal,
        "deleted": [
            client.vector_stores.files.delete(file.id, vector_store_id=store.id).deleted,
            client.vector_stores.delete(store.id).deleted,
        ],
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:])))
