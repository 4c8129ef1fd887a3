/** A typed client of the Dailies API: for servers with a key, for pages with a read token. Types: /openapi.json. */
import type * as schema from "./schema.js";
import type { Generation, GenerationCreate, GenerationList, TimelineLine } from "./schema.js";
import { events } from "./stream.js";

export type * from "./schema.js";
export { verify } from "./webhooks.js";

export type Problem = schema.ProblemBody;
export type Query = NonNullable<schema.operations["listGenerations"]["parameters"]["query"]>;
export type News =
  | { type: "generation"; generation: Generation }
  | { type: "line"; line: TimelineLine }
  | { type: "end"; status: Generation["status"] };

export interface Options {
  url: string;
  key?: string | undefined;
  fetch?: typeof globalThis.fetch;
}

/** The service said no, and why: `problem.code` for programs, `problem.detail` for people. */
export class DailiesError extends Error {
  constructor(readonly problem: Problem, readonly retryAfter?: number) {
    super(`${problem.code}: ${problem.detail}`);
    this.name = "DailiesError";
  }
}

interface Call {
  method?: string;
  body?: unknown;
  headers?: Record<string, string>;
  signal?: AbortSignal | undefined;
}

const ENDED: ReadonlySet<string> = new Set(["completed", "failed", "cancelled"]);
const ATTEMPTS = 5;
const sleep = (seconds: number) => new Promise<void>((done) => setTimeout(done, seconds * 1000));
const at = (id: string) => `/api/generations/${encodeURIComponent(id)}`;

export class Dailies {
  readonly #url: string;
  readonly #headers: Record<string, string>;
  readonly #fetch: typeof globalThis.fetch;

  constructor({ url, key, fetch = (...given) => globalThis.fetch(...given) }: Options) {
    this.#url = url.replace(/\/+$/, "");
    this.#headers = key === undefined ? {} : { Authorization: `Bearer ${key}` };
    this.#fetch = fetch;
  }

  /** Ask for a video. Sent again under the same key when the network or the service fails, which pays for one. */
  create(request: GenerationCreate, idempotencyKey: string = crypto.randomUUID()): Promise<Generation> {
    const headers = { "Idempotency-Key": idempotencyKey };
    return this.#json("/api/generations", { method: "POST", body: request, headers });
  }

  get(id: string): Promise<Generation> {
    return this.#json(at(id));
  }

  list(query: Query = {}): Promise<GenerationList> {
    const given = Object.entries(query).filter(([, value]) => value !== undefined);
    const text = new URLSearchParams(given.map(([name, value]) => [name, String(value)]));
    return this.#json(`/api/generations?${text}`);
  }

  cancel(id: string): Promise<Generation> {
    return this.#json(`${at(id)}/cancel`, { method: "POST" });
  }

  /** Let a failed generation go on. It never pays again unless `allowRepay` is true. */
  redrive(id: string, how: schema.Redrive): Promise<schema.RedrivenGeneration> {
    return this.#json(`${at(id)}/redrive`, { method: "POST", body: how });
  }

  async delete(id: string): Promise<void> {
    await this.#send(at(id), { method: "DELETE" });
  }

  /** What a page needs to watch this generation (`new EventSource(token.eventsUrl)`) and to play it, without a key. */
  token(id: string, expiresIn = 600): Promise<schema.ReadToken> {
    return this.#json(`${at(id)}/tokens`, { method: "POST", body: { expiresIn } });
  }

  /** The generation once it has ended, in whichever way. */
  async wait(id: string, signal?: AbortSignal): Promise<Generation> {
    for (;;) {
      const found = await this.#json<Generation>(at(id), { headers: { Prefer: "wait=30" }, signal });
      if (ENDED.has(found.status)) return found;
    }
  }

  /** What happens to a generation, as it happens, until it has ended; a cut connection is taken up where it was. */
  async *watch(id: string, signal?: AbortSignal): AsyncGenerator<News> {
    for (let seen = ""; ; await sleep(1)) {
      const headers = { Accept: "text/event-stream", ...(seen && { "Last-Event-ID": seen }) };
      const response = await this.#send(`${at(id)}/events`, { headers, signal });
      if (response.status === 204 || !response.body) return;
      for await (const event of events(response.body)) {
        seen = event.id || seen;
        const data: unknown = JSON.parse(event.data);
        if (event.type === "generation") yield { type: "generation", generation: data as Generation };
        else if (event.type !== "end") yield { type: "line", line: data as TimelineLine };
        else return yield { type: "end", status: (data as Generation).status };
      }
    }
  }

  async #json<T>(path: string, call: Call = {}): Promise<T> {
    return (await (await this.#send(path, call)).json()) as T;
  }

  /** Every call may be sent again: it reads, has a key, or says what shall be. */
  async #send(path: string, call: Call): Promise<Response> {
    for (let attempt = 1; ; attempt++) {
      const failed = await this.#once(path, call).catch((error: unknown) => {
        if (!(error instanceof TypeError) || attempt === ATTEMPTS) throw error; // TypeError: the network failed
        return new DailiesError(problem(502, String(error)));
      });
      if (failed instanceof Response) return failed;
      if (!failed.problem.retryable || attempt === ATTEMPTS) throw failed;
      await sleep(failed.retryAfter ?? 0.2 * 2 ** attempt);
    }
  }

  async #once(path: string, call: Call): Promise<Response | DailiesError> {
    const { method = "GET", body, headers, signal } = call;
    const json: Record<string, string> = body === undefined ? {} : { "Content-Type": "application/json" };
    const response = await this.#fetch(this.#url + path, {
      method,
      headers: { ...this.#headers, ...json, ...headers },
      ...(body !== undefined && { body: JSON.stringify(body) }),
      ...(signal && { signal }),
    });
    if (response.ok) return response;
    const said = response.headers.get("content-type")?.startsWith("application/problem+json");
    const after = Number(response.headers.get("retry-after") ?? NaN);
    const why = said ? ((await response.json()) as Problem) : problem(response.status, await response.text());
    return new DailiesError(why, Number.isNaN(after) ? undefined : after);
  }
}

/** What something between us and the service said, in the service's words. */
function problem(status: number, detail: string): Problem {
  const about = { type: "about:blank", title: "No answer of the service", instance: "", requestId: null };
  return { ...about, status, detail, code: "http_error", retryable: status >= 500, errors: [] };
}
