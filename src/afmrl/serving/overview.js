// The overview: what the server serves, how it does, what became of the groups. All of it is set as text.
import { ask, keepKey, say } from "/static/common.js";

const SECONDS = 10; // between two looks
const byId = (name) => document.getElementById(name);
const count = (number) => number.toLocaleString("en");

keepKey(document.forms[0].elements.key, () => look());
document.forms[0].addEventListener("submit", (event) => event.preventDefault());

function element(name, text, css = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (css) made.className = css;
  return made;
}

function show(list, pairs) {
  list.replaceChildren(...pairs.map(([name, value, css]) => {
    const pair = document.createElement("div");
    if (css) pair.className = css;
    pair.append(element("dt", name), element("dd", value));
    return pair;
  }));
}

function since(seconds) {
  const [unit, size] = [["days", 86400], ["hours", 3600], ["minutes", 60]].find(([, size]) => seconds >= 2 * size) ?? ["seconds", 1];
  return `${Math.floor(seconds / size)} ${unit}`;
}

function showMatch(match) {
  for (const part of ["changes-part", "out-part"]) byId(part).hidden = !match;
  byId("groups").hidden = !match;
  byId("match-about").textContent = match ? `Of the match that was written ${match.written.replace("T", " ").replace("Z", " UTC")}.` : "This server was started without --matches.";
  if (!match) return;
  show(byId("groups"), [
    ["offers", count(match.offers)], ["groups of two or more", count(match.groups)], ["offers in them", count(match.offers_in_groups)],
    ["largest group", count(match.largest_group)], ["pairs vetoed", count(match.pairs_vetoed)], ["offers to review", count(match.offers_to_review)],
  ]);
  byId("changes-about").textContent = match.changes ? "Groups, by what became of them." : match.events.length ? "The newest events." : "There was no earlier run to compare with.";
  show(byId("changes"), Object.entries(match.changes ?? {}).map(([name, number]) => [name, count(number), number ? "" : "none"]));
  byId("events").replaceChildren(...match.events.map((event) => {
    const line = document.createElement("li");
    line.append(element("b", event.change), " ", element("span", event.about.join(", "), "ids"));
    if (event.into.length) line.append(" → ", element("span", event.into.join(", "), "ids"));
    const more = [event.why, event.when.replace("T", " ").replace("+00:00", " UTC")].filter(Boolean).join(" · ");
    if (more) line.append(" ", element("span", more, "hint"));
    return line;
  }));
  byId("out-about").textContent = match.num_left_out ? `${count(match.num_left_out)} rows or images of the catalog, by reason.` : "Every row and image of the catalog was taken.";
  byId("left-out").replaceChildren(...match.left_out.map((one) => {
    const line = document.createElement("li");
    line.append(element("b", count(one.number)), " ", element("span", one.reason), " ", element("span", one.lost === "row" ? "the row" : "the image alone", "hint"));
    return line;
  }));
}

function showLoad(load) {
  const busy = load.seconds ? load.model_seconds / load.seconds : 0;
  byId("load-about").textContent = `Since the start ${since(load.seconds)} ago.`;
  show(byId("load"), [
    ["requests", count(load.requests)], ["refused, no room", count(load.refused), load.refused ? "bad" : "none"],
    ["failed", count(load.failed), load.failed ? "bad" : "none"], ["inputs embedded", count(load.inputs)],
    ["inputs a pass", load.passes ? (load.inputs / load.passes).toFixed(1) : "–"],
    ["model busy", `${Math.round(100 * busy)} %`],
  ]);
}

function showVersions(served) {
  show(byId("versions"), [
    ["afmrl", served.afmrl], ["model", served.model_version ? `${served.model}, ${served.model_version.slice(0, 12)}` : served.model],
    ["index", `${served.index}, ${count(served.rows)} offers × ${served.dimension}`], ["generator", served.generator ? "yes" : "none"],
  ]);
}

async function look() {
  try {
    const found = await (await ask("/afmrl/v1/overview")).json();
    showMatch(found.match);
    showLoad(found.load);
    showVersions(found.served);
    byId("overview").hidden = false;
    say("");
  } catch (error) { say(error.message, true); }
}

look();
setInterval(() => { if (!document.hidden) look(); }, 1000 * SECONDS);
