// SPDX-License-Identifier: Apache-2.0
// The page: head, filters, keys and theme, and the order in which the rest comes to be.

const KEYS = [
  ["/", "search"], ["T", "light or dark"], ["?", "these keys"], ["Esc", "close, or leave the search"], ["R", "no filters"],
  ["M", "go to the memory map"], ["F", "go to the flame graph"],
  ["← →", "in the map: earlier, later"], ["↑ ↓", "in the map: higher, lower addresses"], ["+ −", "zoom in time"], ["[ ]", "zoom in addresses"], ["0", "show everything"],
  ["N P", "next, previous life or event"], ["E", "next excess free, failure or overlap; with Shift the previous one"], ["Enter", "stacks of the chosen one; in the flame graph: zoom"],
];

function head(data) {
  const { integrity } = data.report;
  const [first] = integrity.processes;
  const command = first ? (first.command || `process ${first.pid}`) : "Nothing was recorded";
  byId("title").textContent = integrity.processes.length > 1 ? `${count(integrity.processes.length)} processes` : command;
  byId("title").title = command;
  const start = integrity.start_ns === null ? null : `${new Date(Number(BigInt(integrity.start_ns) / 1000000n)).toISOString().slice(0, 19).replace("T", " ")} UTC`;
  const words = [start, first?.pid > 0 && integrity.processes.length === 1 ? `pid ${first.pid}` : null, first?.host, plural(integrity.events, "event"),
    CLOCKS[first?.origin] ? null : `over ${lasting(data.last - data.first)}`];
  byId("subtitle").textContent = words.filter(Boolean).join("  ·  ");
  document.title = `${byId("title").textContent.slice(0, 60)} – tt-buftrace`;
  byId("footer").textContent = `Made by tt-buftrace ${data.version}. All of it is in this file; nothing is loaded from anywhere.`;
}

const SOURCES = {
  "allocation-server": "From the log of an allocation server: it has lines for times, no threads or stacks, and tells no buffers apart, so that no verdict is confirmed.",
  "graph-capture": "From a graph capture: it has nodes for times, and operations for stacks.",
};

/** How far the trace can be trusted, in words. */
function integrityPanel(data) {
  const { integrity } = data.report;
  const lost = integrity.losses.reduce((sum, loss) => sum + loss.events, 0);
  const serious = [];
  const notes = [];
  integrity.losses.forEach((loss) => serious.push(`${plural(loss.events, "event")} lost in ${plural(loss.gaps, "gap")}: ${loss.cause}.`));
  if (integrity.unaccounted) serious.push(`${count(integrity.unaccounted)} events were sent that are neither here nor known to be lost.`);
  integrity.problems.forEach((problem) => serious.push(problem));
  if (integrity.selected) notes.push(`Only ${integrity.selected.only}.`, ...integrity.selected.unmatched.map((what) => `${what}.`));
  for (const [what, rows] of [["stacks", integrity.stacks], ["Python parts of stacks", integrity.python_stacks]]) {
    const cut = rows.filter((row) => row.name !== "complete").map((row) => `${count(row.value)} ${row.name}`);
    if (cut.length > 0) notes.push(`Of ${count(rows.reduce((sum, row) => sum + row.value, 0))} ${what} not all are whole: ${cut.join(", ")}.`);
  }
  if (integrity.never_fired.length > 0) notes.push(`Probes that never fired: ${integrity.never_fired.join(", ")}.`);
  const origins = new Set(integrity.processes.map((row) => row.origin).filter(Boolean));
  origins.forEach((origin) => notes.push(SOURCES[origin] ?? `Imported: ${origin}.`));
  const good = serious.length === 0;
  const summary = good ? `Complete: ${plural(integrity.events, "event")}, none lost.`
    : lost > 0 ? `Incomplete: ${plural(lost, "event")} lost. What a loss could change is only possible, never confirmed.` : "Read what is odd about this trace first.";
  replace(byId("integrity"), el("p", { class: good ? "trust good" : "trust bad" }, summary),
    serious.map((words) => el("p", { class: "problem" }, words)), notes.map((words) => el("p", { class: "note" }, words)),
    integrity.processes.length > 1 ? el("details", {}, el("summary", {}, "Processes"), el("ul", {}, integrity.processes.map((row) =>
      el("li", {}, `${row.process}: ${row.pid > 0 ? `pid ${row.pid}` : "pid not known"}${row.host ? ` on ${row.host}` : ""}, ${row.parent ? `forked from ${row.parent}` : row.command}, ${row.reason ?? "cut"}`)))) : null);
}

