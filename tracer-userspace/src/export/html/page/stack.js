// SPDX-License-Identifier: Apache-2.0
// Stacks as lists, and the dialog that has those of a buffer.

let showsInterpreter = false;

/** A stack as a list, innermost function first; `none` says why there is none. */
function stackList(data, number, none = "no stack was recorded") {
  const { stacks, frames, texts } = data.stacks;
  const stack = stacks[number];
  if (number === 0 || stack.frames.length === 0) return el("p", { class: "absent" }, none);
  const hasPython = stack.frames.some((frame) => frames[frame].kind === "python");
  const list = el("ol", { class: "stack" });
  let hidden = 0;
  stack.frames.forEach((number, index) => {
    const frame = frames[number];
    if (frame.kind === "interpreter" && hasPython && !showsInterpreter) {
      hidden += 1;
      return;
    }
    list.append(el("li", { class: frame.kind, title: texts[frame.whole] },
      el("span", { class: "number" }, `#${index}`),
      el("span", { class: "frame" },
        el("span", { class: "function" }, texts[frame.name]),
        el("span", { class: "place" }, frame.kind === "inlined" ? `${texts[frame.place]} inlined` : texts[frame.place]))));
  });
  const notes = [];
  if (hidden > 0) notes.push(`${plural(hidden, "function")} of the interpreter hidden`);
  const python = texts[stack.python];
  if (python === "uncertain") notes.push("Python functions may stand in the wrong places");
  else if (python !== "") notes.push(`Python functions are missing: ${python}`);
  if (texts[stack.end] !== "") notes.push(`the stack ends here: ${texts[stack.end]}`);
  return el("div", {}, list, notes.length > 0 ? el("p", { class: "note" }, `(${notes.join("; ")})`) : null);
}

/** A stack under a title. */
function place(data, title, words, number, none) {
  return el("section", { class: "place-box" },
    el("h3", {}, title), words ? el("p", { class: "note" }, words) : null, stackList(data, number, none));
}

function openDialog(title, content) {
  const dialog = byId("dialog");
  const render = () => replace(dialog,
    el("div", { class: "dialog-head" },
      el("h2", { id: "dialog-title" }, title),
      el("label", { class: "check" },
        el("input", { type: "checkbox", checked: showsInterpreter, onchange: (change) => {
          showsInterpreter = change.target.checked;
          render();
          dialog.querySelector("input").focus();
        } }), " Interpreter's own functions"),
      el("button", { type: "button", class: "close", "aria-label": "Close", onclick: () => dialog.close() }, "Close")),
    content());
  render();
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
}

const facts = (rows) => el("dl", { class: "facts" }, rows.filter(([, value]) => value != null && value !== "")
  .map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));

const verdictOf = (data, state) => data.verdicts[state & 15];
const certainty = (state) => (state & POSSIBLE ? "possible" : "confirmed");
const testName = (data, number) => data.tables.tests[number] || "(outside of tests)";

/** What is known of a life, as rows. */
function lifeFacts(data, i) {
  const { life } = data;
  const memory = data.memories[life.memory[i]];
  const process = data.processes.get(memory.process);
  const state = life.state[i];
  const endless = (state & ENDLESS) !== 0;
  return [
    ["Memory", `${memory.label}, process ${memory.process}`],
    ["Address", hex(exactly(life.address, i))],
    ["Size", `${bytes(life.size[i])} (${count(exactly(life.size, i))})`],
    ["In each bank", life.bank[i] === 0 ? null : bytes(life.bank[i] - 1)],
    ["From", `${moment(life.begin[i], process)}${state & FOUND ? ", found live: allocated before the recording" : ""}`],
    ["To", endless ? "not known: the trace is cut" : moment(life.end[i], process)],
    ["For", age(life.end[i] - life.begin[i], process)],
    ["Test", testName(data, life.test[i])],
    ["Ended in", endless || life.endTest[i] === life.test[i] || staysToEnd(data, i) ? null : testName(data, life.endTest[i])],
    ["Site", data.stacks.sites[data.stacks.stacks[life.stack[i]].site].name],
  ];
}

const lifeTitle = (data, i) => `Buffer ${exactly(data.life.id, i)}`;

