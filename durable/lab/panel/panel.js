// The page's side of the panel. It shows the controller's state and sends clicks. It outlives the kernel, so it says
// that the kernel died, and offers the resume. `drawing.js` comes before it, in one module.

const ENDED = { alive: "● alive", ready: "● ready", completed: "✓ completed", crashed: "✝ killed", failed: "✗ failed", cancelled: "■ cancelled", suspended: "◷ suspended", interrupted: "■ interrupted", stopped: "■ stopped", gone: "■ gone" };
const CHANGES = { unchanged: "", new: "+ new", "tried again": "◆ tried again", "completed since": "✓ completed since", "failed since": "✗ failed since" };
const MOMENTS = {
  started: "before the effect",
  executed: "between effect and save",
  checkpointed: "after the save",
};
const IMPORTS = ["imports", "import_problem"];
const RUN_CELL = "notebook:run-cell";
const ASKS = "Jupyter may ask. “Kernel Restarting” only says that the process has ended: press Ok. “Run Command?” comes in a notebook that is not trusted yet: Run Once runs this cell again.";
const TALLEST = 3; // steps side by side are drawn one above the other up to here, then in rows
const MANY = 12; // steps: more are drawn smaller
const ANSWER_MS = 6000; // a kernel that is busy with another cell answers later, a dead one never

// ---- the page's knowledge of the kernel; each front end offers a part of it, or nothing

function closeRestartDialog() {
  for (const dialog of document.querySelectorAll(".jp-Dialog")) {
    const buttons = dialog.querySelectorAll(".jp-Dialog-footer button");
    if (buttons.length === 1 && dialog.textContent.includes(".ipynb")) buttons[0].click();
  }
}

// Voila shows a notebook without its cells: nothing there can run one again, but loading the page runs them all.
function isVoila() {
  return document.body.dataset.voila === "voila";
}

function isVsCode() {
  return "vscodeThemeKind" in document.body.dataset;
}

// ---- the panel

class View {
  constructor(model, el) {
    this.model = model;
    this.el = el;
    this.phase = "alive"; // alive, dying (told that the kill comes), dead, back
    this.death = null;
    this.build();
    this.update = () => this.hear();
    model.on("change:state", this.update);
    for (const trait of IMPORTS) model.on(`change:${trait}`, this.update);
    this.kernel = findKernel(model);
    this.canResume = isVoila() || Boolean(this.kernel);
    this.onStatus = (_, status) => this.watch(status);
    this.kernel?.statusChanged?.connect(this.onStatus);
    this.draw();
    requestAnimationFrame(() => this.draw()); // by now it is on the page, and knows its notebook
    if (globalThis.durableResumes) {
      globalThis.durableResumes = false; // the cell was run by our own button: go on where the hands are
      requestAnimationFrame(() => this.next.focus());
    }
  }

  remove() {
    this.model.off("change:state", this.update);
    for (const trait of IMPORTS) this.model.off(`change:${trait}`, this.update);
    this.kernel?.statusChanged?.disconnect(this.onStatus);
    clearInterval(this.timer);
    clearTimeout(this.unanswered);
  }

