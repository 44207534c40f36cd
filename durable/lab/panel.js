// The page's side of the panel. It shows the state that the controller tells, sends clicks, and, since it outlives the
// kernel, is the one to say that the kernel died and to offer the resume.

const SHAPES = { upcoming: "○", running: "▶", completed: "✓", replayed: "↩", zombie: "◌", failed: "✗" };
const ENDED = { alive: "● alive", ready: "● ready", completed: "✓ completed", crashed: "✝ killed", failed: "✗ failed", interrupted: "■ interrupted", stopped: "■ stopped" };
const MOMENTS = {
  started: "before the effect",
  executed: "between effect and save",
  checkpointed: "after the save",
};
const DEAD = ["dead", "restarting", "autorestarting", "terminating"];
const RUN_CELL = "notebook:run-cell";

function make(tag, properties = {}, ...children) {
  const { data = {}, ...others } = properties;
  const node = Object.assign(document.createElement(tag), others);
  Object.assign(node.dataset, data);
  node.append(...children);
  return node;
}

// ---- what the page may know of the kernel; each front end offers a part of it, or nothing

function findKernel(model) {
  try {
    return model.widget_manager?.kernel ?? null;
  } catch {
    return null;
  }
}

function closeRestartDialog() {
  for (const dialog of document.querySelectorAll(".jp-Dialog")) {
    const buttons = dialog.querySelectorAll(".jp-Dialog-footer button");
    if (buttons.length === 1 && dialog.textContent.includes(".ipynb")) buttons[0].click();
  }
}

// ---- the panel

class View {
  constructor(model, el) {
    this.model = model;
    this.el = el;
    this.phase = "alive"; // alive, dying (told that the kill comes), dead, back
    this.death = null;
    this.build();
    this.update = () => this.draw();
    model.on("change:state", this.update);
    this.kernel = findKernel(model);
    this.onStatus = (_, status) => this.watch(status);
    this.kernel?.statusChanged?.connect(this.onStatus);
    this.draw();
  }

  remove() {
    this.model.off("change:state", this.update);
    this.kernel?.statusChanged?.disconnect(this.onStatus);
    clearInterval(this.timer);
  }

  build() {
    this.name = make("span", { className: "durable-name" });
    this.id = make("span", {});
    this.file = make("span", { className: "durable-file" });
    this.lives = make("ul", { className: "durable-lives", ariaLabel: "lives of the workflow" });
    this.flow = make("div", { className: "durable-flow", role: "list", ariaLabel: "steps" });
    this.sentence = make("p", { className: "durable-sentence", role: "status" });
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
    this.moment.addEventListener("change", arm);
    this.step.addEventListener("change", arm);
    this.arm = make("label", {}, "or crash", this.moment, "of", this.step);
    this.resume = make("button", { className: "durable-resume", textContent: "Resume", title: "Run this cell again, in the new kernel" });
    this.resume.dataset.commandlinkerCommand = RUN_CELL; // JupyterLab and Notebook 7 run the cell by themselves
    this.resume.dataset.commandlinkerArgs = "{}";
    this.resume.addEventListener("click", () => this.expectResume());
    this.hint = make("span", { className: "durable-file" });
    const buttons = make("div", { className: "durable-buttons" },
      this.next, this.all, this.crash, this.arm, this.resume, this.hint, this.reset);
    const head = make("div", { className: "durable-head" }, this.name, this.id, this.file, this.lives);
    this.root = make("div", { className: "durable-panel", role: "group" }, head, buttons, this.sentence, this.flow, this.tables);
    this.el.replaceChildren(this.root);
  }

  button(text, className, message, title) {
    const button = make("button", { textContent: text, className, title });
    button.addEventListener("click", () => this.send(message));
    return button;
  }

  send(message) {
    try {
      this.model.send(message);
    } catch {
      this.die(); // the comm is gone, and with it the kernel
    }
  }

  // ---- the kernel's death and return

  watch(status) {
    if (DEAD.includes(status)) this.die();
    else if (this.phase === "dead" && ["idle", "busy"].includes(status)) this.comeBack();
  }

  die() {
    if (this.phase === "dead") return;
    const { pid, crash } = this.model.get("state");
    this.phase = "dead";
    this.death = crash ?? { pid, where: null, at: new Date().toTimeString().slice(0, 8) };
    if (crash) this.timer = setInterval(closeRestartDialog, 150); // its news is ours, and it would lie over the Resume button
    this.draw();
  }

  comeBack() {
    this.phase = "back";
    closeRestartDialog();
    setTimeout(() => clearInterval(this.timer), 10_000);
    this.draw();
  }

  expectResume() {
    closeRestartDialog();
    // where the page can run the cell, a new view replaces this one; if it does not, say what to do
    setTimeout(() => { this.hint.textContent = "If nothing happens: run this cell again, with Shift+Enter."; }, 2500);
  }

  // ---- drawing

  draw() {
    const state = this.model.get("state");
    if (state?.workflow === undefined) return;
    if (state.crash && this.phase === "alive") {
      this.phase = "dying";
      this.death = state.crash;
      if (!this.kernel) this.phase = "back"; // nobody will tell us when it is
    }
    const gone = this.phase !== "alive";
    this.root.dataset.phase = this.phase;
    this.root.dataset.status = state.status;
    this.root.dataset.pid = state.pid;
    this.root.setAttribute("aria-label", `workflow ${state.workflow_id}`);
    this.name.textContent = state.workflow;
    this.id.textContent = state.workflow_id;
    this.file.textContent = state.database;
    this.lives.replaceChildren(...this.drawLives(state.lives, gone));
    this.flow.replaceChildren(...this.drawFlow(state.columns, gone));
    this.drawSentence(gone ? this.tellOfDeath() : state.sentence);
    this.drawTables(state, gone);
    this.drawButtons(state, gone);
  }

