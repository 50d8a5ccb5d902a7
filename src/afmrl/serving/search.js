// The search page. Whatever comes from an offer is set as text, never as markup.
const form = document.getElementById("search"), list = document.getElementById("hits");
const status = document.getElementById("status"), drop = document.getElementById("drop");
const file = document.getElementById("file"), preview = document.getElementById("preview");
const clear = document.getElementById("clear"), keyRow = document.getElementById("key");
const MAX_SIDE = 1600; // pixels; larger images are brought down before they are sent
const MAX_LINES = 12; // of what differs
let image = null, asked = 0, urls = [];

form.elements.key.value = sessionStorage.getItem("afmrl-key") ?? "";
form.elements.key.addEventListener("change", () => { sessionStorage.setItem("afmrl-key", form.elements.key.value); begin(); });

function headers() {
  const key = form.elements.key.value;
  return key ? { Authorization: `Bearer ${key}` } : {};
}

async function ask(path, body) {
  const options = { headers: headers() };
  if (body !== undefined) {
    options.method = "POST";
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  const answer = await fetch(path, options);
  if (answer.ok) return answer;
  if (answer.status === 401) { keyRow.hidden = false; form.elements.key.focus(); }
  let message = `the server answered ${answer.status}`;
  try { message = (await answer.json()).error.message; } catch { /* no JSON: the status says it */ }
  throw new Error(message);
}

function say(text, wrong = false) {
  status.textContent = text || "\u00a0";
  status.classList.toggle("wrong", wrong);
}

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

function compared(of) { return of.left === of.right ? of.left : `${of.left} | ${of.right}`; }

function remark(sources) { return [...new Set(sources)].filter((one) => one !== "extracted").join(" and "); }

function linesOf(hit) {
  const lines = [], why = hit.reasons;
  if (!why) return Object.entries(hit.attributes).map(([key, value]) => ["one", "", "", key, value, ""]);
  for (const [key, of] of Object.entries(why.differ)) {
    const veto = why.veto.includes(key);
    lines.push([veto ? "ne strong" : "ne", "≠ ", veto ? "vetoes: " : "differs: ", key, compared(of), remark(of.from)]);
  }
  const shown = Object.keys(why.differ);
  for (const key of why.veto.filter((one) => !shown.includes(one))) lines.push(["ne strong", "≠ ", "vetoes: ", key, "", ""]);
  const together = (css, sign, spoken, values) => {
    const texts = Object.entries(values).map(([key, of]) => `${key} ${of.value ?? compared(of)}`);
    if (texts.length) lines.push([css, sign, spoken, "", texts.join(" · "), ""]);
  };
  lines.splice(MAX_LINES);
  together("eq", "= ", "agree: ", why.agree);
  together("eq", "+ ", "this offer alone: ", why.only_right);
  return lines;
}

async function showImage(place, hit) {
  if (!hit.image) return;
  const picture = document.createElement("img");
  picture.alt = `Image of ${hit.title || hit.id}`;
  picture.loading = "lazy";
  picture.addEventListener("load", () => place.replaceChildren(picture));
  try {
    if (form.elements.key.value) { // an <img> sends no key
      const url = URL.createObjectURL(await (await ask(hit.image)).blob());
      urls.push(url);
      picture.src = url;
    } else {
      picture.loading = "eager";
      picture.src = hit.image;
    }
  } catch { /* it stays "no image" */ }
}

function verdict(hit) {
  if (!hit.reasons) return ["", ""];
  if (hit.reasons.veto.length) return ["vetoed", `✗ another product: ${hit.reasons.veto.join(", ")}`];
  return hit.score > 0 ? ["agrees", "✓ likely the same product"] : ["", ""];
}

function show(hits) {
  urls.forEach((url) => URL.revokeObjectURL(url));
  urls = [];
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
    item.querySelector(".reasons").replaceChildren(...linesOf(hit).map(([css, sign, spoken, key, value, source]) => {
      const line = document.getElementById("line").content.cloneNode(true).firstElementChild;
      line.className = sign ? css : `${css} bare`;
      const [first, voice, name, what, from] = line.children;
      first.className = "sign";
      first.textContent = sign;
      voice.textContent = spoken;
      name.textContent = key;
      what.textContent = value;
      from.textContent = source ? `(${source})` : "";
      return line;
    }));
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
