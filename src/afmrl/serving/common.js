// What both pages share: asking the server with a key, an offer's image, the lines of reasons.
const MAX_LINES = 12; // of what differs
let urls = [];

export const key = {
  get value() { return sessionStorage.getItem("afmrl-key") ?? ""; },
  set value(text) { sessionStorage.setItem("afmrl-key", text); },
};

// Let a field hold the key; it is shown once the server asks for one.
export function keepKey(field, again) {
  field.value = key.value;
  field.addEventListener("change", () => { key.value = field.value; again(); });
}

export async function ask(path, body) {
  const options = { headers: key.value ? { Authorization: `Bearer ${key.value}` } : {} };
  if (body !== undefined) {
    options.method = "POST";
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  const answer = await fetch(path, options);
  if (answer.ok) return answer;
  if (answer.status === 401 || answer.status === 403) document.getElementById("key").hidden = false;
  let message = `the server answered ${answer.status}`;
  try { message = (await answer.json()).error.message; } catch { /* no JSON: the status says it */ }
  throw Object.assign(new Error(message), { status: answer.status });
}

export function say(text, wrong = false) {
  const status = document.getElementById("status");
  status.textContent = text || "\u00a0";
  status.classList.toggle("wrong", wrong);
}

export function forgetImages() {
  urls.forEach((url) => URL.revokeObjectURL(url));
  urls = [];
}

export async function showImage(place, offer) {
  if (!offer.image) return;
  const picture = document.createElement("img");
  picture.alt = `Image of ${offer.title || offer.id}`;
  picture.addEventListener("load", () => place.replaceChildren(picture));
  if (!key.value) { picture.src = offer.image; return; }
  try { // an <img> sends no key
    const url = URL.createObjectURL(await (await ask(offer.image)).blob());
    urls.push(url);
    picture.src = url;
  } catch { /* it stays "no image" */ }
}

function compared(of) { return of.left === of.right ? of.left : `${of.left} | ${of.right}`; }

function remark(sources) { return [...new Set(sources)].filter((one) => one !== "extracted").join(" and "); }

// Reasons as lines: what differs one by one, what agrees and what one side alone says together.
export function reasonLines(why, alone = { only_right: "this offer alone: " }) {
  const lines = [];
  for (const [name, of] of Object.entries(why.differ)) {
    const veto = why.veto.includes(name);
    lines.push([veto ? "ne strong" : "ne", "≠ ", veto ? "vetoes: " : "differs: ", name, compared(of), remark(of.from)]);
  }
  for (const name of why.veto.filter((one) => !(one in why.differ))) lines.push(["ne strong", "≠ ", "vetoes: ", name, "", ""]);
  lines.splice(MAX_LINES);
  const together = (sign, spoken, values, shown) => {
    const texts = Object.entries(values).map(([name, of]) => `${name} ${of.value ?? compared(of)}`);
    if (texts.length) lines.push(["eq", sign, spoken, "", texts.join(" · "), shown]);
  };
  together("= ", "agree: ", why.agree, "");
  for (const [side, spoken] of Object.entries(alone)) together("+ ", spoken, why[side], Object.keys(alone).length > 1 ? spoken.replace(": ", "") : "");
  return lines;
}

export function showLines(list, lines) {
  list.replaceChildren(...lines.map(([css, sign, spoken, name, value, source]) => {
    const line = document.getElementById("line").content.cloneNode(true).firstElementChild;
    line.className = sign ? css : `${css} bare`;
    [sign, spoken, name, value, source ? `(${source})` : ""].forEach((text, place) => { line.children[place].textContent = text; });
    return line;
  }));
}