  build() {
    const id = `durable-${Math.random().toString(36).slice(2)}`;
    this.name = make("span", { className: "durable-name" });
    this.id = make("span", {});
    this.file = make("span", { className: "durable-file" });
    this.lives = make("ul", { className: "durable-lives", ariaLabel: "lives of the workflow" });
    this.foretold = make("p", { className: "durable-foretold", id: `${id}-foretold` });
    this.sentence = make("p", { className: "durable-sentence", role: "status" });
    this.bar = make("progress", { ariaLabel: "steps completed" });
    this.count = make("span", {});
    this.progress = make("div", { className: "durable-progress" }, this.bar, this.count);
    this.flow = make("ol", { className: "durable-flow", role: "list", ariaLabel: "steps" });
    this.buildPager();
    this.buildValue(id);
    this.buildMessage(id);
    this.timeline = make("div", { className: "durable-timeline" });
    this.tables = make("div", { className: "durable-tables" });
    this.next = this.button("Next step", "durable-first", { do: "next" }, "Let one step run");
    this.all = this.button("Run all", "", { do: "all" }, "Let everything run to the end");
    this.crash = this.button("Crash now", "durable-kill", { do: "crash" }, "Kill the kernel's process with SIGKILL");
    this.reset = this.button("Reset", "durable-reset", { do: "reset" },
      "Begin anew: forget the rows of this workflow, and its lines in the effects log of the examples. A real world cannot be reset.");
    this.moment = make("select", { ariaLabel: "moment to crash at" },
      ...Object.entries(MOMENTS).map(([value, text]) => make("option", { value, textContent: text })));
    this.moment.value = "executed";
    this.step = make("select", { ariaLabel: "step to crash at" });
    const arm = () => this.send({ do: "arm", step: this.step.value || null, moment: this.moment.value });
    for (const control of [this.moment, this.step]) control.addEventListener("change", arm);
    for (const control of [this.crash, this.moment, this.step]) control.setAttribute("aria-describedby", this.foretold.id);
    this.arm = make("span", { className: "durable-arm" }, "or crash", this.moment, "of", this.step);
    this.resume = make("button", { className: "durable-resume", textContent: "Resume", title: "Run this cell again, in the new kernel" });
    if (isVoila()) {
      this.resume.textContent = "Reload and resume";
      this.resume.addEventListener("click", () => location.reload());
    } else {
      this.resume.dataset.commandlinkerCommand = RUN_CELL; // JupyterLab and Notebook 7 run the cell by themselves
      this.resume.dataset.commandlinkerArgs = "{}";
      this.resume.addEventListener("click", () => this.expectResume());
    }
    this.imports = make("button", { textContent: "Run the imports again", title: "The new kernel has no variables. This runs the cells again that only import." });
    this.imports.addEventListener("click", () => this.send({ do: "import", code: this.notebook().durableImports }));
    this.hint = make("span", { className: "durable-file", role: "status" });
    const buttons = make("div", { className: "durable-buttons", role: "group", ariaLabel: "what to do" },
      this.next, this.all, this.crash, this.arm, this.resume, this.imports, this.hint, this.reset, this.foretold);
    const head = make("div", { className: "durable-head" }, this.name, this.id, this.file, this.lives);
    this.root = make("div", { className: "durable-panel", role: "group" },
      head, buttons, this.sentence, this.message, this.progress, this.flow, this.pager, this.value, this.timeline, this.tables);
    // the keys belong to the panel while it has the focus; those of a notebook match what has it before what is around
    for (const node of [this.root, this.moment, this.step, this.event]) node.dataset.lmSuppressShortcuts = "true";
    this.el.replaceChildren(this.root);
  }

  buildPager() {
    const look = (text, first) => {
      const button = make("button", { textContent: text });
      button.addEventListener("click", () => { if (!button.ariaDisabled) this.send({ do: "look", first: first(this.model.get("state").page) }); });
      return button;
    };
    this.earlier = look("Earlier", (page) => Math.max(0, page.first - page.size));
    this.later = look("Later", (page) => page.first + page.size);
    this.follow = look("Follow", () => null);
    this.place = make("span", {});
    this.pager = make("div", { className: "durable-pager", role: "group", ariaLabel: "which steps are shown" },
      this.earlier, this.place, this.later, this.follow);
  }

  buildValue(id) {
    this.valueTitle = make("div", { className: "durable-title", id: `${id}-value-title` });
    this.valueTries = make("ul", { className: "durable-tries" });
    this.valueText = make("pre", { className: "durable-mono", tabIndex: 0 });
    this.valueText.setAttribute("aria-labelledby", this.valueTitle.id);
    this.valueText.setAttribute("role", "region");
    const close = make("button", { textContent: "Close" });
    close.addEventListener("click", () => {
      const key = this.model.get("state").value?.key;
      this.send({ do: "show", step: null });
      [...this.root.querySelectorAll(".durable-step")].find((step) => step.dataset.key === key)?.querySelector("button")?.focus();
    });
    this.valueParts = make("div", { className: "durable-tables" });
    this.value = make("div", { className: "durable-value", hidden: true, id: `${id}-value` },
      make("div", { className: "durable-value-head" }, this.valueTitle, close), this.valueTries, this.valueText, this.valueParts);
  }

