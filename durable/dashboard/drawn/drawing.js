// What the panel and the dashboard draw with: nodes, lists that keep their nodes, the timeline. Text is set as text, never
// as HTML. Python puts this file before each of them, so that both are one module, without a build step.

const SHAPES = { upcoming: "○", running: "▶", completed: "✓", registered: "◇", replayed: "↩", waiting: "◷", zombie: "◌", failed: "✗" };
const KINDS = { completed: "✓", repeated: "◆", lost: "◌", failed: "✗", running: "▶", waited: "◷" };
const KIND_WORDS = { completed: "completed", repeated: "repeated", lost: "cut off, its effect may have happened", failed: "failed", running: "running", waited: "waiting" };

function make(tag, properties = {}, ...children) {
  const { data = {}, ...others } = properties;
  const node = Object.assign(document.createElement(tag), others);
  Object.assign(node.dataset, data);
  node.append(...children);
  return node;
}

function say(node, text) {
  if (node.textContent !== text) node.textContent = text; // a screen reader hears only what is new
}

// Bring the children of a node in line with a list, and keep those that stay: with them the focus and the scrolling.
// Several may have the same key, as two guesses of one name.
function sync(parent, items, keyOf, create, update) {
  const old = new Map();
  for (const node of parent.children) old.set(node.dataset.sync, [...(old.get(node.dataset.sync) ?? []), node]);
  items.forEach((item, index) => {
    const key = keyOf(item, index);
    const node = old.get(key)?.shift() ?? create(item);
    node.dataset.sync = key;
    update(node, item, index);
    if (parent.children[index] !== node) parent.insertBefore(node, parent.children[index] ?? null);
  });
  [...old.values()].flat().forEach((node) => node.remove());
}

// A button that cannot be used keeps the focus, and says so.
function allow(button, isAllowed) {
  button.ariaDisabled = isAllowed ? null : "true";
}

// ---- the kernel behind a widget, as far as the front end shows it

const DEAD = ["dead", "restarting", "autorestarting", "terminating"];

function findKernel(model) {
  try {
    return model.widget_manager?.kernel ?? null;
  } catch {
    return null;
  }
}

// ---- how far a step or a map says that it is, as a bar: `share` is from 0 to 1, or null

function makeShare(key) {
  return make("progress", { className: "durable-share", max: 1, ariaLabel: `progress of ${key}` });
}

function drawShare(bar, share) {
  bar.hidden = share === null;
  if (share !== null) bar.value = share;
}

// ---- the timeline

function drawTimeline(node, timeline, saved, gone) {
  node.hidden = !timeline;
  if (!timeline) return;
  if (!node.firstChild) {
    node.append(
      make("div", { className: "durable-title" }, "timeline ", make("span", { className: "durable-saved" })),
      make("div", { className: "durable-chart", role: "img" },
        make("div", { className: "durable-lanes" }), make("div", { className: "durable-overlay" })),
      make("div", { className: "durable-axis", ariaHidden: "true" }, make("span", { textContent: "0 s" }), make("span", {}), make("span", {})));
  }
  const [title, chart, axis] = node.children;
  say(title.lastChild, saved ? `↩ ${saved}` : "");
  title.lastChild.hidden = !saved;
  chart.ariaLabel = timeline.summary;
  const [lanes, overlay] = chart.children;
  const laneBars = timeline.lanes.map((lane, index) => ({ lane, bars: timeline.bars.filter((bar) => bar.lane === index) }));
  sync(lanes, laneBars, ({ lane }) => lane, ({ lane }) => make("div", { className: "durable-lane" }, make("span", { textContent: lane, title: lane }), make("div", {})), (row, { bars }) => {
    sync(row.lastChild, bars, (bar) => `${bar.key}:${bar.attempt}`, () => make("div", { className: "durable-bar" }), (drawn, bar) => drawBar(drawn, bar, gone));
  });
  node.style.setProperty("--lanes", `${8 + 9 * Math.min(22, Math.max(8, ...timeline.lanes.map((lane) => lane.length)))}px`);
  const last = timeline.lives.length - 1;
  const lives = timeline.lives.map((life, index) => ({ ...life, index, crashed: life.crashed || (gone && index === last) }));
  const lastCrash = lives.findLastIndex((life) => life.crashed);
  sync(overlay, lives, ({ index }) => `${index}`, makeLife, (drawn, life) => drawLife(drawn, life, { isLast: life.index === last, isLastCrash: life.index === lastCrash }));
  say(axis.lastChild, timeline.took);
  say(axis.children[1], timeline.is_cut ? "seconds of work (idle time compressed)" : "");
}

function makeLife() {
  return make("div", { className: "durable-life-line" }, ...["resumed", "resumed-word", "ticks", "killed", "killed-word"].map((part) =>
    make(part.endsWith("word") ? "span" : part === "ticks" ? "i" : "div", { className: `durable-${part}` })));
}

// Only the latest crash and resume have words: there may be sixty.
function drawLife(node, life, { isLast, isLastCrash }) {
  const [resumed, resumedWord, ticks, killed, killedWord] = node.children;
  for (const part of [resumed, resumedWord, ticks]) {
    part.hidden = life.index === 0;
    part.style.setProperty("--at", `${life.start}%`);
  }
  say(resumedWord, isLast ? `resumed${life.replayed ? `, ${life.replayed} replayed` : ""}` : "");
  say(ticks, isLast ? "|".repeat(Math.min(life.replayed, 20)) : "");
  for (const part of [killed, killedWord]) {
    part.hidden = !life.crashed;
    part.style.setProperty("--at", `${life.end}%`);
  }
  killedWord.dataset.side = life.end < 14 ? "right" : "left";
  say(killedWord, isLastCrash ? "✝ killed, about here" : "✝");
}

function drawBar(node, bar, gone) {
  const kind = gone && bar.kind === "running" ? "lost" : bar.kind;
  const name = bar.count > 1 ? `${bar.count} steps` : `${bar.key}${bar.attempt > 1 ? `, attempt ${bar.attempt}` : ""}`;
  node.dataset.kind = kind;
  node.style.left = `min(${bar.start}%, 100% - 3px)`;
  node.style.width = `max(${bar.width}%, 3px)`;
  node.title = `${name}: ${KIND_WORDS[kind]}`;
  say(node, bar.width > 4 ? `${KINDS[kind]} ${name}` : "");
}

// ---- a frame, an array or another formatted part of a value

function makePart({ place }) {
  return make("section", { data: { place } }, make("div", { className: "durable-title" }),
    make("div", { className: "durable-scroll", tabIndex: 0, role: "region", ariaLabel: `table of ${place}` },
      make("table", { className: "durable-mono" }, make("thead", {}, make("tr", {}), make("tr", {})), make("tbody", {}))),
    make("pre", { className: "durable-mono" }));
}

function drawPart(section, { place, words, table, text }) {
  const [title, scroll, pre] = section.children;
  const [head, body] = scroll.firstChild.children;
  const drawCells = (line, cells, create) => sync(line, cells, (_, index) => `${index}`, create, say);
  const makeHead = (name) => (name ? make("th", { scope: "col" }) : make("td")); // an index may have no name
  say(title, place === "$" ? "" : `${place}: ${words}`);
  title.hidden = place === "$";
  scroll.hidden = !table;
  pre.hidden = !text;
  say(pre, text);
  drawCells(head.children[0], table?.columns ?? [], makeHead);
  drawCells(head.children[1], table?.types ?? [], makeHead);
  sync(body, table?.rows ?? [], (_, index) => `${index}`, () => make("tr"), (line, cells) => drawCells(line, cells, () => make("td")));
}
