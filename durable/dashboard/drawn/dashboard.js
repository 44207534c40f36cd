// The dashboard: the workflows of a database as a list, and one of them with all its records. It draws the answers of a
// source and asks it questions, and has no other knowledge. `drawing.js` comes before it, in one module.

const STATES = { completed: "✓", failed: "✗", running: "▶", waiting: "◷", suspended: "◷", crashed: "✝", cancelled: "■", interrupted: "■", stopped: "■", "set aside": "‖", rewound: "↺", forked: "↳", queued: "…" };
const ALL = { prefix: "", function: "", status: "", since: null, sort: "updated", descending: true, offset: 0, open: "", step: 0, value: "" };
const COUNTED = { "": "in all", running: "unfinished", completed: "completed", failed: "failed", cancelled: "cancelled" };
const TONES = { completed: "good", failed: "crash", crashed: "crash", "set aside": "crash" };
const COLUMNS = [
  { name: "id", title: "workflow", sorts: true },
  { name: "status", title: "status", sorts: true },
  { name: "function", title: "function", sorts: true },
  { name: "runs", title: "runs", sorts: false },
  { name: "created", title: "created (UTC)", sorts: true },
  { name: "updated", title: "updated (UTC)", sorts: true },
  { name: "result", title: "result", sorts: false },
];
const SPANS = { "any time": 0, "the last hour": 3600, "the last day": 86400, "the last 7 days": 7 * 86400, "the last 30 days": 30 * 86400 };
const TYPING_MS = 250; // from the last letter of a filter to its question
const UNANSWERED_MS = 4000;

const seconds = (instant) => (instant ? instant.slice(0, 19).replace("T", " ") : "");
const short = (name) => name.split(":").at(-1);
const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

function whole(part) {
  if (!part) return "";
  return part.length ? `${part.text}\n… ${part.text.length} of ${part.length} characters are shown` : part.text;
}

function line(part) {
  if (!part) return "";
  return part.length ? `${part.text.replace(/\s+/g, " ")}… (${part.length} characters)` : part.text;
}

function tellTook(took) {
  if (took === null) return "";
  if (took >= 100) return `${took.toFixed(0)} s`;
  return took >= 0.1 ? `${took.toFixed(2)} s` : took >= 0.001 ? `${(1000 * took).toFixed(0)} ms` : "< 1 ms";
}

function tellWait({ event, child, until }) {
  const subject = event !== null ? `for the message “${event}”` : child !== null ? `for the workflow ${child}` : "";
  return `waits ${subject}${until ? ` until ${seconds(until)} UTC` : ""}`;
}

function tellState(shown) {
  const last = shown.lives.at(-1);
  const why = last?.reason ? ` ${whole(last.reason)}` : "";
  const words = {
    running: shown.owner ? `${typeof shown.owner === "string" ? "Worker" : "Process"} ${shown.owner} runs it.` : "It runs.",
    waiting: "It waits. The wait is saved, so a crash would not lose it.",
    suspended: "It waits and holds no thread.",
    completed: "It completed. Running it again returns its recorded result.",
    failed: shown.final ? "It failed, and what was to be undone is undone. That is final." : "It failed. A retry keeps all that has completed and tries the failed step anew.",
    cancelled: "It was cancelled. That is final; what had completed stays on record.",
    crashed: "Its process died before it had an outcome. A resume continues after the last checkpoint.",
    interrupted: `Its last run was interrupted:${why || " no reason is on record"}. A resume continues after the last checkpoint.`,
    stopped: `Its last run was stopped:${why || " no reason is on record"}. A resume continues after the last checkpoint.`,
    "set aside": "Its last runs made no progress, so no worker takes it up by itself. A resume tries it again.",
    queued: "It is in a queue. A worker begins it or continues it.",
    rewound: "It was rewound and has not run since. A resume continues from there.",
    forked: "It was forked from another and has not run yet. A resume begins it.",
  };
  return `${words[shown.state] ?? ""}${shown.cancelling ? " It is asked to cancel." : ""}`;
}

