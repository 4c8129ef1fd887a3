// Reads {verify: [{secret, headers, body}], sign: [{secret, id, timestamp, body}]} and answers what the official library makes of each.
import { readFileSync } from "node:fs";
import { Webhook } from "standardwebhooks";

const cases = JSON.parse(readFileSync(0, "utf8"));

const verified = cases.verify.map(({ secret, headers, body }) => {
  try {
    const event = new Webhook(secret).verify(body, headers);
    return { ok: true, same: JSON.stringify(event) === body };
  } catch (error) {
    return { ok: false, problem: error.message };
  }
});

const signed = cases.sign.map(({ secret, id, timestamp, body }) =>
  new Webhook(secret).sign(id, new Date(timestamp * 1000), body),
);

process.stdout.write(JSON.stringify({ verified, signed }));
