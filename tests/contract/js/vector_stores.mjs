// What a program written for OpenAI's vector stores does, with the official JavaScript SDK: attach, poll, search, answer, clean up.
// Called with the base URL, a key and a model's id; prints what it has seen as one JSON object.
import OpenAI, { toFile } from "openai";

const [baseURL, apiKey, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const quickly = { pollIntervalMs: 10 };

const store = await client.vectorStores.create({ name: "handbook", expires_after: { anchor: "last_active_at", days: 7 } });
const text = "# Refunds\n\nRefunds take five working days.\n";
const file = await client.vectorStores.files.uploadAndPoll(store.id, await toFile(Buffer.from(text), "größe.md"), quickly);
const other = await toFile(Buffer.from("Bridges are closed in winter."), "roads.txt");
const batch = await client.vectorStores.fileBatches.uploadAndPoll(store.id, { files: [other] }, quickly);
const changed = await client.vectorStores.files.update(file.id, { vector_store_id: store.id, attributes: { lang: "en" } });

const listed = [];
for await (const one of client.vectorStores.files.list(store.id, { limit: 1 })) listed.push(one.status);
const contents = [];
for await (const part of client.vectorStores.files.content(file.id, { vector_store_id: store.id })) contents.push(part.text);
const found = [];
const filters = { type: "and", filters: [{ type: "eq", key: "lang", value: "en" }] };
for await (const one of client.vectorStores.search(store.id, { query: "refunds", filters })) found.push(one.filename);

const tools = [{ type: "file_search", vector_store_ids: [store.id] }];
const kinds = [];
const question = { model, input: "How long do refunds take?", tools, max_output_tokens: 4 };
for await (const event of await client.responses.create({ ...question, stream: true })) kinds.push(event.type);
let refusal = null;
try {
  await client.vectorStores.search(store.id, { query: "refunds", rewrite_query: true });
} catch (error) {
  refusal = { name: error.constructor.name, param: error.param };
}
const deletedFile = await client.vectorStores.files.delete(file.id, { vector_store_id: store.id });
const deletedStore = await client.vectorStores.delete(store.id);

console.log(
  JSON.stringify({
    status: [file.status, batch.status],
    counts: batch.file_counts,
    attributes: changed.attributes,
    listed,
    contents,
    found,
    searched: kinds.filter((kind) => kind.includes("file_search_call")),
    refusal,
    deleted: [deletedFile.deleted, deletedStore.deleted],
  }),
);