function badge(node, state, text = state) {
  node.className = "durable-badge";
  node.dataset.state = state;
  say(node, `${STATES[state] ?? ""} ${text}`);
}

class Dashboard {
  // `source` has `ask(question)`, and may have `act(order)`; `how` says whether it is live, and whether it is a page.
  constructor(el, source, how) {
    this.source = source;
    this.how = how;
    this.question = { ...ALL };
    this.level = how.isPage ? 1 : 2;
    this.build();
    el.replaceChildren(this.root);
  }

  heading(depth, text, properties = {}) {
    return make(`h${this.level + depth}`, { textContent: text, ...properties });
  }

  want(changes) {
    const isNew = changes.open !== undefined && changes.open !== this.question.open;
    if (isNew) this.left = this.question.open; // where the focus goes back to
    if (isNew) this.question.value = "";
    this.question = { ...this.question, ...changes };
    this.moves ||= isNew;
    if (this.how.isPage && isNew) history.pushState(null, "", changes.open ? `#${encodeURIComponent(changes.open)}` : "#");
    clearTimeout(this.unanswered);
    this.unanswered = setTimeout(() => say(this.note, "No answer yet: what is shown may be old."), UNANSWERED_MS);
    this.source.ask(this.question);
  }

  build() {
    const id = `durable-${Math.random().toString(36).slice(2)}`;
    this.title = this.heading(0, "", { className: "durable-name", tabIndex: -1 });
    this.note = make("span", { className: "durable-file", role: "status" });
    this.counts = make("div", { className: "durable-counts", role: "group", ariaLabel: "how many, by status" });
    this.found = make("p", { className: "durable-found", role: "status" });
    this.buildFilter(id);
    this.body = make("tbody", {});
    this.columns = COLUMNS.map((column) => this.makeColumn(column));
    const table = make("table", { ariaLabel: "workflows" }, make("thead", {}, make("tr", {}, ...this.columns)), this.body);
    this.pager = this.makePager("workflows", () => this.question.offset, (offset) => this.want({ offset }));
    this.list = make("div", { className: "durable-list" }, this.counts, this.filter, this.found, table, this.pager.node);
    this.shown = new Shown(this);
    this.root = make("div", { className: "durable-panel durable-dashboard", role: this.how.isPage ? "presentation" : "group" },
      make("div", { className: "durable-head" }, this.title, this.note), this.list, this.shown.node);
    if (!this.how.isPage) this.root.ariaLabel = "dashboard of workflows";
    this.root.dataset.lmSuppressShortcuts = "true"; // the keys belong to the dashboard while it has the focus
    this.shown.node.hidden = true;
  }