  // The text is sent as JSON if it is JSON, else as a text.
  buildMessage(id) {
    this.event = make("select", { id: `${id}-event` });
    this.text = make("input", { id: `${id}-text`, autocomplete: "off", spellcheck: false, placeholder: 'yes, or {"granted": true}' });
    this.reads = make("span", { className: "durable-file", id: `${id}-reads` });
    this.text.setAttribute("aria-describedby", this.reads.id);
    this.text.addEventListener("input", () => this.tellMessage());
    this.sent = make("span", { role: "status" });
    this.sendMessage = make("button", { textContent: "Send", title: "Leave this message on record. Any process could do it, such as durable send." });
    this.message = make("form", { className: "durable-message", hidden: true, ariaLabel: "a message for the workflow" },
      make("label", { textContent: "event", htmlFor: this.event.id }), this.event,
      make("label", { textContent: "message", htmlFor: this.text.id }), this.text, this.sendMessage, this.reads, this.sent);
    this.message.addEventListener("submit", (event) => {
      event.preventDefault();
      if (!this.sendMessage.ariaDisabled) this.send({ do: "send", event: this.event.value, text: asJson(this.text.value) });
    });
    this.tellMessage();
  }

  tellMessage() {
    const json = asJson(this.text.value);
    const kind = { "{": "an object", "[": "a list", '"': "a text", t: "true", f: "false", n: "null" }[json.trimStart()[0]] ?? "a number";
    say(this.reads, `is sent as ${kind}`);
  }

  button(text, className, message, title) {
    const button = make("button", { textContent: text, className, title });
    button.addEventListener("click", () => { if (!button.ariaDisabled) this.send(message); });
    return button;
  }

  send(message) {
    if (this.phase !== "alive") return;
    try {
      this.model.send(message);
    } catch {
      this.die(); // the comm is gone, and with it the kernel
      return;
    }
    clearTimeout(this.unanswered);
    this.unanswered = setTimeout(() => {
      if (this.phase === "alive") say(this.hint, "No answer yet: the kernel is busy with another cell, or it is gone. If it is gone, restart the kernel and run this cell again; nothing that was saved is lost.");
    }, ANSWER_MS);
  }

