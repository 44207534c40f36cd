// A question with a few answers. The kernel gets the choice; once the answer is known, both are marked.

let count = 0;

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text) node.textContent = text;
  return node;
}

export default {
  render({ model, el }) {
    const name = `durable-predict-${count++}`;
    const box = make("fieldset", "durable-predict");
    box.append(make("legend", "", `Predict: ${model.get("question")}`));
    const labels = model.get("options").map((option) => {
      const label = make("label", "");
      const input = make("input", "");
      Object.assign(input, { type: "radio", name, value: option, checked: model.get("chosen") === option });
      input.addEventListener("change", () => {
        model.set("chosen", option);
        try {
          model.save_changes();
        } catch {
          // the kernel is gone; the page keeps the choice
        }
        show();
      });
      label.append(input, make("span", "", option));
      box.append(label);
      return label;
    });
    const said = make("p", "durable-predict-said");
    said.setAttribute("role", "status");
    box.append(said);
    el.append(box);

    function show() {
      const [chosen, answer] = [model.get("chosen"), model.get("answer")];
      box.dataset.state = answer ? (chosen === answer ? "right" : "revealed") : chosen ? "chosen" : "open";
      labels.forEach((label) => {
        const { value } = label.firstChild;
        label.dataset.mark = answer && value === answer ? "answer" : answer && value === chosen ? "missed" : "";
        label.firstChild.disabled = Boolean(answer);
      });
      said.textContent = answer ? `It is: ${answer}.` : chosen ? "Noted. Run on to see." : "Choose before you run on.";
    }
    model.on("change:answer", show);
    show();
    return () => model.off("change:answer", show);
  },
};
