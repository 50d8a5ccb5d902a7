// The review page: one pair at a time, one key a verdict. Whatever comes from an offer is set as text.
import { ask, forgetImages, keepKey, reasonLines, say, showImage, showLines } from "/static/common.js";

const form = document.getElementById("who"), article = document.getElementById("pair"), judge = document.getElementById("judge");
let pair = null, skipped = [], busy = false;

form.elements.who.value = localStorage.getItem("afmrl-who") ?? "";
form.elements.who.addEventListener("change", () => localStorage.setItem("afmrl-who", form.elements.who.value.trim()));
form.addEventListener("submit", (event) => event.preventDefault());
keepKey(form.elements.key, () => next());

function who() { return form.elements.who.value.trim(); }

function showOffer(place, offer) {
  place.replaceChildren(document.getElementById("offer").content.cloneNode(true));
  place.querySelector(".title").textContent = offer.title || "no title";
  place.querySelector(".id").textContent = [offer.id, offer.category, offer.seller].filter(Boolean).join(" · ");
  place.querySelector(".description").textContent = offer.description;
  showImage(place.querySelector(".picture"), offer);
}

function showModel() {
  const blind = form.elements.blind.checked;
  for (const name of ["model", "reasons"]) document.getElementById(name).hidden = blind;
  if (!pair || blind) return;
  const veto = pair.reasons.veto.length ? `, vetoed by ${pair.reasons.veto.join(", ")}` : "";
  document.getElementById("model").textContent = `The match says: ${pair.same ? "same" : "different"}, probability ${pair.probability.toFixed(2)}${veto}.`;
  showLines(document.getElementById("reasons"), reasonLines(pair.reasons, { only_left: "left alone: ", only_right: "right alone: " }));
}

function showProgress(progress) {
  const { judged, mean, low, high } = progress.precision;
  const percent = (share) => Math.round(100 * share);
  const precision = mean === null ? "" : ` Precision by ${judged} drawn at random: ${percent(mean)} % [${percent(low)}, ${percent(high)}].`;
  document.getElementById("progress").textContent = `${progress.judged} judged, ${progress.left} left.${precision}`;
}

async function next() {
  const query = skipped.map((one) => `skip=${encodeURIComponent(one)}`).join("&");
  try {
    const answer = await (await ask(`/afmrl/v1/review${query && `?${query}`}`)).json();
    pair = answer.pair;
    article.hidden = !pair;
    judge.hidden = false;
    showProgress(answer.progress);
    forgetImages();
    if (!pair) { say(skipped.length ? "Only what you put off is left; reload the page to see it." : "All pairs are judged."); return; }
    showOffer(document.getElementById("left"), pair.left);
    showOffer(document.getElementById("right"), pair.right);
    showModel();
  } catch (error) { say(error.message, true); }
}

async function once(work) {
  if (busy) return;
  busy = true;
  try { await work(); } catch (error) {
    say(error.message, true);
    if (error.status === 409) await next();
  } finally { busy = false; }
}

function verdict(name) {
  return once(async () => {
    if (!pair) return;
    const { left, right } = pair;
    await ask("/afmrl/v1/verdicts", { left: left.id, right: right.id, verdict: name, who: who(), after: 0 });
    say(`${left.title || left.id} and ${right.title || right.id}: ${name}.`);
    await next();
  });
}

function undo() {
  return once(async () => {
    const entry = await (await ask("/afmrl/v1/verdicts/undo", { who: who() })).json();
    say(`Taken back: ${entry.left} and ${entry.right}.`);
    await next();
  });
}

function later() {
  return once(async () => {
    if (!pair) return;
    skipped = [...skipped, pair.left.id, pair.right.id].slice(-200);
    await next();
  });
}

function hide() {
  form.elements.blind.checked = !form.elements.blind.checked;
  showModel();
}

for (const button of judge.querySelectorAll("[data-verdict]")) button.addEventListener("click", () => verdict(button.dataset.verdict));
document.getElementById("undo").addEventListener("click", undo);
document.getElementById("later").addEventListener("click", later);
form.elements.blind.addEventListener("change", showModel);
const KEYS = { s: () => verdict("same"), d: () => verdict("different"), v: () => verdict("variant"), u: () => verdict("unsure"), l: later, z: undo, b: hide };
document.addEventListener("keydown", (event) => {
  const typing = event.target instanceof HTMLInputElement && event.target.type !== "checkbox";
  if (typing || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  KEYS[event.key.toLowerCase()]?.();
});
next();
