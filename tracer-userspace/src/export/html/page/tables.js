// SPDX-License-Identifier: Apache-2.0
// Tables and findings: the numbers of `report`, `excess` and `held`, for the whole trace. Filters and search hide rows.

/** So many rows are shown at first. */
const FIRST = 25;

class Table {
  /** `columns` are names with what a row has there; `memory` etc. say which filters hide a row. */
  constructor(selection, { id, title, note, columns, rows, takes = () => true, hidden = 0 }) {
    Object.assign(this, { selection, columns, rows, takes, hidden, all: false, by: null, down: true });
    this.body = el("tbody");
    this.foot = el("p", { class: "note" });
    this.heads = columns.map((column, index) => el("th", { scope: "col", class: column.number ? "number" : null },
      el("button", { type: "button", onclick: () => this.sort(index) }, column.name)));
    this.element = rows.length === 0 ? null : el("section", { class: "panel", id, "aria-labelledby": `${id}-title` },
      el("h2", { id: `${id}-title` }, title), note ? el("p", { class: "hint" }, note) : null,
      el("div", { class: "table-box", tabindex: "0", role: "group", "aria-labelledby": `${id}-title` },
        el("table", {}, el("thead", {}, el("tr", {}, this.heads)), this.body)), this.foot);
    selection.onChange(() => this.render());
    this.render();
  }