  buildFilter(id) {
    const field = (label, control) => {
      control.id = `${id}-${label}`;
      return make("div", { className: "durable-field" }, make("label", { textContent: label, htmlFor: control.id }), control);
    };
    this.prefix = make("input", { type: "search", placeholder: "order_", autocomplete: "off", spellcheck: false });
    this.prefix.addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.want({ prefix: this.prefix.value, offset: 0 }), TYPING_MS);
    });
    this.functions = make("select", {});
    this.functions.addEventListener("change", () => this.want({ function: this.functions.value, offset: 0 }));
    this.span = make("select", {}, ...Object.keys(SPANS).map((text) => make("option", { textContent: text, value: text })));
    this.span.addEventListener("change", () => this.want({ since: this.since(), offset: 0 }));
    this.filter = make("form", { className: "durable-filter", role: "search", ariaLabel: "filter" },
      field("id begins with", this.prefix), field("function", this.functions), field("changed in", this.span));
    this.filter.addEventListener("submit", (event) => event.preventDefault());
  }

  since() {
    const span = SPANS[this.span.value];
    return span ? new Date((this.how.isLive ? Date.now() : Date.parse(this.at)) - 1000 * span).toISOString() : null;
  }

  makeColumn({ name, title, sorts }) {
    const head = make("th", { scope: "col", data: { column: name } });
    if (!sorts) {
      head.append(title);
      return head;
    }
    const button = make("button", { textContent: title, className: "durable-sort" });
    button.addEventListener("click", () => {
      const isSame = this.question.sort === name;
      this.want({ sort: name, descending: isSame ? !this.question.descending : ["created", "updated"].includes(name), offset: 0 });
    });
    head.append(button);
    return head;
  }

  makePager(noun, place, go) {
    const button = (text, step) => {
      const made = make("button", { textContent: text });
      made.addEventListener("click", () => { if (!made.ariaDisabled) go(Math.max(0, place() + step * pager.size)); });
      return made;
    };
    const [back, where, on] = [button("Back", -1), make("span", {}), button("Next", 1)];
    const pager = { node: make("div", { className: "durable-pager", role: "group", ariaLabel: `which ${noun} are shown` }, back, where, on) };
    pager.draw = (total, size, count) => {
      pager.size = size;
      pager.node.hidden = total <= size;
      allow(back, place() > 0);
      allow(on, place() + count < total);
      say(where, count ? `${noun} ${place() + 1} to ${place() + count} of ${total}` : `none here of ${total}`);
    };
    return pager;
  }

  // ---- what is heard

  hear(answer) {
    clearTimeout(this.unanswered);
    if (answer.problem) {
      say(this.note, answer.problem);
      return;
    }
    this.at = answer.at;
    const isOne = Boolean(answer.open);
    if (isOne !== Boolean(this.question.open) || (isOne && answer.open.id !== this.question.open)) return; // an older answer
    say(this.title, answer.database);
    say(this.note, this.how.tell(answer));
    this.list.hidden = isOne;
    this.shown.node.hidden = !isOne;
    this.root.dataset.shows = isOne ? "workflow" : "list";
    if (isOne) this.shown.draw(answer.open);
    else this.drawList(answer);
    if (this.moves) this.move(isOne);
    this.moves = false;
  }

  // The focus follows to what was opened, and returns to where it was opened.
  move(isOne) {
    const opener = [...this.body.querySelectorAll("button")].find((button) => button.dataset.id === this.left);
    (isOne ? this.shown.title : opener ?? this.title).focus();
    if (isOne) this.shown.node.scrollIntoView({ block: "nearest" });
  }

  drawList({ counts, total, size, functions, rows }) {
    const every = Object.values(counts).reduce((sum, count) => sum + count, 0);
    sync(this.counts, [["", every], ...Object.entries(counts)], ([status]) => status, ([status]) => {
      const button = make("button", { className: "durable-count", data: { status } });
      button.addEventListener("click", () => this.want({ status, offset: 0 }));
      return button;
    }, (button, [status, count]) => {
      say(button, `${STATES[status] ?? ""} ${count} ${COUNTED[status]}`.trim());
      button.ariaPressed = String(this.question.status === status);
    });
    const names = ["", ...functions];
    if (this.names !== `${names}`) {
      this.names = `${names}`;
      this.functions.replaceChildren(...names.map((name) => make("option", { value: name, textContent: name ? short(name) : "all", title: name })));
    }
    this.functions.value = this.question.function;
    say(this.found, rows.length ? "" : every ? "No workflow of this status matches the filter." : "No workflow matches the filter.");
    for (const [index, { name, sorts }] of COLUMNS.entries()) {
      const order = this.question.sort === name ? (this.question.descending ? "descending" : "ascending") : null;
      if (sorts) this.columns[index].ariaSort = order;
    }
    this.pager.draw(total, size, rows.length);
    sync(this.body, rows, (row) => row.id, (row) => this.makeRow(row), (node, row) => this.drawRow(node, row));
  }

  makeRow(row) {
    const open = make("button", { className: "durable-open", textContent: row.id, data: { id: row.id } });
    open.addEventListener("click", () => this.want({ open: row.id, step: 0 }));
    const cells = COLUMNS.map(({ name }) => make("td", { data: { column: name } }));
    cells[0].append(open);
    cells[1].append(make("span", {}));
    return make("tr", {}, ...cells);
  }

  drawRow(node, row) {
    const [, state, fn, runs, created, updated, result] = node.children;
    badge(state.firstChild, row.state);
    say(fn, short(row.function));
    fn.title = row.function;
    result.title = row.waits.length || !row.result ? "" : whole(row.result);
    say(runs, String(row.runs));
    say(created, seconds(row.created));
    say(updated, seconds(row.updated));
    say(result, row.waits.length ? row.waits.map(tellWait).join("; ") : line(row.result));
  }
}

