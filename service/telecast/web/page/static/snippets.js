// What a stream is asked for, as a command or a program that somebody can paste. Pure.

const QUOTED = /^[A-Za-z0-9_@%+=:,./~-]+$/;

function shell(text) {
  return QUOTED.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

// `asked` is {transport, channels: [], filter: {field: [value]}, since, delivery, maxRate}; `base` is
// the address of the service, without a slash at its end. What is usual is left out.
export function queryOf({ channels, filter, since, delivery, maxRate }) {
  const query = new URLSearchParams();
  query.set("channels", channels.join(","));
  for (const [field, values] of Object.entries(filter)) for (const value of values) query.append(field, value);
  if (since) query.set("since", since);
  if (delivery === "all") query.set("delivery", "all");
  if (maxRate) query.set("maxRate", maxRate);
  return query;
}

const python = (value) => JSON.stringify(value); // texts, numbers and lists of them read alike

const MAKERS = {
  curl: (asked, base) => `curl -N -H "X-API-Key: $TELECAST_KEY" ${shell(`${base}/sse/telemetry?${queryOf(asked)}`)}`,
  wscat: (asked, base) =>
    `wscat -s telecast.v1 -H "X-API-Key: $TELECAST_KEY" -c ${shell(`${base.replace(/^http/, "ws")}/ws/telemetry?${queryOf(asked)}`)}`,
  tail: ({ transport, channels, filter, since, delivery, maxRate }, base) => [
    "telecast tail", ...channels.map(shell), "--url", shell(base), transport === "sse" ? "--sse" : "--ws",
    ...Object.entries(filter).flatMap(([field, values]) => values.map((value) => `--filter ${shell(`${field}=${value}`)}`)),
    ...(since ? [`--since=${shell(since)}`] : []), ...(delivery === "all" ? ["--delivery all"] : []),
    ...(maxRate ? [`--max-rate ${maxRate}`] : []),
  ].join(" "),
  python: ({ channels, filter, since, delivery, maxRate }, base) => {
    const options = [
      ...(since ? [`since=${python(since)}`] : []), `delivery=${python(delivery || "conflated")}`,
      ...(maxRate ? [`max_rate=${maxRate}`] : []),
      ...Object.entries(filter).map(([field, values]) => `${field}=${python(values)}`),
    ];
    return [
      "import asyncio", "import os", "", "from telecast.client import Client", "", "", "async def main():",
      `    async with Client(${python(base)}, key=os.environ["TELECAST_KEY"]) as telecast:`,
      `        async for change in telecast.follow(${[...channels.map(python), ...options].join(", ")}):`,
      "            print(change.channel, change.op, change.key, change.row)", "", "", "asyncio.run(main())",
    ].join("\n");
  },
  javascript: ({ channels, filter, since, delivery }, base) => [
    'import { Client } from "./telecast.mjs"; // curl -o telecast.mjs ' + `${base}/client/telecast.js`, "",
    `const telecast = new Client(${JSON.stringify(base)}, { key: process.env.TELECAST_KEY });`,
    `for await (const change of telecast.follow(${JSON.stringify(channels)}, ${JSON.stringify({ since: since || null, delivery: delivery || "conflated", filter })})) {`,
    "  if (change.event) console.log(change.channel, change.op, change.key, change.row);", "}",
  ].join("\n"),
};

export const KINDS = Object.keys(MAKERS);

export function snippet(kind, asked, base) {
  return MAKERS[kind](asked, base);
}

export function publishSnippet(channel, payload, base) {
  const address = `${base}/api/v1/channels/${encodeURIComponent(channel)}/events`;
  return `curl -H "X-API-Key: $TELECAST_KEY" -H "Content-Type: application/json" -d ${shell(JSON.stringify(payload))} ${shell(address)}`;
}
