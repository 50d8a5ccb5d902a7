// The search page. Whatever comes from an offer is set as text, never as markup.
import { ask, forgetImages, keepKey, reasonLines, say, showImage, showLines } from "/static/common.js";

const form = document.getElementById("search"), list = document.getElementById("hits"), drop = document.getElementById("drop");
const file = document.getElementById("file"), preview = document.getElementById("preview"), clear = document.getElementById("clear");
const MAX_SIDE = 1600; // pixels; larger images are brought down before they are sent
let image = null, asked = 0;

keepKey(form.elements.key, () => begin());

function asDataUri(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

async function scaledDown(blob) {
  let bitmap;
  try { bitmap = await createImageBitmap(blob); } catch { return blob; } // the server reads more formats, or says why not
  const factor = MAX_SIDE / Math.max(bitmap.width, bitmap.height);
  if (factor >= 1) return blob;
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [Math.round(bitmap.width * factor), Math.round(bitmap.height * factor)];
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob((small) => resolve(small ?? blob), "image/jpeg", 0.92));
}

async function take(blob) {
  try {
    image = await asDataUri(await scaledDown(blob));
  } catch {
    say("The image cannot be read.", true);
    return;
  }
  preview.src = image;
  preview.hidden = clear.hidden = false;
  search({});
}

function removeImage() {
  image = null;
  file.value = "";
  preview.removeAttribute("src");
  preview.hidden = clear.hidden = true;
}

function linesOf(hit) {
  if (hit.reasons) return reasonLines(hit.reasons);
  return Object.entries(hit.attributes).map(([name, value]) => ["one", "", "", name, value, ""]);
}

function verdict(hit) {
  if (!hit.reasons) return ["", ""];
  if (hit.reasons.veto.length) return ["vetoed", `✗ another product: ${hit.reasons.veto.join(", ")}`];
  return hit.same ? ["agrees", "✓ likely the same product"] : ["", ""];
}

function show(hits) {
  forgetImages();
  list.replaceChildren(...hits.map((hit, place) => {
    const item = document.getElementById("hit").content.cloneNode(true).firstElementChild;
    const set = (selector, text) => { item.querySelector(selector).textContent = text; };
    const [kind, words] = verdict(hit);
    if (kind) item.classList.add(kind);
    set(".number", `${place + 1}.`);
    set(".score", kind === "vetoed" ? "veto" : `score ${hit.score.toFixed(3).replace("-", "−")}`);
    set(".verdict-of", words);
    set(".title", hit.title || "no title");
    set(".id", [hit.id, hit.category, hit.seller, hit.group && `group ${hit.group}`].filter(Boolean).join(" · "));
    showLines(item.querySelector(".reasons"), linesOf(hit));
    item.querySelector(".same-product").addEventListener("click", () => search({ offer_id: hit.id }, hit.title || hit.id));
    const link = item.querySelector(".offer-link");
    if (/^https?:\/\//i.test(hit.link)) link.href = hit.link; else link.remove();
    showImage(item.querySelector(".picture"), hit);
    return item;
  }));
}

async function search(what, name = "") {
  const fields = form.elements, body = { k: Number(fields.k.value), rerank: fields.rerank.checked, where: {}, ...what };
  for (const column of ["category", "seller"]) if (fields[column].value.trim()) body.where[column] = [fields[column].value.trim()];
  if (!body.offer_id) {
    body.text = fields.text.value;
    if (image) body.image = image;
    if (!body.text.trim() && !image) { say("Type a text, or give an image."); return; }
  }
  if (!document.getElementById("generator").hidden) body.generator = fields.generator.checked;
  const turn = ++asked;
  list.setAttribute("aria-busy", "true");
  say(name ? `Searching for the same product as ${name} …` : "Searching …");
  try {
    const found = await (await ask("/afmrl/v1/search", body)).json();
    if (turn !== asked) return;
    show(found.hits);
    const spent = Object.values(found.milliseconds).reduce((sum, one) => sum + one, 0);
    const steps = Object.entries(found.milliseconds).filter(([, one]) => one >= 1).map(([step, one]) => `${step} ${Math.round(one)}`);
    const number = found.hits.length === 1 ? "1 offer" : `${found.hits.length} offers`;
    const about = name ? `${number}, nearest to ${name}` : number;
    say([`${about}, ${Math.round(spent)} ms${steps.length > 1 ? ` (${steps.join(", ")})` : ""}.`, ...found.notes.map((note) => `${note[0].toUpperCase()}${note.slice(1)}.`)].join(" "));
    if (name) window.scrollTo({ top: 0 });
  } catch (error) {
    if (turn !== asked) return;
    list.replaceChildren();
    say(error.message, true);
  } finally {
    if (turn === asked) list.removeAttribute("aria-busy");
  }
}

form.addEventListener("submit", (event) => { event.preventDefault(); search({}); });
file.addEventListener("change", () => { if (file.files[0]) take(file.files[0]); });
clear.addEventListener("click", removeImage);
for (const name of ["dragenter", "dragover"]) document.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
for (const name of ["dragleave", "drop"]) document.addEventListener(name, () => drop.classList.remove("over"));
document.addEventListener("drop", (event) => { event.preventDefault(); if (event.dataTransfer?.files[0]) take(event.dataTransfer.files[0]); });
document.addEventListener("paste", (event) => {
  const pasted = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
  if (pasted) { event.preventDefault(); take(pasted); }
});

async function begin() {
  try {
    const info = await (await ask("/info")).json();
    document.getElementById("generator").hidden = !info.generator;
    say(`${info.rows.toLocaleString("en")} offers.`);
    const values = await (await ask("/afmrl/v1/filters")).json();
    for (const column of ["category", "seller"]) {
      form.elements[column].closest("label").hidden = !values[column].length;
      document.getElementById(`${column}-values`).replaceChildren(...values[column].map((value) => {
        const option = document.createElement("option");
        option.value = value;
        return option;
      }));
    }
    const wanted = new URLSearchParams(location.search).get("text"); // an address that can be passed on
    if (wanted) { form.elements.text.value = wanted; search({}); }
  } catch (error) { say(error.message, true); }
}
begin();