// ---- one workflow

class Shown {
  constructor(dashboard) {
    this.dashboard = dashboard;
    const back = make("button", { textContent: "← All workflows", className: "durable-back" });
    back.addEventListener("click", () => dashboard.want({ open: "", step: 0 }));
    this.title = dashboard.heading(1, "", { className: "durable-name", tabIndex: -1 });
    this.state = make("span", {});
    this.told = make("p", { className: "durable-sentence" });
    this.facts = make("dl", { className: "durable-facts" });
    this.timeline = make("div", { className: "durable-timeline" });
    this.progress = this.makeTable("progress", ["step", "share", "says"]);
    this.steps = make("ol", { className: "durable-steplist" });
    this.pager = dashboard.makePager("steps", () => dashboard.question.step, (step) => dashboard.want({ step }));
    this.runs = this.makeTable("runs", ["run", "process", "started (UTC)", "ended (UTC)", "how", "reason"]);
    this.messages = this.makeTable("messages", ["event", "value", "sent (UTC)", "received by"]);
    this.children = this.makeTable("children", ["workflow", "status", "function", "result"]);
    this.published = this.makeTable("published values", ["name", "value", "at (UTC)"]);
    this.values = ["arguments", "result", "error", "traceback"].map((name) => [name, this.makeValue(name)]);
    this.stepsPart = make("section", {}, this.heading("steps"), this.steps, this.pager.node);
    this.actions = dashboard.source.act ? new Actions(dashboard) : null;
    this.rest = make("div", {}, this.told, ...(this.actions ? [this.actions.node] : []), this.facts, this.progress.node, this.timeline, this.stepsPart,
      ...this.values.map(([, part]) => part.node), ...[this.published, this.messages, this.children, this.runs].map((part) => part.node));
    this.problem = make("p", { className: "durable-sentence", role: "alert", data: { tone: "problem" } });
    this.node = make("article", { className: "durable-shown" },
      make("div", { className: "durable-shown-head" }, back, this.title, this.state), this.problem, this.rest);
  }

  heading(text) {
    return this.dashboard.heading(2, text, { className: "durable-title" });
  }

  makeTable(name, columns) {
    const title = this.heading(name);
    const body = make("tbody", {});
    const scroll = make("div", { className: "durable-scroll", tabIndex: 0, role: "region", ariaLabel: `table of ${name}` },
      make("table", {}, make("thead", {}, make("tr", {}, ...columns.map((textContent) => make("th", { textContent, scope: "col" })))), body));
    const node = make("section", { className: "durable-records" }, title, scroll);
    const draw = (rows, total, cellsOf) => {
      node.hidden = !rows.length;
      say(title, total > rows.length ? `${name}, the latest ${rows.length} of ${total}` : name);
      sync(body, rows, (_, index) => `${index}`, () => make("tr", {}, ...columns.map(() => make("td", {}))), (row, item) => {
        for (const [index, cell] of cellsOf(item).entries()) {
          if (typeof cell === "function") cell(row.children[index]);
          else say(row.children[index], String(cell ?? ""));
        }
      });
    };
    return { node, draw };
  }

  makeValue(name) {
    const text = make("pre", { className: "durable-mono", tabIndex: 0, role: "region", ariaLabel: `${name} of the workflow` });
    const node = make("section", { className: "durable-records" }, this.heading(name), text);
    return { node, draw: (part) => { node.hidden = !part?.text; say(text, whole(part)); } };
  }