  // News come as often as the kernel likes; they are drawn once a frame.
  hear() {
    clearTimeout(this.unanswered);
    const { crash } = this.model.get("state");
    if (crash && this.phase === "alive") {
      this.phase = "dying";
      this.hasFocus = this.root.contains(document.activeElement);
      this.death = crash;
      if (!this.kernel) this.phase = "back"; // the front end does not say when it is
    }
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => { this.frame = null; this.draw(); });
  }

  // ---- the kernel's death and return

  watch(status) {
    if (DEAD.includes(status)) this.die(status === "restarting" ? "interrupted" : "gone"); // by the menu, or by itself
    else if (this.phase === "dead" && ["idle", "busy"].includes(status)) this.comeBack();
  }

  die(how = "gone") {
    if (this.phase === "dead") return;
    this.hasFocus ||= this.root.contains(document.activeElement);
    this.notebook().durableImports ||= this.model.get("imports"); // the new kernel begins without them
    const { pid, crash } = this.model.get("state");
    this.phase = "dead";
    this.death = crash ? { ...crash, how: "crashed" } : { pid, how, where: null, at: new Date().toTimeString().slice(0, 8) };
    if (crash) this.timer = setInterval(closeRestartDialog, 150); // its news is ours, and it would lie over the Resume button
    this.draw();
    if (isVoila()) this.comeBack(); // the page that comes next brings its own kernel
  }

  comeBack() {
    this.phase = "back";
    closeRestartDialog();
    setTimeout(() => clearInterval(this.timer), 10_000);
    this.draw();
    if (this.hasFocus) this.resume.focus();
  }

  expectResume() {
    closeRestartDialog();
    globalThis.durableResumes = true;
    // where the page can run the cell, a new view replaces this one; if it does not, say what to do
    setTimeout(() => {
      globalThis.durableResumes = false;
      say(this.hint, "If nothing happens: run this cell again, with Shift+Enter.");
    }, 5000);
  }

  notebook() {
    return this.root.closest(".jp-Notebook") ?? document.body;
  }

  // ---- drawing

  draw() {
    const state = this.model.get("state");
    if (state?.workflow === undefined) return;
    const gone = this.phase !== "alive";
    this.root.dataset.phase = this.phase;
    this.root.dataset.status = state.status;
    this.root.dataset.pid = state.pid;
    this.root.ariaLabel = `workflow ${state.workflow_id}`;
    say(this.name, state.workflow);
    say(this.id, state.workflow_id);
    say(this.file, state.database);
    this.drawLives(state.lives, gone);
    this.drawSentence(gone ? this.tellOfDeath() : state.sentence);
    this.drawMessage(state, gone);
    this.drawProgress(state, gone);
    drawFlow(this.flow, state.columns, { gone, shown: state.value?.key, view: this, dense: state.page.count > MANY });
    this.drawPager(state.page, gone);
    this.drawValue(state.value);
    drawTimeline(this.timeline, state.timeline, state.saved, gone);
    this.drawTables(state, gone);
    this.drawButtons(state, gone);
    this.answer(state.ran);
  }

  // A question on this page may ask how many steps ran after the crash. Its kernel is dead by then; the page is not.
  answer(ran) {
    if (ran === null || ran === this.answered || !this.root.isConnected) return;
    this.answered = ran;
    this.root.dispatchEvent(new CustomEvent("durable-answer", { bubbles: true, detail: { of: "panel.ran", answer: `${ran}` } }));
  }

  drawLives(lives, gone) {
    const shown = lives.slice(-3).map((life, index, all) => {
      const how = gone && index === all.length - 1 ? this.death.how ?? "crashed" : null;
      const ended = how === "crashed" || (how && ["alive", "ready"].includes(life.ended)) ? how : life.ended;
      const at = ended !== life.ended && this.death?.at ? ` ${this.death.at}` : "";
      return { ...life, ended, text: `process ${life.pid} ${ENDED[ended] ?? ended}${at}` };
    });
    const earlier = lives.length - shown.length;
    const items = earlier ? [{ text: `${earlier} earlier` }, ...shown] : shown;
    sync(this.lives, items, (_, index) => `${index}`, () => make("li", {}), (node, life) => {
      node.className = life.pid ? "durable-life" : "durable-earlier";
      Object.assign(node.dataset, { ended: life.ended ?? "", pid: life.pid ?? "" });
      say(node, life.text);
    });
  }

  tellOfDeath() {
    const { pid, how, where, at } = this.death;
    const head = where ? `was killed by SIGKILL at ${at}, ${where}` : how === "interrupted" ? "was interrupted: its kernel was restarted" : "is gone";
    const again = isVoila() ? "Reload the page: it brings a new kernel, which knows nothing but what is in the database."
      : this.kernel ? "A new kernel has started. It remembers nothing. Resume runs this cell again."
      : isVsCode() ? "VS Code starts no dead kernel by itself: run this cell again, and it offers to."
      : "If the kernel does not start again by itself, restart it; then run this cell again.";
    const text = {
      dying: "Anything not saved by now is lost.",
      dead: "Anything it had not saved is lost; all it had saved is in the database. Waiting for a new kernel ...",
      back: again,
    }[this.phase];
    return { tone: "crash", head: `Process ${pid} ${head}.`, text };
  }

  drawSentence({ tone, head, text }) {
    this.sentence.dataset.tone = tone;
    if (this.told === `${head} ${text}`) return;
    this.told = `${head} ${text}`;
    this.sentence.replaceChildren(make("strong", { textContent: head }), ` ${text}`);
  }

  drawMessage({ awaited, sent, closed }, gone) {
    const hadFocus = this.message.contains(document.activeElement);
    this.message.hidden = gone || closed || !awaited.length;
    if (hadFocus && this.message.hidden) this.next.focus(); // the wait is over
    const events = awaited.join("\n");
    if (events !== this.events) {
      this.events = events;
      this.event.replaceChildren(...awaited.map((value) => make("option", { value, textContent: value })));
    }
    say(this.sent, sent ?? "");
  }

  drawProgress({ progress }, gone) {
    this.progress.hidden = gone || (!progress.is_running && !progress.done);
    this.bar.max = Math.max(1, progress.known);
    this.bar.value = progress.done;
    say(this.count, progress.text);
  }

  drawPager(page, gone) {
    this.pager.hidden = gone || page.total <= page.size;
    say(this.place, `steps ${page.first + 1} to ${page.first + page.count} of ${page.total}`);
    allow(this.earlier, page.first > 0);
    allow(this.later, page.first + page.count < page.total);
    allow(this.follow, !page.follows);
  }

  drawValue(value) {
    this.value.hidden = !value;
    if (!value) return;
    say(this.valueTitle, `value of ${value.key}`);
    sync(this.valueTries, value.tries, (_, index) => `${index}`, () => make("li", {}), say);
    say(this.valueText, value.text);
    sync(this.valueParts, value.parts, (part) => part.place, makePart, drawPart);
  }

  drawTables(state, gone) {
    const parts = [];
    if (state.rows_at_crash && !gone) parts.push({ title: "steps, at the crash", rows: state.rows_at_crash });
    parts.push({ title: gone ? "steps, as the dead process left them" : "steps, now", rows: state.rows, changes: state.rows_at_crash && !gone });
    sync(this.tables, parts, (part) => part.title, makeTable, drawTable);
  }

  drawButtons(state, gone) {
    for (const node of [this.next, this.all, this.crash, this.arm, this.reset, this.foretold]) node.hidden = gone;
    this.resume.hidden = !gone || !this.canResume; // no button that does nothing: the sentence says what to do
    allow(this.resume, this.phase === "back");
    this.resume.disabled = this.phase !== "back";
    const lost = this.notebook().durableImports;
    this.imports.hidden = gone || state.closed || !lost || this.model.get("imports").includes(lost);
    const problem = this.model.get("import_problem");
    if (this.phase === "back" && this.canResume && !isVoila() && !this.hint.textContent) say(this.hint, ASKS);
    if (!gone) say(this.hint, state.closed ? "Another panel has taken over." : problem && !this.imports.hidden ? problem : "");
    say(this.foretold, state.foretold);
    this.foretold.dataset.armed = Boolean(state.armed) || state.crash_waits;
    const done = state.status === "completed" || state.closed;
    for (const button of [this.next, this.all]) allow(button, !done && state.can_run);
    allow(this.crash, !state.closed && !state.crash_waits);
    allow(this.reset, !state.closed && !state.crash_waits);
    this.moment.disabled = this.step.disabled = done;
    const points = [...cardsOf(state.columns)].filter((card) => card.can_crash).map((card) => card.key);
    const options = ["", ...new Set([...points, ...(state.armed ? [state.armed[0]] : [])])];
    const known = `${options} ${Boolean(state.armed)}`;
    if (known !== this.options) {
      this.options = known;
      this.step.replaceChildren(...options.map((value) => make("option", { value, textContent: value || (state.armed ? "(do not crash)" : "choose a step") })));
    }
    this.step.value = state.armed?.[0] ?? "";
    if (state.armed) this.moment.value = state.armed[1];
  }
}

