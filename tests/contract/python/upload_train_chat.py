"""What a program written for an older official Python SDK does: upload, job, poll, results, chat, clean up.

Called with the base URL, a key and the base model's id, in a process of its own; prints what it has seen as one JSON object.
"""

from __future__ import annotations

import json
import sys
import time

import openai


def main(base_url: str, api_key: str, model: str) -> dict[str, object]:
    """Everything in the order in which a person does it."""
    client = openai.OpenAI(base_url=base_url, api_key=api_key, max_retries=0)
    rows = [
        {"messages": [{"role": "user", "content": f"Message {number}"}, {"role": "assistant", "content": "refund"}]}
        for number in range(12)
    ]
    content = "\n".join(map(json.dumps, rows)).encode()
    file = client.files.wait_for_processing(client.files.create(file=("a.jsonl", content), purpose="fine-tune").id)
    job = client.fine_tuning.jobs.create(model=model, training_file=file.id, hyperparameters={"n_epochs": 2})
    while job.status not in ("succeeded", "failed", "cancelled"):
        time.sleep(0.2)
        job = client.fine_tuning.jobs.retrieve(job.id)
    events = [event.message for event in client.fine_tuning.jobs.list_events(job.id, limit=3)]
    question = {"model": job.fine_tuned_model, "messages": [{"role": "user", "content": "Message 3"}], "temperature": 0}
    answer = client.chat.completions.create(**question, max_tokens=8)
    chunks = list(client.chat.completions.create(**question, max_tokens=8, stream=True))
    try:
        client.fine_tuning.jobs.retrieve("ftjob-nothing")
        refusal = None
    except openai.NotFoundError as error:
        refusal = error.code
    return {
        "version": openai.__version__,
        "status": job.status,
        "same": client.files.content(file.id).content == content,
        "events": events[::-1],
        "checkpoints": len(client.fine_tuning.jobs.checkpoints.list(job.id).data),
        "results": client.files.content(job.result_files[0]).text.splitlines()[0],
        "answer": answer.choices[0].message.content,
        "streamed": "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices),
        "refusal": refusal,
        "deleted": [client.models.delete(job.fine_tuned_model).deleted, client.files.delete(file.id).deleted],
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:])))