  draw(shown) {
    say(this.title, shown.id);
    this.problem.hidden = !shown.problem;
    this.rest.hidden = this.state.hidden = Boolean(shown.problem);
    say(this.problem, shown.problem ?? "");
    if (shown.problem) return;
    badge(this.state, shown.state);
    say(this.told, tellState(shown));
    this.told.dataset.tone = TONES[shown.state] ?? "calm";
    this.actions?.draw(shown);
    this.drawFacts(shown);
    drawTimeline(this.timeline, shown.timeline, "", false);
    this.progress.draw(shown.progress, 0, (each) => [each.key, (cell) => this.share(cell, each), line(each.text)]);
    this.drawSteps(shown);
    const values = { arguments: shown.arguments?.text === "{}" ? null : shown.arguments, result: shown.output, error: shown.error?.text, traceback: shown.error?.traceback };
    for (const [name, part] of this.values) part.draw(values[name]);
    this.published.draw(shown.published, 0, (value) => [value.name, whole(value.value), seconds(value.at)]);
    this.messages.draw(shown.messages, shown.messages_total, (message) => [message.event, whole(message.value), seconds(message.sent), message.received_by ?? "not received yet"]);
    this.children.draw(shown.children, shown.children_total, (child) => [(cell) => this.link(cell, child.id), (cell) => this.badge(cell, child.state), short(child.function), line(child.result)]);
    this.runs.draw(shown.lives, shown.runs, (run) => [run.epoch, run.process, seconds(run.started), seconds(run.ended), (cell) => this.badge(cell, run.how), whole(run.reason)]);
  }

  link(cell, id) {
    if (!cell.firstChild) {
      const button = make("button", { className: "durable-link" });
      button.addEventListener("click", () => this.dashboard.want({ open: button.textContent, step: 0 }));
      cell.append(button);
    }
    say(cell.firstChild, id);
  }

  share(cell, { key, share }) {
    if (cell.firstChild?.ariaLabel !== `progress of ${key}`) cell.replaceChildren(makeShare(key));
    drawShare(cell.firstChild, share);
  }

  badge(cell, state) {
    if (!cell.firstChild) cell.append(make("span", {}));
    badge(cell.firstChild, state);
  }

  drawFacts(shown) {
    const facts = [["function", shown.function], ["created (UTC)", seconds(shown.created)], ["updated (UTC)", seconds(shown.updated)], ["runs", shown.runs]];
    if (shown.parent) facts.push(["called by", (cell) => this.link(cell, shown.parent)]);
    sync(this.facts, facts, ([name]) => name, ([name]) => make("div", {}, make("dt", { textContent: name }), make("dd", {})), (node, [, value]) => {
      if (typeof value === "function") value(node.lastChild);
      else say(node.lastChild, String(value));
    });
  }

  drawSteps(shown) {
    const at = this.dashboard.question.step;
    const steps = shown.steps.slice(at - shown.first, at - shown.first + shown.size); // a report has more than a page
    const total = this.dashboard.how.isLive ? shown.steps_total : shown.first + shown.steps.length;
    this.stepsPart.hidden = !shown.steps_total;
    const left = shown.steps_total - total;
    say(this.stepsPart.firstChild, left ? `the first ${total} of ${shown.steps_total} steps` : plural(total, "step"));
    this.pager.draw(total, shown.size, steps.length);
    sync(this.steps, steps, (step) => step.key, () => this.makeStep(), (node, step) => this.drawStep(node, step));
  }

  makeStep() {
    const ask = make("button", {});
    const node = make("li", {}, make("details", {},
      make("summary", {}, ...["key", "kind", "word", "took", "brief"].map((part) => make("span", { className: `durable-of-${part}` }))),
      make("ul", { className: "durable-tries" }), make("pre", { className: "durable-mono", tabIndex: 0, role: "region" }),
      ask, make("div", { className: "durable-tables" })));
    ask.addEventListener("click", () => this.dashboard.want({ value: ask.ariaExpanded === "true" ? "" : node.dataset.key }));
    return node;
  }