function asJson(text) {
  try {
    JSON.parse(text);
    return text;
  } catch {
    return JSON.stringify(text);
  }
}

function* cardsOf(columns) {
  for (const item of columns.flat()) {
    if (item.columns) yield* cardsOf(item.columns);
    else if (!item.group) yield item;
  }
}

// ---- the steps

function drawFlow(flow, columns, how) {
  flow.dataset.dense = how.dense;
  sync(flow, columns, (_, index) => `${index}`, () => make("li", { className: "durable-place" }, make("ul", { className: "durable-column", role: "list" })), (place, column) => {
    const list = place.firstChild;
    const together = column.length > 1 ? `${column.length} side by side` : null;
    list.ariaLabel = together;
    list.toggleAttribute("data-together", Boolean(together));
    if (together) list.dataset.together = together;
    place.dataset.wide = column.length > TALLEST || column.some((item) => item.columns || item.group);
    const kind = (item) => KINDS_OF_ITEM[item.columns ? "branch" : item.group ? "group" : "step"];
    sync(list, column, (item) => kind(item).key(item), (item) => kind(item).make(item, how.view), (node, item) => kind(item).draw(node, item, how));
  });
}

const KINDS_OF_ITEM = {
  branch: { key: (item) => `branch ${item.branch}`, make: makeBranch, draw: (node, item, how) => drawFlow(node.lastChild, item.columns, how) },
  group: { key: (item) => `group ${item.key}`, make: makeGroup, draw: drawGroup },
  step: { key: (item) => item.key, make: makeStep, draw: drawStep },
};

// Many steps of one name, as a map makes them: one card with a bar.
function makeGroup({ key }, view) {
  const button = make("button", { className: "durable-open" });
  button.addEventListener("click", () => { if (!button.ariaDisabled) view.send({ do: "open", group: key }); });
  return make("li", { className: "durable-step durable-group", data: { group: key } },
    make("div", { className: "durable-key" }),
    make("progress", { ariaLabel: "steps ended" }),
    make("div", { className: "durable-line" }, make("span", { className: "durable-word" }), make("span", { className: "durable-time" })), button);
}

