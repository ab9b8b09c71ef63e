// An agent in Node.js, without a package: what time it is in one city when it is some time in another.
//
// A line of JSON comes in for each task, and one goes back; docs/agents/protocol.md is the form.

import { createInterface } from "node:readline";

const ZONES = new Map(
  Intl.supportedValuesOf("timeZone").map((zone) => [zone.split("/").pop().replaceAll("_", " ").toLowerCase(), zone]),
);
const CITY = "([a-z][a-z ]*?)";
const BETWEEN = new RegExp(`time (?:is it )?in ${CITY} when it is (\\d{1,2}):(\\d{2}) in ${CITY}\\s*\\??$`);
const AND_IN = new RegExp(`^and (?:what time is it )?in ${CITY}\\s*\\??$`);

/** One of answer, refused and failed, and what belongs to it. */
function answer(task, interactions) {
  const asked = question(task.text, interactions);
  if (asked === null) return { refused: "this agent tells the time in one city when it is some time in another" };
  const { there, hour, minute, here } = asked;
  for (const city of [there, here]) {
    if (!ZONES.has(city)) return { failed: `I know no time zone for ${city}` };
  }
  if (hour > 23 || minute > 59) return { failed: "that is no time of day", error_class: "WRONG_INPUT" };
  const shown = show(instant(hour, minute, ZONES.get(here)), ZONES.get(there));
  return {
    answer: `When it is ${pad(hour)}:${pad(minute)} in ${name(here)}, it is ${shown} in ${name(there)}.`,
    confidence: 0.97,
    vote_key: `${shown} ${there}`,
    payload: { zone: ZONES.get(there), time: shown },
    citations: [`IANA time zone database ${process.versions.tz}`],
  };
}

/** What is asked; "and what time is it in Sydney?" takes the rest from the question before it in the conversation. */
function question(text, interactions) {
  const lower = text.toLowerCase().trim();
  const whole = BETWEEN.exec(lower);
  if (whole) return { there: whole[1], hour: Number(whole[2]), minute: Number(whole[3]), here: whole[4] };
  const more = AND_IN.exec(lower);
  const before = more && interactions.map((each) => BETWEEN.exec(each.asked.toLowerCase().trim())).findLast(Boolean);
  return before ? { there: more[1], hour: Number(before[2]), minute: Number(before[3]), here: before[4] } : null;
}

/** The moment of today at which clocks in the zone show this time. */
function instant(hour, minute, zone) {
  const guess = new Date();
  guess.setUTCHours(hour, minute, 0, 0);
  const [h, m] = show(guess, zone).split(":").map(Number);
  const off = ((h - hour) * 60 + (m - minute) + 2160) % 1440 - 720; // half a day either way
  return new Date(guess.getTime() - off * 60_000);
}

function show(moment, zone) {
  return new Intl.DateTimeFormat("en-GB", { timeZone: zone, hour: "2-digit", minute: "2-digit" }).format(moment);
}

const pad = (number) => String(number).padStart(2, "0");
const name = (city) => city.replace(/(^| )[a-z]/g, (letter) => letter.toUpperCase());

for await (const line of createInterface({ input: process.stdin })) {
  const { id, task, context } = JSON.parse(line);
  process.stdout.write(`${JSON.stringify({ id, ...answer(task, context.interactions) })}\n`);
}
