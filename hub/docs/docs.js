/* The search, which looks through an index that the hub serves, and a button that copies a block. */

const form = document.querySelector("#search");
const field = form.querySelector("input");
const results = form.querySelector("#results");
const MOST = 12;
const AROUND = 70;
let asked;

/** Every section of every page; asked for once. */
function sections() {
  asked ??= fetch(new URL("search.json", import.meta.url)).then((answer) => {
    if (!answer.ok) throw new Error(`search.json: ${answer.status}`);
    return answer.json();
  });
  asked.catch(() => { asked = undefined; });
  return asked;
}

/** How well a section fits: every word has to stand in it. In its heading, or together, they count more. */
function score(section, words) {
  const title = section.title.toLowerCase();
  const heading = section.heading.toLowerCase();
  const text = section.text.toLowerCase();
  let sum = 0;
  for (const word of words) {
    const found = (title.includes(word) ? 6 : 0) + (heading.includes(word) ? 5 : 0) + (text.includes(word) ? 1 : 0);
    if (found === 0) return 0;
    sum += found;
  }
  return sum + (words.length > 1 && text.includes(words.join(" ")) ? 8 : 0);
}

/** The text around where the words stand together, or else the first one, with all of them marked. */
function excerpt(text, words) {
  const lower = text.toLowerCase();
  const places = [words.join(" "), ...words].map((word) => lower.indexOf(word)).filter((at) => at >= 0);
  const together = lower.includes(words.join(" "));
  const first = together ? places[0] : Math.min(...places, text.length);
  const from = first === text.length ? 0 : Math.max(0, first - AROUND);
  const piece = text.slice(from, from + 3 * AROUND);
  const pattern = new RegExp(`(${words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|")})`, "gi");
  const small = document.createElement("small");
  if (from > 0) small.append("… ");
  for (const [index, part] of piece.split(pattern).entries()) {
    if (index % 2 === 0) small.append(part);
    else small.append(Object.assign(document.createElement("mark"), { textContent: part }));
  }
  return small;
}

function row(section, words) {
  const link = document.createElement("a");
  const address = new URL(section.page || "../docs", import.meta.url);
  address.hash = section.anchor;
  link.href = address.href;
  const strong = document.createElement("strong");
  strong.textContent = section.heading === section.title ? section.title : `${section.title}: ${section.heading}`;
  link.append(strong, excerpt(section.text, words));
  const item = document.createElement("li");
  item.append(link);
  return item;
}

async function look() {
  const asking = field.value;
  const words = asking.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) {
    results.hidden = true;
    return;
  }
  const status = results.querySelector("p");
  let found = [];
  try {
    const all = await sections();
    if (field.value !== asking) return;
    found = all.map((section) => [score(section, words), section]).filter(([points]) => points > 0);
    found.sort(([one], [other]) => other - one);
    const more = found.length > MOST ? `the best ${MOST} of ` : "";
    status.textContent = found.length === 0 ? "Nothing has all of these words." : `${more}${found.length} found`;
  } catch {
    status.textContent = "The hub does not answer, so nothing can be searched now.";
  }
  results.querySelector("ul").replaceChildren(...found.slice(0, MOST).map(([, section]) => row(section, words)));
  results.hidden = false;
}

form.hidden = false;
field.addEventListener("focus", () => sections().catch(() => {}), { once: true });
field.addEventListener("input", look);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  results.querySelector("a")?.click();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !/^(INPUT|TEXTAREA)$/.test(document.activeElement.tagName)) {
    event.preventDefault();
    field.focus();
  } else if (event.key === "Escape") {
    results.hidden = true;
  } else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && !results.hidden) {
    const stops = [field, ...results.querySelectorAll("a")];
    const at = stops.indexOf(document.activeElement);
    if (at < 0) return;
    event.preventDefault();
    stops[(at + (event.key === "ArrowDown" ? 1 : stops.length - 1)) % stops.length].focus();
  }
});
document.addEventListener("click", (event) => {
  // A link to another place of this page leaves the page as it is.
  if (!form.contains(event.target) || event.target.closest("#results a")) results.hidden = true;
});
field.addEventListener("focus", () => { if (field.value) results.hidden = false; });

// A page without TLS, and not of this machine, may not write to the clipboard.
for (const pre of navigator.clipboard ? document.querySelectorAll("main pre") : []) {
  const block = document.createElement("div");
  block.className = "block";
  const button = Object.assign(document.createElement("button"), { type: "button", className: "copy", textContent: "Copy" });
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(pre.textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  pre.replaceWith(block);
  block.append(pre, button);
}

// Where the list of pages has a column of its own, it shows the page that is open.
const sidebar = document.querySelector("#documents");
const current = sidebar.querySelector("[aria-current]");
if (current && getComputedStyle(sidebar).position === "sticky") {
  sidebar.scrollTop = current.offsetTop - sidebar.clientHeight / 2;
}