  sort(index) {
    this.down = this.by === index ? !this.down : Boolean(this.columns[index].number);
    this.by = index;
    this.heads.forEach((head, at) => {
      if (at === index) head.setAttribute("aria-sort", this.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    this.render();
  }

  render() {
    if (!this.element) return;
    const { columns, selection } = this;
    const words = (row) => columns.map((column) => String(column.words ? column.words(row) : column.of(row) ?? "")).join(" ");
    let rows = this.rows.filter((row) => this.takes(row, selection.wanted) && (selection.wanted.search === "" || selection.matches(words(row))));
    if (this.by !== null) {
      const { key, of } = columns[this.by];
      const value = key ?? of;
      const order = (a, b) => (typeof a === "number" ? a - b : String(a ?? "").localeCompare(String(b ?? "")));
      rows = [...rows].sort((a, b) => order(value(a), value(b)) * (this.down ? -1 : 1));
    }
    const shown = this.all ? rows : rows.slice(0, FIRST);
    replace(this.body, shown.map((row) => el("tr", {}, columns.map((column) =>
      el("td", { class: [column.number ? "number" : "", column.kind ?? ""].join(" ").trim() || null }, [column.of(row) ?? "–"].flat())))));
    const notes = [];
    if (rows.length < this.rows.length) notes.push(`${count(rows.length)} of ${count(this.rows.length)} rows match the filters.`);
    if (this.hidden > 0) notes.push(`${count(this.hidden)} more rows are not in this page.`);
    const more = rows.length - shown.length;
    replace(this.foot, notes.join(" "), more > 0 ? el("button", { type: "button", class: "more", onclick: () => {
      this.all = true;
      this.render();
    } }, `Show ${count(more)} more`) : null);
    this.foot.hidden = notes.length === 0 && more === 0;
  }
}

const verdictWords = (counts) => counts.map((row) => `${row.count} ${row.verdict}`).join(", ");
const inMemory = (row, wanted) => (wanted.process === "" || String(row.process) === wanted.process)
  && (wanted.device === "" || (row.device ?? "unknown") === wanted.device) && (wanted.type === "" || row.buffer_type === wanted.type);
const share = (value, all) => (value === 0 || value === all ? count(value) : `${count(value)} (${100 * value < all ? "<1" : Math.round((100 * value) / all)} %)`);

/** The columns that name a memory; the process only where there are several. */
function memoryColumns(data) {
  const columns = [
    { name: "Process", number: true, of: (row) => row.process }, { name: "Device", of: (row) => row.device ?? "unknown" },
    { name: "Type", of: (row) => row.buffer_type },
  ];
  return data.processes.size > 1 ? columns : columns.slice(1);
}

const numbers = (name, of) => ({ name, number: true, of: (row) => count(of(row)), key: of });
const sizes = (name, of) => ({ name, number: true, of: (row) => (of(row) == null ? null : bytes(of(row))), key: (row) => of(row) ?? -1 });

function chips(data, counts) {
  return counts.map((row) => chip(data.verdicts.find((it) => it.name === row.verdict), `${row.count} ${row.verdict}`));
}

function verdictTable(data, selection) {
  return new Table(selection, {
    id: "verdicts", title: "Verdicts", note: "Each free, and each buffer at the end, has exactly one.",
    rows: data.report.verdicts, takes: (row, wanted) => wanted.verdict === "" || row.verdict === wanted.verdict,
    columns: [
      { name: "Verdict", of: (row) => chip(row, row.verdict), key: (row) => row.verdict, words: (row) => row.verdict },
      numbers("Confirmed", (row) => row.confirmed), numbers("Possible", (row) => row.possible), { name: "Meaning", of: (row) => row.meaning, kind: "wide" },
    ],
  });
}

function totalsTable(data, selection) {
  const any = data.report.totals.some((row) => row.found > 0);
  const before = [numbers("Before", (row) => row.found), sizes("Bytes", (row) => row.bytes_found)];
  return new Table(selection, {
    id: "totals", title: "Memory", rows: data.report.totals, takes: inMemory,
    note: any ? "“Before” are buffers from before the recording that were found live." : null,
    columns: [
      ...memoryColumns(data), ...(any ? before : []),
      numbers("Allocated", (row) => row.allocations), sizes("Bytes", (row) => row.bytes_allocated),
      numbers("Freed", (row) => row.frees), sizes("Bytes", (row) => row.bytes_freed),
      numbers("Live", (row) => row.live), sizes("Bytes", (row) => row.bytes_live),
      sizes("Peak", (row) => row.peak_bytes), { name: "In", of: (row) => row.peak_test, kind: "wide" },
    ],
  });
}

function testTable(data, selection) {
  const rows = data.report.tests.some((row) => row.test !== null) ? data.report.tests : [];
  return new Table(selection, {
    id: "tests", title: "Tests", rows, takes: (row, wanted) => (wanted.test === "" || row.test === wanted.test)
      && (wanted.verdict === "" || row.verdicts.some((it) => it.verdict === wanted.verdict)),
    columns: [
      { name: "Test", of: (row) => row.test ?? "(outside of tests)", kind: "wide" },
      numbers("Allocated", (row) => row.allocations), numbers("Freed", (row) => row.frees),
      sizes("Bytes", (row) => row.bytes_allocated), sizes("Left", (row) => row.bytes_left),
      { name: "Verdicts", of: (row) => chips(data, row.verdicts), words: (row) => verdictWords(row.verdicts), key: (row) => verdictWords(row.verdicts), kind: "chips" },
    ],
  });
}

function explained({ verdicts, without_verdict: without, not_freed: kept }) {
  const words = verdicts.map((row) => `${row.count} ${row.verdict}`);
  if (without > 0) words.push(`${without} without a verdict`);
  return words.join(", ") + (kept > 0 ? `${words.length ? ", less " : ""}${kept} not freed` : "");
}

function balanceTables(data, selection) {
  const { balance } = data.report;
  const server = { title: "Balance as reported to the graph tracker", note: "What a server counts that knows device numbers and addresses alone." };
  return [
    new Table(selection, {
      id: "balance", title: "Balance of addresses in the allocators", rows: balance.allocator, takes: inMemory,
      note: "How many addresses were freed as often as allocated.",
      columns: [
        ...memoryColumns(data), numbers("Addresses", (row) => row.addresses),
        { name: "Allocations = frees", number: true, of: (row) => share(row.even, row.addresses), key: (row) => row.even },
        { name: "Not freed", number: true, of: (row) => share(row.not_freed, row.addresses), key: (row) => row.not_freed },
        { name: "Freed more", number: true, of: (row) => share(row.freed_more, row.addresses), key: (row) => row.freed_more },
      ],
    }),
    new Table(selection, {
      id: "offenders", title: "Addresses freed more often than allocated", rows: balance.allocator_offenders, takes: inMemory,
      hidden: balance.hidden_allocator_offenders,
      columns: [
        ...memoryColumns(data), { name: "Address", number: true, of: (row) => hex(row.address), key: (row) => Number(row.address) },
        numbers("Allocations", (row) => row.allocations), numbers("Frees", (row) => row.frees),
        { name: "Excess", number: true, of: (row) => `+${count(row.frees - row.allocations)}`, key: (row) => row.frees - row.allocations },
        { name: "Which were", of: (row) => chips(data, row.excess), words: (row) => verdictWords(row.excess), kind: "chips" },
      ],
    }),
    new Table(selection, {
      id: "server", ...server, rows: balance.server ?? [],
      columns: [
        { name: "Device", of: (row) => (row.device === null ? "all" : String(row.device)), key: (row) => row.device ?? Infinity },
        numbers("Addresses", (row) => row.addresses),
        { name: "Allocations = frees", number: true, of: (row) => share(row.even, row.addresses), key: (row) => row.even },
        { name: "Not freed", number: true, of: (row) => share(row.not_freed, row.addresses), key: (row) => row.not_freed },
        { name: "Freed more", number: true, of: (row) => share(row.freed_more, row.addresses), key: (row) => row.freed_more },
        numbers("Unknown", (row) => row.unknown), numbers("Excess", (row) => row.excess),
        { name: "Which were", of: (row) => explained(row.explained), kind: "wide" },
      ],
    }),
    new Table(selection, {
      id: "server-offenders", title: "Addresses with more reported frees than allocations", rows: balance.server_offenders,
      hidden: balance.hidden_server_offenders,
      columns: [
        { name: "Device", of: (row) => String(row.device) }, { name: "Type", of: (row) => row.buffer_types.join(" + ") },
        { name: "Address", number: true, of: (row) => hex(row.address), key: (row) => Number(row.address) },
        numbers("Allocations", (row) => row.allocations), numbers("Frees", (row) => row.frees), numbers("Unknown", (row) => row.unknown),
        { name: "Which were", of: (row) => explained(row.explained), kind: "wide" },
      ],
    }),
  ];
}

/** Who held what at the peaks, and when requests failed: a row for each holder. */
function holderTables(data, selection) {
  const { report } = data;
  const banks = (load) => (load.bank_unknown >= load.buffers ? null : `${load.bank_unknown > 0 ? "≥ " : ""}${bytes(load.bank_bytes)}`);
  const rows = (about, head) => (about.held?.holders ?? []).map((holder, index) => ({ ...about, holder, head: index === 0 ? head : null }));
  const columns = [
    { name: "When", of: (row) => moment(row.time, data.processes.get(row.process)), key: (row) => row.time, number: true }, ...memoryColumns(data),
    { name: "In all", number: true, of: (row) => row.head ?? "", key: (row) => row.held.bytes },
    numbers("Buffers", (row) => row.holder.buffers), sizes("Bytes", (row) => row.holder.bytes),
    { name: "In each bank", number: true, of: (row) => banks(row.holder), key: (row) => row.holder.bank_bytes },
    { name: "Held by", of: (row) => row.holder.site.name, kind: "wide" }, { name: "In", of: (row) => row.holder.test, kind: "wide" },
  ];
  return [
    new Table(selection, {
      id: "peaks", title: "Held at the peak", rows: report.peaks.flatMap((peak) => rows(peak, bytes(peak.held.bytes))),
      takes: inMemory, hidden: report.hidden_peaks, columns,
    }),
    new Table(selection, {
      id: "failures", title: "Failed requests, and what was held then", takes: inMemory, hidden: report.other_failures,
      rows: report.failures.flatMap((failure) => rows(failure, `${bytes(failure.bytes)} asked, ${bytes(failure.held?.bytes ?? 0)} held`)),
      columns: columns.map((column) => (column.name === "In all" ? { ...column, name: "Request" } : column)),
    }),
  ];
}

/** A list of sites that opens one by one. */
class Findings {
  constructor(selection, { id, title, note, empty, items }) {
    Object.assign(this, { selection, items });
    this.list = el("div", { class: "findings" });
    this.element = items.length === 0 && !empty ? null : el("section", { class: "panel", id, "aria-labelledby": `${id}-title` },
      el("h2", { id: `${id}-title` }, title), note ? el("p", { class: "hint" }, note) : null,
      items.length === 0 ? el("p", { class: "absent" }, empty) : this.list);
    this.cards = items.map(({ summary, content }) => {
      const card = el("details", { class: "finding", ontoggle: () => {
        if (card.open && card.childElementCount === 1) card.append(content());
      } }, el("summary", {}, summary));
      return card;
    });
    this.list.append(...this.cards);
    this.none = el("p", { class: "absent" }, "No site matches the filters.");
    this.list.append(this.none);
    selection.onChange(() => this.render());
    this.render();
  }

  render() {
    let shown = 0;
    this.items.forEach((item, index) => {
      const takes = item.takes(this.selection.wanted) && this.selection.matches(item.words);
      this.cards[index].hidden = !takes;
      shown += takes ? 1 : 0;
    });
    this.none.hidden = shown > 0 || this.items.length === 0;
  }
}

function testList(tests, all) {
  const names = Object.entries(tests);
  const outside = all - names.reduce((sum, [, times]) => sum + times, 0);
  return names.length === 0 ? null : el("ul", { class: "tests" },
    names.slice(0, 8).map(([test, times]) => el("li", {}, el("span", { class: "times" }, `${count(times)} ×`), " ", test)),
    names.length > 8 ? el("li", {}, `… and ${names.length - 8} more tests`) : null,
    outside > 0 ? el("li", {}, el("span", { class: "times" }, `${count(outside)} ×`), " outside of tests") : null);
}

function siteHead(site, counts, right) {
  return [el("span", { class: "site-name" }, site.name), el("span", { class: "site-id" }, site.id),
    el("span", { class: "site-counts" }, counts), el("span", { class: "site-size" }, right)];
}

function cause(data, { cause: name, evidence }) {
  const words = data.causes.find((it) => it.cause === name);
  return el("div", { class: "cause" }, el("p", {}, el("strong", {}, words?.meaning ?? name), ` (${name})`),
    el("p", {}, evidence), words ? el("p", { class: "note" }, `Look at ${words.look}`) : null);
}

function excessItems(data, sites, stacks, what) {
  return sites.map((site, index) => {
    const [free, before, allocation] = stacks[index];
    const title = site.previous.stack === null && before === 0 ? "The free before" : `The free before (${site.previous.what})`;
    return {
      words: [site.site.name, site.site.id, ...Object.keys(site.tests), ...site.causes.map((it) => it.cause)].join(" "),
      takes: (wanted) => (wanted.site === "" || wanted.site === site.site.id) && (wanted.test === "" || wanted.test in site.tests)
        && (wanted.verdict === "" || site.verdicts.some((it) => it.verdict === wanted.verdict)),
      summary: siteHead(site.site, chips(data, site.verdicts), `${plural(site.count, what)}, ${bytes(site.bytes)}`),
      content: () => el("div", { class: "finding-body" },
        site.possible > 0 ? el("p", { class: "note" }, `${count(site.possible)} of them only possible`) : null,
        site.causes.length > 0 ? site.causes.map((it) => cause(data, it)) : el("p", { class: "absent" }, "Cause: no known pattern"),
        testList(site.tests, site.count), el("p", { class: "note" }, `For example ${site.examples.join("; ")}`),
        el("div", { class: "places" }, place(data, "This free", "", free),
          place(data, title, "", before, site.previous.what), place(data, "The allocation", "", allocation, site.allocation.what)),
        site.other_places > 0 ? el("p", { class: "note" }, `The same with other stacks of these three: ${site.other_places}, not shown`) : null),
    };
  });
}

function excessFindings(data, selection) {
  const { excess, excess_stacks: [sites, leaks, late, inherited] } = data;
  const more = excess.hidden > 0 ? ` ${count(excess.hidden)} more sites are not in this page.` : "";
  return [
    new Findings(selection, { id: "excess", title: "Excess frees", note: excess.sites.length ? `By the site that makes them, with the free before and the allocation.${more}` : null,
      empty: "No excess frees.", items: excessItems(data, excess.sites, sites, "free") }),
    new Findings(selection, { id: "leaks", title: "Leaks", note: "No excess: no allocator was called, so that the memory stays taken.", items: excessItems(data, excess.leaks, leaks, "free") }),
    new Findings(selection, { id: "late", title: "Late frees", note: "No excess: no allocator was called, mostly as the memory was gone with its device.", items: excessItems(data, excess.late, late, "free") }),
    new Findings(selection, { id: "inherited", title: "Frees in forked children", note: "No excess: the memory is their parent's, and stays as it is.", items: excessItems(data, excess.inherited, inherited, "free") }),
  ];
}

const UNTIL = { exit: "never freed until the process ended", exec: "never freed until the process executed another program", close: "held until its device closed", stop: "live when recording stopped", source: "live at the end of the source" };

function heldFindings(data, selection) {
  const { held, held_stacks: stacks } = data;
  const totals = held.totals.map((total) => `${plural(total.count, "buffer")}, ${bytes(total.bytes)} ${UNTIL[total.until]}`);
  const verdict = data.verdicts.find((it) => it.name === "held");
  const normal = data.verdicts.find((it) => it.name === "bulk");
  return new Findings(selection, {
    id: "held", title: "Not freed", empty: "Nothing was held.", note: held.groups.length ? `${totals.join("; ")}.${held.hidden ? ` ${held.hidden} more sites are not in this page.` : ""}` : null,
    items: held.groups.map((group, index) => ({
      words: [group.name, group.site?.id ?? "", ...Object.keys(group.tests)].join(" "),
      takes: (wanted) => (wanted.site === "" || wanted.site === group.site?.id) && (wanted.test === "" || wanted.test in group.tests)
        && (wanted.verdict === "" || wanted.verdict === (group.until === "close" ? "bulk" : "held")),
      summary: siteHead({ name: group.name, id: group.site?.id ?? "" }, [chip(group.until === "close" ? normal : verdict, UNTIL[group.until])], `${plural(group.count, "buffer")}, ${bytes(group.bytes)}`),
      content: () => el("div", { class: "finding-body" },
        group.possible > 0 ? el("p", { class: "note" }, `${count(group.possible)} of them only possible`) : null,
        group.leaked > 0 ? el("p", { class: "note" }, `${count(group.leaked)} of them freed, but leaked`) : null,
        group.oldest != null ? el("p", { class: "note" }, `${group.oldest === group.youngest ? "" : `${lasting(group.youngest)} to `}${lasting(group.oldest)} old`) : null,
        testList(group.tests, group.count), el("p", { class: "note" }, `For example ${group.examples.join("; ")}`),
        el("div", { class: "places" }, place(data, "The allocation", "", stacks[index], group.allocation?.what))),
    })),
  });
}