function drawGroup(node, group, { gone }) {
  const [title, bar, line, button] = node.children;
  const state = gone && group.state === "running" ? "zombie" : group.state;
  Object.assign(node.dataset, { state, twice: group.twice, next: group.next && !gone });
  say(title, group.title);
  bar.max = group.count;
  bar.value = group.ended;
  say(line.firstChild, `${group.twice ? "◆" : SHAPES[state]} ${group.word}`);
  say(line.lastChild, group.rate);
  say(button, group.open ? "Show as one" : "Show each");
  button.ariaLabel = `${button.textContent}, ${group.title}`;
  button.ariaExpanded = String(group.open);
  allow(button, !gone);
}

function makeBranch({ branch, title }) {
  return make("li", { className: "durable-branch", data: { branch } },
    make("div", { className: "durable-branch-name", textContent: title }),
    make("ol", { className: "durable-flow", role: "list", ariaLabel: `steps of ${title}` }));
}

function makeStep(card, view) {
  const button = make("button", { className: "durable-result durable-mono" });
  button.addEventListener("click", () => view.send({ do: "show", step: button.ariaExpanded === "true" ? null : card.key }));
  button.setAttribute("aria-controls", view.value.id);
  return make("li", { className: "durable-step", data: { key: card.key } },
    make("div", { className: "durable-key" }, card.key.split("/").at(-1), make("span", { className: "durable-kind" })),
    make("div", { className: "durable-line" },
      make("span", { className: "durable-word" }), make("span", { className: "durable-time" })),
    makeShare(card.key), make("ul", { className: "durable-failures" }), button);
}

function drawStep(node, card, { gone, shown }) {
  const isZombie = gone && card.state === "running";
  const state = isZombie ? "zombie" : card.state;
  const word = isZombie ? "zombie, never saved" : gone && card.state === "upcoming" ? "expected" : card.word;
  const attempt = card.attempt > 1 ? ` (attempt ${card.attempt})` : "";
  const [name, line, share, failures, button] = node.children;
  drawShare(share, card.share);
  say(name.lastChild, card.kind);
  name.lastChild.hidden = !card.kind;
  sync(failures, card.failures, (_, index) => `${index}`, () => make("li", {}), say);
  Object.assign(node.dataset, { state, twice: card.twice, next: card.next && !gone });
  say(line.firstChild, `${card.twice && state !== "zombie" ? "◆" : SHAPES[state]} ${word}${attempt}`);
  say(line.lastChild, state === "replayed" ? "0 s" : card.took);
  button.hidden = card.attempt === null;
  const text = card.result || "details";
  say(button, text);
  button.title = "Show all records of this step";
  button.ariaLabel = `${text}, all records of ${card.key}`;
  button.ariaExpanded = String(shown === card.key);
  allow(button, !gone);
}

// ---- the tables

const COLUMNS = ["step_key", "status", "attempt", "output"];

function makeTable({ title }) {
  const scroll = make("div", { className: "durable-scroll", tabIndex: 0, role: "region", ariaLabel: title },
    make("table", { className: "durable-mono" }, make("thead", {}, make("tr", {})), make("tbody", {})));
  return make("section", {}, make("div", { className: "durable-title", textContent: title }), scroll, make("span", { className: "durable-file", textContent: "no rows" }));
}

function drawTable(section, { rows, changes }) {
  const [, scroll, none] = section.children;
  const columns = changes ? ["change", ...COLUMNS] : COLUMNS;
  const [head, body] = scroll.firstChild.children;
  scroll.hidden = !rows.length;
  none.hidden = rows.length > 0;
  sync(head.firstChild, columns, (column) => column, (column) => make("th", { textContent: column, scope: "col" }), () => {});
  sync(body, rows, (row) => row.step_key, () => make("tr", {}), (line, row) => {
    line.dataset.change = (changes && row.change) || "";
    sync(line, columns, (column) => column, (column) => make("td", { data: { column } }), (cell, column) => {
      say(cell, column === "change" ? CHANGES[row.change] ?? "" : String(row[column] ?? ""));
    });
  });
}

function render({ model, el }) {
  const view = new View(model, el);
  return () => view.remove();
}

export default { render };