  drawStep(node, step) {
    const [summary, tries, value, ask, parts] = node.firstChild.children;
    const [key, kind, word, took, brief] = summary.children;
    Object.assign(node.dataset, { state: step.state, key: step.key });
    say(key, step.key);
    say(kind, step.kind);
    kind.hidden = !step.kind;
    const state = { zombie: "zombie, never saved" }[step.state] ?? step.state;
    const again = step.attempt > 1 ? `, attempt ${step.attempt}` : "";
    say(word, `${SHAPES[step.state] ?? ""} ${state}${again}`);
    say(took, tellTook(step.took));
    say(brief, step.waits ? tellWait(step.waits) : step.error ? line(step.error.text) : line(step.short));
    const all = [...step.earlier, step];
    sync(tries, all, (_, index) => `${index}`, () => make("li", {}), (item, attempt) => say(item, this.tellAttempt(attempt, attempt === step ? step.state : null)));
    const text = step.error ? whole(step.error.traceback?.text ? step.error.traceback : step.error.text) : step.output ? whole(step.output) : "no value is saved";
    say(value, text);
    value.ariaLabel = `value of ${step.key}`;
    ask.hidden = !step.has_parts || !this.dashboard.how.isLive;
    ask.ariaExpanded = String(Boolean(step.parts));
    say(ask, step.parts ? "Hide the table" : "Show as a table");
    sync(parts, step.parts ?? [], (part) => part.place, makePart, drawPart);
  }

  tellAttempt(attempt, state) {
    const isLost = attempt.status === "running" && !["running", "waiting"].includes(state);
    const how = isLost ? "never saved: its effect may have happened" : `${state ?? attempt.status}${attempt.took === null ? "" : ` after ${tellTook(attempt.took)}`}`;
    const error = attempt.error ? `: ${line(attempt.error.text)}` : "";
    return `attempt ${attempt.attempt}, run ${attempt.run}, ${attempt.thread}, from ${seconds(attempt.started)} UTC: ${how}${error}`;
  }
}

// ---- what can be done, if it is allowed

const ACTIONS = {
  resume: { of: (shown) => shown.status === "running" && !shown.owner, fields: [],
    tells: "Runs it in this kernel, from its last checkpoint on. Steps that completed are answered from their records; a step that was cut off runs again." },
  retry: { of: (shown) => shown.status === "failed" && !shown.final, fields: [],
    tells: "Runs it in this kernel again: completed steps keep their results, and the step that failed is tried anew." },
  send: { of: (shown) => shown.status === "running", fields: ["event", "value"],
    tells: "Leaves a message for it. A waiting workflow receives it when it runs: at once if a process runs it, or else when a worker or Resume wakes it." },
  cancel: { of: (shown) => shown.status === "running", fields: [],
    tells: "Ends it and its children. A step in flight ends first, then its compensations undo what was done. This cannot be taken back." },
  rewind: { of: (shown) => !shown.owner && shown.steps_total > 0, fields: ["step"],
    tells: "Takes back the records from a step on, so that Resume runs these steps again. Their effects in the world remain, and happen a second time." },
  fork: { of: (shown) => shown.steps_total > 0, fields: ["step", "new id"],
    tells: "Makes a new workflow with the same arguments and the results before a step. This one stays as it is; Resume then runs the new one." },
};