  drawLives(lives, gone) {
    const shown = lives.slice(-3);
    const items = lives.length > shown.length ? [make("li", { className: "durable-arrow", textContent: `${lives.length - shown.length} earlier` })] : [];
    shown.forEach((life, index) => {
      if (items.length) items.push(make("li", { className: "durable-arrow", textContent: "→", ariaHidden: "true" }));
      const ended = gone && index === shown.length - 1 ? "crashed" : life.ended;
      const at = ended !== life.ended && this.death?.at ? ` ${this.death.at}` : "";
      items.push(make("li", { className: "durable-life", data: { ended, pid: life.pid }, textContent: `process ${life.pid} ${ENDED[ended] ?? ended}${at}` }));
    });
    return items;
  }

  drawFlow(columns, gone) {
    const nodes = [];
    for (const column of columns) {
      if (nodes.length) nodes.push(make("span", { className: "durable-arrow", textContent: "→", ariaHidden: "true" }));
      nodes.push(make("div", { className: "durable-column" }, ...column.map((card) => this.drawStep(card, gone))));
    }
    return nodes;
  }

  drawStep(card, gone) {
    const isZombie = gone && card.state === "running";
    const state = isZombie ? "zombie" : card.state;
    const word = isZombie ? "zombie, never saved" : gone && card.state === "upcoming" ? "upcoming" : card.word;
    const attempt = card.attempt > 1 ? ` (attempt ${card.attempt})` : "";
    const seconds = state === "replayed" ? "0 s" : card.seconds === null ? "" : `${card.seconds.toFixed(2)} s`;
    return make("div", { className: "durable-step", role: "listitem", data: { key: card.key, state, twice: card.twice, next: card.next && !gone } },
      make("div", { className: "durable-key", textContent: card.key }),
      make("div", { className: "durable-line" },
        make("span", { className: "durable-word", textContent: `${card.twice && state !== "zombie" ? "◆" : SHAPES[state]} ${word}${attempt}` }),
        make("span", { className: "durable-time", textContent: seconds })),
      make("div", { className: "durable-result durable-mono", textContent: card.result, title: card.result }));
  }

  tellOfDeath() {
    const { pid, where, at } = this.death;
    const how = where ? ` by SIGKILL at ${at}, ${where}` : "";
    const text = {
      dying: "What is not saved by now is lost.",
      dead: "What it had not saved is lost; what it had saved is in the database. Waiting for a new kernel ...",
      back: this.kernel ? "The new kernel is here, and knows nothing. Resume runs this cell again." : "When the kernel is back, run this cell again.",
    }[this.phase];
    return { tone: "crash", head: `Process ${pid} ${where ? "was killed" : "is gone"}${how}.`, text };
  }

  drawSentence({ tone, head, text }) {
    this.sentence.dataset.tone = tone;
    this.sentence.replaceChildren(make("strong", { textContent: head }), ` ${text}`);
  }

  drawTables(state, gone) {
    const before = new Map((state.rows_at_crash ?? []).map((row) => [row.step_key, row]));
    const parts = [];
    if (state.rows_at_crash && !gone) parts.push(drawTable("steps, at the crash", state.rows_at_crash, () => ({})));
    const mark = (row) => {
      if (!state.rows_at_crash || gone) return {};
      const old = before.get(row.step_key);
      return old ? { changed: JSON.stringify(old) !== JSON.stringify(row) } : { new: true };
    };
    parts.push(drawTable(gone ? "steps, as the dead process left them" : "steps, now", state.rows, mark));
    this.tables.replaceChildren(...parts);
  }

  drawButtons(state, gone) {
    for (const node of [this.next, this.all, this.crash, this.arm, this.reset]) node.hidden = gone;
    this.resume.hidden = !gone;
    this.resume.disabled = this.phase !== "back";
    if (!gone) this.hint.textContent = state.closed ? "Another panel has taken over." : "";
    const done = state.status === "completed" || state.closed;
    this.next.disabled = this.all.disabled = done || !state.can_run;
    this.crash.disabled = this.reset.disabled = state.closed;
    this.moment.disabled = this.step.disabled = done;
    const options = ["", ...new Set([...state.crash_points, ...(state.armed ? [state.armed[0]] : [])])];
    if (options.join() !== this.options) {
      this.options = options.join();
      this.step.replaceChildren(...options.map((value) => make("option", { value, textContent: value || "no step" })));
    }
    this.step.value = state.armed?.[0] ?? "";
    if (state.armed) this.moment.value = state.armed[1];
  }
}

function drawTable(title, rows, mark) {
  const columns = ["step_key", "status", "attempt", "output"];
  const head = make("tr", {}, ...columns.map((column) => make("th", { textContent: column, scope: "col" })));
  const body = rows.map((row) =>
    make("tr", { data: mark(row) }, ...columns.map((column) => make("td", { textContent: row[column] ?? "", title: column === "output" ? row[column] ?? "" : "" }))));
  const table = make("table", { className: "durable-mono" }, make("thead", {}, head), make("tbody", {}, ...body));
  const none = rows.length ? [] : [make("span", { className: "durable-file", textContent: "no rows" })];
  return make("section", { ariaLabel: title }, make("h4", { textContent: title }), ...(rows.length ? [table] : none));
}

function render({ model, el }) {
  const view = new View(model, el);
  return () => view.remove();
}

export default { render };
