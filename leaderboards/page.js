"use strict";
const board = document.getElementById("board");
const lines = () => [...board.tBodies[0].rows];
board.querySelectorAll("thead th").forEach((head, place) => head.querySelector("button")?.addEventListener("click", () => {
  const down = head.getAttribute("aria-sort") !== "descending";
  board.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const value = (line) => line.cells[place].dataset.value;
  board.tBodies[0].append(...lines().sort((one, other) => {
    const [a, b] = down ? [value(other), value(one)] : [value(one), value(other)];
    if (a === "" || b === "") return (value(one) === "") - (value(other) === "");
    return isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b;
  }));
}));

const filter = document.getElementById("filter");
filter.addEventListener("input", () => {
  const words = filter.value.toLowerCase().split(/\s+/);
  lines().forEach((line) => { line.hidden = !words.every((word) => line.dataset.text.includes(word)); });
  document.getElementById("shown").textContent = `${lines().filter((line) => !line.hidden).length} of ${lines().length} rows`;
});

document.querySelectorAll(".copy button").forEach((button) => button.addEventListener("click", async () => {
  const code = button.parentElement.querySelector("code");
  getSelection().selectAllChildren(code);
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "copied";
  } catch { button.textContent = "selected"; }
  // What is read aloud is what is seen from now on.
  button.removeAttribute("aria-label");
}));

const unfold = () => {
  const row = document.getElementById(location.hash.slice(1));
  if (row && row.tagName === "DETAILS") { row.open = true; row.scrollIntoView(); }
};
addEventListener("hashchange", unfold);
// A link to where one is already changes no hash.
document.querySelectorAll('a[href^="#"]').forEach((link) => link.addEventListener("click", () => setTimeout(unfold)));
unfold();

const [first, second, found] = ["first", "second", "found"].map((id) => document.getElementById(id));
if (first) {
  const { unit, slices, means, pairs } = JSON.parse(document.getElementById("comparisons").textContent);
  // What rounds to zero has no sign of its own.
  const rounded = (value, digits) => { const text = value.toFixed(digits); return Number(text) ? text : text.replace("-", ""); };
  const signed = (value) => { const text = rounded(value, 4); return Number(text) < 0 ? text : "+" + text; };
  const element = (tag, text, into) => { const made = document.createElement(tag); made.textContent = text; into.append(made); return made; };
  const grid = (into) => {
    const scroll = element("div", "", into);
    scroll.className = "wide"; scroll.tabIndex = 0; scroll.setAttribute("role", "region"); scroll.setAttribute("aria-label", "Differences by slice");
    const table = element("table", "", scroll);
    const head = table.createTHead().insertRow();
    ["Slice", "Users", "Difference", "95% interval", ""].forEach((title) => element("th", title, head).setAttribute("scope", "col"));
    return table.createTBody();
  };
  const show = () => {
    found.replaceChildren();
    const [one, other] = [Number(first.value), Number(second.value)];
    if (one === other) { element("p", "Choose two different rows.", found); return; }
    // Pairs are in the order of the rows: the better one first.
    const [better, worse, sign] = one < other ? [one, other, 1] : [other, one, -1];
    const count = means.length;
    const [difference, low, high, p, differs, effect, detectable, methods, ends] = pairs[better * count - better * (better + 1) / 2 + worse - better - 1];
    const span = (from, to) => sign > 0 ? `${signed(from)} to ${signed(to)}` : `${signed(-to)} to ${signed(-from)}`;
    const about = methods ? "." : `, and this is about these trained weights alone, for a row has fewer than ${found.dataset.seeds} seeds.`;
    element("p", `NDCG@10: ${signed(sign * difference)}, 95% interval ${span(low, high)}; ${p}, effect ${rounded(sign * effect, 2)}, detectable ${detectable.toFixed(4)}: ${differs ? "they differ" : "not shown to differ"}${about}`, found);
    const body = grid(found);
    slices.forEach(([name, users], place) => {
      const apart = sign * (means[better][place] - means[worse][place]) * unit;
      const [from, to] = [ends[2 * place] * unit, ends[2 * place + 1] * unit];
      const line = body.insertRow();
      [name, users.toLocaleString("en"), signed(apart), span(from, to), from > 0 || to < 0 ? "differs here" : ""].forEach((text) => element("td", text, line));
    });
  };
  first.addEventListener("change", show);
  second.addEventListener("change", show);
  show();
}
