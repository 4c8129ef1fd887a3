/** What an app does, over a bad network, against the service at DAILIES_URL. Prints what it saw. */
import { Dailies, DailiesError, verify, type Generation, type News } from "../src/index.js";

const url = process.env["DAILIES_URL"] ?? "";
const key = process.env["DAILIES_KEY"] ?? "";
const lost: string[] = [];

/** The first answer to a POST is lost after it was sent, and the first stream is cut in its middle. */
const badNetwork: typeof fetch = async (where, how) => {
  const response = await fetch(where, how);
  const kind = String(where).endsWith("/events") ? "stream" : how?.method;
  if (kind === undefined || kind === "GET" || lost.includes(kind)) return response;
  lost.push(kind);
  if (kind !== "stream" || !response.body) throw new TypeError("the answer was lost");
  const reader = response.body.getReader();
  let taken = 0;
  return new Response(
    new ReadableStream<Uint8Array>({
      async pull(controller) {
        const { value } = await reader.read();
        if (!value || taken > 0) return controller.error(new TypeError("terminated"));
        taken += value.length;
        controller.enqueue(value);
      },
      cancel: () => reader.cancel(),
    }),
    { headers: response.headers },
  );
};

const dailies = new Dailies({ url, key, fetch: badNetwork });
const made: Generation = await dailies.create({ prompt: "a fox", parameters: { duration: 4, aspectRatio: "16:9" } });
const news: News[] = [];
for await (const each of dailies.watch(made.id)) news.push(each);
const done = await dailies.wait(made.id);
const listed = await dailies.list({ status: ["completed"], limit: 10 });
const token = await dailies.token(made.id, 60);
const byPage = await new Dailies({ url }).get(`${made.id}`).catch((error: unknown) => error);
const missing = await dailies.get("nothing").catch((error: unknown) => error);
const late = await dailies.wait(made.id, AbortSignal.timeout(5000));

// The types know the members of the document, and no others.
// @ts-expect-error: a typo
const typo = await dailies.create({ promt: "x" }).catch((error: unknown) => error);
// @ts-expect-error: no such status
const status: Generation["status"] = "done";
// @ts-expect-error: no number
const duration = await dailies.create({ prompt: "x", parameters: { duration: "8" } }).catch((error: unknown) => error);

let webhook;
if (process.env["WEBHOOK"]) {
  const { secret, body, headers } = JSON.parse(process.env["WEBHOOK"]) as Record<"secret" | "body", string> & { headers: Record<string, string> };
  webhook = verify(secret, body, headers).data.result?.videoUrl;
}

await dailies.delete(made.id);
const gone = await dailies.get(made.id).catch((error: unknown) => error);
const code = (error: unknown) => (error instanceof DailiesError ? error.problem.code : String(error));

console.log(
  JSON.stringify({
    lost,
    id: made.id,
    status: done.status,
    videoUrl: done.result?.videoUrl,
    lines: news.flatMap((each) => (each.type === "line" ? [each.line.event] : [])),
    ids: news.flatMap((each) => (each.type === "line" ? [each.line.id] : [])),
    last: news.at(-1),
    listed: listed.data.map((each) => each.id),
    eventsUrl: token.eventsUrl,
    same: late.id === done.id,
    webhook,
    codes: { byPage: code(byPage), missing: code(missing), typo: code(typo), duration: code(duration), gone: code(gone) },
    unused: status,
  }),
);