function lifeChip(data, i) {
  const state = data.life.state[i];
  if (state & ENDLESS) return el("span", { class: "chip" }, "no end recorded");
  return chip(verdictOf(data, state), `${verdictOf(data, state).name}, ${certainty(state)}`);
}

/** The dialog of a life: where it was allocated, where it ended, and what freed it again. */
function openLife(data, i) {
  const { life, event } = data;
  const memory = data.memories[life.memory[i]];
  const again = [];
  for (let j = 0; j < event.time.length; j += 1) {
    if (event.owner[j] === life.id[i] && data.memories[event.memory[j]].process === memory.process) again.push(j);
  }
  const state = life.state[i];
  const ending = state & ENDLESS ? "not seen: the trace is cut"
    : staysToEnd(data, i) ? "it was still live when the recording ended" : "no stack was recorded";
  const allocated = state & FOUND ? "allocated before the recording" : undefined;
  openDialog(lifeTitle(data, i), () => el("div", {},
    el("p", {}, lifeChip(data, i), ` ${state & ENDLESS ? "" : verdictOf(data, state).meaning}`),
    facts(lifeFacts(data, i)),
    el("div", { class: "places" },
      place(data, "Allocation", moment(life.begin[i], data.processes.get(memory.process)), life.stack[i], allocated),
      place(data, "End", moment(life.end[i], data.processes.get(memory.process)), life.endStack[i], ending),
      again.slice(0, 4).map((j) => place(data, `Later: ${verdictOf(data, event.state[j]).name}`,
        moment(event.time[j], data.processes.get(memory.process)), event.stack[j]))),
    again.length > 4 ? el("p", { class: "note" }, `… and ${plural(again.length - 4, "event")} more`) : null));
}

/** What is known of an event, as rows. */
function eventFacts(data, j) {
  const { event } = data;
  const memory = data.memories[event.memory[j]];
  const process = data.processes.get(memory.process);
  const own = exactly(event.owner, j) === exactly(event.id, j);
  return [
    ["Memory", `${memory.label}, process ${memory.process}`],
    ["Address", hex(exactly(event.address, j))],
    ["Size", `${bytes(event.size[j])} (${count(exactly(event.size, j))})`],
    ["At", moment(event.time[j], process)],
    ["Memory of", own ? null : `buffer ${exactly(event.owner, j)}`],
    ["Test", testName(data, event.test[j])],
    ["Site", data.stacks.sites[data.stacks.stacks[event.stack[j]].site].name],
  ];
}

const eventTitle = (data, j) => `${verdictOf(data, data.event.state[j]).name} of buffer ${exactly(data.event.id, j)}`;

/** The dialog of an event: this free, the free before, the allocation. */
function openEvent(data, j) {
  const { event } = data;
  const process = data.processes.get(data.memories[event.memory[j]].process);
  const verdict = verdictOf(data, event.state[j]);
  const before = event.before[j];
  const absent = ["there was none", "too long ago to be remembered", "not in the recording"][before];
  const known = ["none, but a device was closed before", ...data.verdicts.map((it) => it.name)][before - 3];
  const wasSeen = event.allocatedTime[j] > 0;
  const words = (time, test) => `${moment(time, process)}, ${testName(data, test)}`;
  openDialog(eventTitle(data, j), () => el("div", {},
    el("p", {}, chip(verdict, `${verdict.name}, ${certainty(event.state[j])}`), ` ${verdict.meaning}`),
    facts(eventFacts(data, j)),
    el("div", { class: "places" },
      place(data, { failed: "The request", overlap: "Found here", held: "The end", bulk: "The release" }[verdict.name] ?? "This free", words(event.time[j], event.test[j]), event.stack[j]),
      place(data, known === undefined ? "The free before" : `The free before (${known})`,
        known === undefined ? "" : words(event.beforeTime[j], event.beforeTest[j]), event.beforeStack[j], absent),
      place(data, "The allocation", wasSeen ? words(event.allocatedTime[j] - 1, event.allocatedTest[j]) : "",
        event.allocatedStack[j], wasSeen ? undefined : "not in the recording"))));
}