class Actions {
  constructor(dashboard) {
    this.dashboard = dashboard;
    this.id = `durable-${Math.random().toString(36).slice(2)}`;
    this.said = make("p", { className: "durable-said", role: "status" });
    this.choices = make("div", { className: "durable-choices", role: "group", ariaLabel: "what can be done" });
    this.tells = make("p", {});
    this.fields = make("div", { className: "durable-filter" });
    this.do = make("button", { className: "durable-first" });
    this.keys = make("datalist", { id: `${this.id}-keys` });
    this.form = make("form", { className: "durable-action", hidden: true, id: this.id }, this.tells, this.fields, this.keys, this.do);
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.act();
    });
    this.node = make("section", { className: "durable-actions" }, this.choices, this.form, this.said);
  }

  draw(shown) {
    const isNew = this.shown?.id !== shown.id;
    this.shown = shown;
    if (isNew) {
      this.choose(null);
      say(this.said, "");
    }
    const names = Object.keys(ACTIONS).filter((name) => ACTIONS[name].of(shown));
    if (this.chosen && !names.includes(this.chosen)) this.choose(null);
    this.keys.replaceChildren(...shown.steps.map((step) => make("option", { value: step.key })));
    const hadFocus = this.choices.contains(document.activeElement);
    sync(this.choices, names, (name) => name, (name) => {
      const button = make("button", { textContent: `${name[0].toUpperCase()}${name.slice(1)}` });
      button.setAttribute("aria-controls", this.id);
      button.addEventListener("click", () => this.choose(this.chosen === name ? null : name));
      return button;
    }, (button, name) => { button.ariaExpanded = String(this.chosen === name); });
    if (hadFocus && !this.choices.contains(document.activeElement)) this.dashboard.shown.title.focus(); // its button is gone
  }

  choose(name) {
    const hadFocus = this.form.contains(document.activeElement);
    const opener = [...this.choices.children].find((button) => button.dataset.sync === this.chosen);
    this.chosen = name;
    this.form.hidden = !name;
    for (const button of this.choices.children) button.ariaExpanded = String(button.dataset.sync === name);
    if (!name && hadFocus) (opener && ACTIONS[opener.dataset.sync].of(this.shown) ? opener : this.dashboard.shown.title).focus();
    if (!name) return;
    say(this.tells, ACTIONS[name].tells);
    const awaited = this.shown.waits.find((wait) => wait.event !== null)?.event ?? "";
    const given = { event: awaited, value: "null", step: "", "new id": "" };
    this.fields.replaceChildren(...ACTIONS[name].fields.map((field) => {
      const input = make("input", { id: `${this.id}-${field}`, name: field, required: true, value: given[field], autocomplete: "off", spellcheck: false });
      if (field === "step") input.setAttribute("list", this.keys.id);
      return make("div", { className: "durable-field" }, make("label", { textContent: field === "value" ? "value, as JSON" : field, htmlFor: input.id }), input);
    }));
    this.do.textContent = `${name[0].toUpperCase()}${name.slice(1)}${name === "send" ? " to" : ""} ${this.shown.id}`;
    (this.fields.querySelector("input") ?? this.do).focus();
  }

  act() {
    const value = (field) => this.form.elements[field]?.value ?? "";
    say(this.said, "…");
    this.dashboard.source.act({ do: this.chosen, workflow_id: this.shown.id, event: value("event"), text: value("value"), step: value("step"), new_id: value("new id") });
  }

  heed({ workflow_id, text, is_done }) {
    if (workflow_id !== this.shown?.id) return;
    say(this.said, text);
    this.said.dataset.tone = is_done ? "good" : "problem";
    if (is_done) this.choose(null);
  }
}

// ---- the doors

