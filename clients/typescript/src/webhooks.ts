/** Receiving webhooks: the official Standard Webhooks library, typed. */
import { Webhook } from "standardwebhooks";
import type { WebhookEvent } from "./schema.js";

/** A webhook's body, once its signature over the raw text is verified; throws when it is not ours or too old. */
export function verify(secret: string, body: string, headers: Headers | Record<string, string>): WebhookEvent {
  const given = headers instanceof Headers ? Object.fromEntries(headers) : headers;
  return new Webhook(secret).verify(body, given) as WebhookEvent;
}