function figures(data) {
  const { totals, verdicts } = data.report;
  const sum = (of) => totals.reduce((all, row) => all + of(row), 0);
  const given = (colour) => verdicts.filter((row) => row.colour === colour).reduce((all, row) => all + row.confirmed + row.possible, 0);
  const highest = totals.reduce((best, row) => ((row.peak_bytes ?? -1) > (best?.peak_bytes ?? -1) ? row : best), null);
  const figure = (id, value, words, colour) => el("div", { class: `figure ${value !== "0" && colour ? colour : ""}` },
    el("span", { class: "value", id: `figure-${id}` }, value), el("span", { class: "words" }, words));
  replace(byId("figures"),
    figure("allocations", count(sum((row) => row.allocations)), `allocations, ${bytes(sum((row) => row.bytes_allocated))}`),
    figure("frees", count(sum((row) => row.frees)), `buffers freed, ${bytes(sum((row) => row.bytes_freed))}`),
    figure("peak", highest?.peak_bytes == null ? "–" : bytes(highest.peak_bytes), highest?.peak_bytes == null ? "no peak for a selection" : `highest peak, ${highest.device ?? "unknown device"} ${highest.buffer_type}`),
    figure("live", count(sum((row) => row.live)), `live at the end, ${bytes(sum((row) => row.bytes_live))}`, "yellow"),
    figure("excess", count(given("excess")), "excess frees, harmless alone", "excess"),
    figure("red", count(given("red")), "memory errors", "red"));
}

function filters(data, selection) {
  const names = (values) => [...new Set(values)].sort((a, b) => String(a).localeCompare(String(b), "en", { numeric: true }));
  const used = new Set(data.report.verdicts.map((row) => row.verdict));
  const inUse = new Set([...data.excess.sites, ...data.excess.leaks, ...data.excess.late, ...data.excess.inherited].map((it) => it.site.id).concat(data.held.groups.map((it) => it.site?.id)));
  const choices = {
    process: ["Process", names(data.memories.map((it) => it.process)).map((it) => [String(it), `${it}`])],
    device: ["Device", names(data.memories.map((it) => it.device ?? "unknown")).map((it) => [it, it])],
    type: ["Type", names(data.memories.map((it) => it.buffer_type)).map((it) => [it, it])],
    test: ["Test", data.tables.tests.slice(1).map((it) => [it, shortTest(it)])],
    verdict: ["Verdict", data.verdicts.filter((it) => used.has(it.name)).map((it) => [it.name, it.name])],
    site: ["Site", data.stacks.sites.filter((it) => inUse.has(it.id)).map((it) => [it.id, `${it.id} ${it.name}`])],
  };
  const form = byId("filters");
  const selects = Object.entries(choices).filter(([, [, values]]) => values.length > 1).map(([name, [label, values]]) =>
    el("label", {}, el("span", {}, label), el("select", { id: `filter-${name}`, name, onchange: (event) => selection.set({ [name]: event.target.value }) },
      el("option", { value: "" }, "all"), values.map(([value, words]) => el("option", { value, title: words }, words.length > 70 ? `${words.slice(0, 70)}…` : words)))));
  let later = 0;
  const searchBox = el("input", { type: "search", id: "search", placeholder: "function, test, 0xaddress, id", autocomplete: "off", spellcheck: "false",
    oninput: (event) => {
      clearTimeout(later);
      later = setTimeout(() => selection.set({ search: event.target.value.trim() }), 150);
    } });
  const clear = () => {
    form.reset();
    selection.set({ ...EVERYTHING });
  };
  replace(form, el("label", { class: "search" }, el("span", {}, "Search"), searchBox), selects,
    el("button", { type: "button", id: "clear", onclick: clear }, "No filters"), el("p", { id: "matches", class: "hint", "aria-live": "polite" }));
  form.onsubmit = (event) => event.preventDefault();
  const say = () => {
    byId("clear").disabled = selection.isEverything;
    if (selection.isEverything) return replace(byId("matches"));
    let [lives, events] = [0, 0];
    eachLife(data, selection, (i) => { lives += selection.isFoundLife(i) ? 1 : 0; });
    eachEvent(data, selection, (j) => { events += selection.isFoundEvent(j) ? 1 : 0; });
    byId("matches").textContent = `${plural(lives, "life", "lives")} and ${plural(events, "event")} match. Numbers in tables are of the whole trace; rows that do not match are hidden.`;
  };
  selection.onChange(say);
  say();
  return clear;
}