// A report: its records are in the page.
function openReport(el) {
  const read = (node) => JSON.parse(node.textContent);
  const listed = read(document.getElementById("durable-list"));
  const places = new Map(listed.rows.map((row, index) => [row.id, index]));
  const functions = [...new Set(listed.rows.map((row) => row.function))].sort();
  const findRow = ({ prefix, since, ...question }) => (row) => row.id.startsWith(prefix)
    && (!question.function || row.function === question.function) && (!since || row.updated >= since);
  const keys = { created: (row) => row.created, updated: (row) => row.updated, id: (row) => row.id, function: (row) => row.function, status: (row) => row.status };
  const compare = ({ sort, descending }) => (one, other) => {
    const [a, b] = [keys[sort](one), keys[sort](other)];
    return (descending ? -1 : 1) * (a < b ? -1 : a > b ? 1 : places.get(other.id) - places.get(one.id));
  };
  const select = (question) => {
    const rows = listed.rows.filter(findRow(question));
    const counts = Object.fromEntries(Object.keys(listed.counts).map((status) => [status, rows.filter((row) => row.status === status).length]));
    const found = rows.filter((row) => !question.status || row.status === question.status).sort(compare(question));
    return { counts, total: found.length, functions, rows: found.slice(question.offset, question.offset + listed.size) };
  };
  const show = (id) => {
    const node = document.getElementById(`durable-workflow-${places.get(id)}`);
    return node ? read(node) : { id, problem: `There is no workflow ${id} in this report.` };
  };
  const loaded = new Promise((resolve) => {
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", resolve);
    else resolve();
  });
  const left = listed.total - listed.rows.length;
  const tell = () => `as of ${seconds(listed.at)} UTC${left ? `, the latest ${listed.rows.length} of ${listed.total} workflows` : ""}`;
  const source = {
    async ask(question) {
      const { database, at, size } = listed;
      if (question.open) await loaded; // the records of the single workflows come last
      if (question !== dashboard.question) return;
      dashboard.hear(question.open ? { database, at, open: show(question.open) } : { database, at, size, ...select(question) });
    },
  };
  const dashboard = openPage(el, source, { isLive: false, tell });
}

// A server of this machine, which is asked again and again while the page is seen.
function openLive(el) {
  let timer;
  const source = {
    async ask(question) {
      clearTimeout(timer);
      let pause = 1;
      try {
        const response = await fetch(`snapshot?question=${encodeURIComponent(JSON.stringify(question))}`, { cache: "no-store" });
        const answer = await response.json();
        if (question !== dashboard.question) return;
        pause = answer.pause ?? pause;
        dashboard.hear(answer);
      } catch {
        if (question === dashboard.question) say(dashboard.note, "The server has ended; what is shown is old. Start durable ui again.");
      }
      clearTimeout(timer);
      timer = setTimeout(() => { if (!document.hidden) source.ask(dashboard.question); }, 1000 * pause);
    },
  };
  document.addEventListener("visibilitychange", () => { if (!document.hidden) source.ask(dashboard.question); });
  const dashboard = openPage(el, source, { isLive: true, tell: ({ at }) => `live, as of ${seconds(at).slice(11)} UTC` });
}

// A widget: a thread of the kernel looks, and sends what has changed.
function openWidget({ model, el }) {
  const lose = () => {
    clearTimeout(dashboard.unanswered);
    say(dashboard.note, "The kernel is gone, so what is shown is old. Run this cell again.");
  };
  const send = (message) => {
    try {
      model.send(message);
    } catch {
      lose();
    }
  };
  const source = { ask: (question) => send({ ask: question }) };
  if (model.get("allows")) source.act = (order) => send({ act: order });
  const tell = ({ at }) => `live, last change seen at ${seconds(at).slice(11)} UTC`;
  const dashboard = new Dashboard(el, source, { isLive: true, isPage: false, tell });
  const hear = () => dashboard.hear(model.get("answer"));
  const heed = () => dashboard.shown.actions?.heed(model.get("said"));
  const watch = (_, status) => { if (DEAD.includes(status)) lose(); };
  const kernel = findKernel(model);
  model.on("change:answer", hear);
  model.on("change:said", heed);
  kernel?.statusChanged?.connect(watch);
  hear();
  dashboard.want({});
  return () => {
    model.off("change:answer", hear);
    model.off("change:said", heed);
    kernel?.statusChanged?.disconnect(watch);
    clearTimeout(dashboard.unanswered);
    send({ rest: true });
  };
}

function openPage(el, source, how) {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const paint = () => { document.documentElement.dataset.jpThemeLight = String(!dark.matches); };
  dark.addEventListener("change", paint);
  paint();
  const dashboard = new Dashboard(el, source, { ...how, isPage: true });
  const goTo = () => dashboard.want({ open: decodeURIComponent(location.hash.slice(1)), step: 0 });
  addEventListener("popstate", goTo);
  queueMicrotask(goTo); // once the source knows the dashboard
  return dashboard;
}

export default { render: openWidget };
