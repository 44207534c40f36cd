// A question with a few answers. The kernel gets the choice; once the answer is known, both are marked. The choice
// belongs to the page: it outlives the kernel, and a reload.

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text) node.textContent = text;
  return node;
}

// Pages without a storage of their own, as in some frames, forget the choice when they are loaded again.
function remember(question, option) {
  try {
    sessionStorage.setItem(`durable-predict ${question}`, option);
  } catch {
    // it is kept as long as the page is
  }
}

function recall(question) {
  try {
    return sessionStorage.getItem(`durable-predict ${question}`);
  } catch {
    return null;
  }
}

export default {
  render({ model, el }) {
    // of its own in the page: after a restart, this module is loaded again, and the older questions are still there
    const name = `durable-predict-${Math.random().toString(36).slice(2)}`;
    const [kind, question, options, of, because] = ["kind", "question", "options", "of", "because"].map((trait) => model.get(trait));
    const box = make("fieldset", "durable-predict");
    box.append(make("legend", "", `${kind}: ${question}`));
    const labels = options.map((option) => {
      const label = make("label", "");
      const input = make("input", "");
      Object.assign(input, { type: "radio", name, value: option });
      input.dataset.lmSuppressShortcuts = "true"; // the arrow keys choose an answer, and not another cell
      input.addEventListener("change", () => choose(option));
      label.append(input, make("span", "", option));
      box.append(label);
      return label;
    });
    const said = make("p", "durable-predict-said");
    said.setAttribute("role", "status");
    box.append(said);
    el.append(box);

    function tell(changes) {
      for (const [trait, value] of Object.entries(changes)) model.set(trait, value);
      try {
        model.save_changes();
      } catch {
        // the kernel is gone; the page keeps it
      }
      show();
    }

    function choose(option) {
      remember(question, option);
      tell({ chosen: option });
      settle();
    }

    // The panel of the same notebook answers as its workflow ends, when the kernel of this question may be dead.
    function hear(event) {
      const place = ".jp-Notebook";
      if (event.detail.of !== of || event.target.closest(place) !== el.closest(place)) return;
      model.durableHeard = event.detail.answer;
      settle();
    }

    function settle() {
      const answer = model.durableHeard;
      if (options.includes(answer) && !model.get("answer")) tell(model.get("chosen") ? { answer } : { is_found: true });
    }

    function show() {
      const [chosen, answer, isFound] = [model.get("chosen"), model.get("answer"), model.get("is_found")];
      box.dataset.state = answer ? (chosen === answer ? "right" : "revealed") : chosen ? "chosen" : "open";
      labels.forEach((label) => {
        const { value } = label.firstChild;
        label.dataset.mark = answer && value === answer ? "answer" : answer && value === chosen ? "missed" : "";
        label.firstChild.checked = value === chosen;
        label.firstChild.disabled = Boolean(answer);
      });
      const missed = chosen && chosen !== answer ? `You said ${chosen}. ` : "";
      if (answer) said.textContent = `${missed}It is: ${answer}. ${because}`.trim();
      else if (kind === "Recall") said.textContent = "Choose, and you see the answer.";
      else if (chosen) said.textContent = "Noted. Run on to see.";
      else said.textContent = isFound ? "The answer is known by now. Choose, and you see it." : "Choose before you run on.";
    }

    const kept = recall(question);
    if (!model.get("chosen") && options.includes(kept)) tell({ chosen: kept });
    for (const trait of ["answer", "is_found", "chosen"]) model.on(`change:${trait}`, show);
    document.addEventListener("durable-answer", hear);
    show();
    return () => {
      for (const trait of ["answer", "is_found", "chosen"]) model.off(`change:${trait}`, show);
      document.removeEventListener("durable-answer", hear);
    };
  },
};
