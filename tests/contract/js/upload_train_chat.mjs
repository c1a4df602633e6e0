// What a program written for OpenAI's fine-tuning API does, with the official JavaScript SDK: upload, job, poll, results, chat.
// Called with the base URL, a key and the base model's id; prints what it has seen as one JSON object.
import OpenAI, { toFile } from "openai";

const [baseURL, apiKey, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });

const rows = Array.from({ length: 12 }, (_, number) => ({
  messages: [
    { role: "user", content: `Message ${number}` },
    { role: "assistant", content: number % 2 ? "refund" : "late parcel" },
  ],
}));
const content = rows.map((row) => JSON.stringify(row)).join("\n");

const file = await client.files.create({
  file: await toFile(Buffer.from(content), "größe.jsonl"),
  purpose: "fine-tune",
  expires_after: { anchor: "created_at", seconds: 3600 },
});
const kept = await client.files.waitForProcessing(file.id);
const bytes = await (await client.files.content(file.id)).text();

let job = await client.fineTuning.jobs.create({
  model,
  training_file: file.id,
  suffix: "js",
  metadata: { from: "js" },
  method: { type: "supervised", supervised: { hyperparameters: { n_epochs: 2, batch_size: "auto" } } },
});
while (!["succeeded", "failed", "cancelled"].includes(job.status)) {
  await new Promise((resolve) => setTimeout(resolve, 200));
  job = await client.fineTuning.jobs.retrieve(job.id);
}

const events = [];
for await (const event of client.fineTuning.jobs.listEvents(job.id, { limit: 3 })) events.push(event.message);
const checkpoints = [];
for await (const checkpoint of client.fineTuning.jobs.checkpoints.list(job.id)) checkpoints.push(checkpoint.step_number);
const found = [];
for await (const other of client.fineTuning.jobs.list({ metadata: { from: "js" } })) found.push(other.id);
const results = await (await client.files.content(job.result_files[0])).text();

const messages = [{ role: "user", content: "Message 3" }];
const question = { model: job.fine_tuned_model, messages, temperature: 0, max_completion_tokens: 8 };
const answer = await client.chat.completions.create(question);
let streamed = "";
for await (const chunk of await client.chat.completions.create({ ...question, stream: true })) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
}

const long = { n_epochs: 50, batch_size: 1 }; // it must not end by itself before it is cancelled
const waiting = await client.fineTuning.jobs.create({ model, training_file: file.id, hyperparameters: long });
const cancelled = await client.fineTuning.jobs.cancel(waiting.id);
let refusal = null;
try {
  await client.fineTuning.jobs.retrieve("ftjob-nothing");
} catch (error) {
  refusal = { name: error.constructor.name, status: error.status, code: error.code };
}
const deletedModel = await client.models.delete(job.fine_tuned_model);
const deletedFile = await client.files.delete(file.id);

console.log(
  JSON.stringify({
    status: job.status,
    error: job.error,
    model: job.fine_tuned_model,
    filename: kept.filename,
    fileStatus: kept.status,
    sameBytes: bytes === content,
    events: events.reverse(),
    checkpoints,
    found: found.length === 1 && found[0] === job.id,
    results: results.split("\n")[0],
    answer: answer.choices[0].message.content,
    streamed,
    usage: answer.usage.total_tokens,
    cancelled: cancelled.status,
    refusal,
    deleted: [deletedModel.deleted, deletedFile.deleted],
  }),
);