function legends(data) {
  const used = new Set(data.report.verdicts.map((row) => row.colour));
  const words = { normal: "as it should be", yellow: "held, leaked, late or failed", excess: "excess free", red: "memory error" };
  replace(byId("legend"), Object.entries(words).filter(([colour]) => used.has(colour) || colour === "normal")
    .map(([colour, text]) => el("li", {}, el("span", { class: `swatch ${colour}` }), text)),
    data.event.time.length > 0 ? el("li", {}, el("span", { class: "diamond" }), "event without a life of its own: excess free, failed request, overlap") : null);
  replace(byId("flame-legend"), ["python", "native", "interpreter"].map((kind) =>
    el("li", {}, el("span", { class: `swatch ${kind}` }), { python: "Python", native: "native", interpreter: "interpreter" }[kind])));
}

/** Light or dark: as the system says, until somebody chooses. */
function themes(redraw) {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const { dataset } = document.documentElement;
  const isDark = () => (dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
  const apply = () => {
    byId("theme").textContent = isDark() ? "Light" : "Dark";
    redraw();
  };
  const toggle = () => {
    dataset.theme = isDark() ? "light" : "dark";
    apply();
  };
  byId("theme").onclick = toggle;
  dark.addEventListener("change", apply);
  let before;
  window.addEventListener("beforeprint", () => {
    before = dataset.theme;
    dataset.theme = "light";
    redraw(true);
  });
  window.addEventListener("afterprint", () => {
    if (before === undefined) delete dataset.theme;
    else dataset.theme = before;
    apply();
  });
  apply();
  return toggle;
}

function showKeys() {
  openDialog("Keys", () => el("dl", { class: "facts keys" }, KEYS.map(([key, words]) =>
    el("div", {}, el("dt", {}, key.split(" ").map((it) => el("kbd", {}, it))), el("dd", {}, words)))));
}

function keys(toggleTheme, clear) {
  const search = byId("search");
  byId("help").onclick = showKeys;
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || byId("dialog").open) return;
    if (event.target === search && event.key === "Escape") return search.blur();
    if (event.target.matches("input[type=search], select, textarea")) return;
    const acts = { "/": () => search.focus(), "?": showKeys, t: toggleTheme, r: clear, m: () => byId("map").focus(), f: () => byId("flame").focus() };
    const act = acts[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
  const dialog = byId("dialog");
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
}

/** Lets the browser draw what is there. */
const drawn = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));

async function main() {
  const data = await load();
  const selection = new Selection(data);
  head(data);
  integrityPanel(data);
  figures(data);
  const clear = filters(data, selection);
  legends(data);
  const map = new MemoryMap(data, selection);
  let flame = null;
  const toggleTheme = themes((now) => {
    for (const view of [map, flame].filter(Boolean)) {
      view.colours = themeColours();
      if (now) (view.painter ?? view).draw();
      else view.redraw();
    }
  });
  keys(toggleTheme, clear);
  await drawn();
  performance.mark("drawn");
  flame = new Flame(data, selection);
  const parts = [...excessFindings(data, selection), verdictTable(data, selection), heldFindings(data, selection), testTable(data, selection),
    totalsTable(data, selection), ...balanceTables(data, selection), ...holderTables(data, selection)];
  byId("tables").append(...parts.map((part) => part.element).filter(Boolean));
  await drawn();
  document.documentElement.dataset.state = "ready";
}

main().catch((error) => {
  byId("title").textContent = "This page can't be shown";
  byId("integrity").append(el("p", { class: "problem" }, window.DecompressionStream
    ? `Its data can't be read: ${error.message}` : "The browser is too old: it needs DecompressionStream (Chromium 80, Firefox 113, Safari 16.4)."));
  throw error;
});
