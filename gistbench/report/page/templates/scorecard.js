"use strict";
// The page is whole without this: filters over the samples, and maps shown one at a time.
(() => {
  const form = document.getElementById("filters");
  if (!form) return;
  const status = form.querySelector("[role=status]");
  const everything = status.textContent;
  const groups = [...document.querySelectorAll("#samples .prompts")].map((element) => ({
    element,
    found: element.querySelector(".found"),
    prompts: [...element.querySelectorAll(".sample")].map((prompt) => ({
      element: prompt,
      answers: [...prompt.querySelectorAll("b.right, b.wrong")].map((mark) => {
        const row = mark.closest("div");
        return {
          row,
          arm: row.firstElementChild.textContent,
          right: mark.classList.contains("right") ? "1" : "0",
          differ: row.classList.contains("differ"),
        };
      }),
    })),
  }));
  const number = (count, word) => count.toLocaleString("en") + " " + word + (count === 1 ? "" : "s");

  function filter() {
    const { arm, task, context, part, right, differ, others } = form.elements;
    const value = (field) => (field ? field.value : "");
    const fits = (field, found) => value(field) === "" || value(field) === found;
    const disputed = differ && differ.checked;
    const chosen = [arm, task, context, part, right].some(value) || disputed;
    others.disabled = !(value(arm) || value(right) || disputed);
    let answers = 0;
    let prompts = 0;
    for (const group of groups) {
      const { dataset } = group.element;
      const here = fits(task, dataset.task) && fits(context, dataset.context);
      let shown = 0;
      for (const prompt of group.prompts) {
        let hits = 0;
        const match = (answer) =>
          fits(arm, answer.arm) && fits(right, answer.right) && (!disputed || answer.differ);
        if (here && fits(part, prompt.element.dataset.part)) hits = prompt.answers.filter(match).length;
        prompt.element.hidden = hits === 0;
        for (const answer of prompt.answers) answer.row.hidden = !others.checked && !match(answer);
        answers += hits;
        if (hits) shown += 1;
      }
      prompts += shown;
      group.element.hidden = shown === 0;
      if (chosen) group.element.open = shown > 0;
      group.found.textContent = chosen ? ", of which " + shown.toLocaleString("en") + " match" : "";
    }
    status.textContent = chosen
      ? number(answers, "answer") + " to " + number(prompts, "prompt") + " match, of " + everything
      : everything;
  }

  form.addEventListener("change", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter));
  form.hidden = false;
  filter();
})();

for (const box of document.querySelectorAll(".switched")) {
  const maps = [...box.querySelectorAll(".map")];
  const buttons = box.querySelector(".switch");
  const show = () => {
    const chosen = buttons.querySelector(":checked").value;
    for (const map of maps) map.hidden = map.dataset.map !== chosen;
  };
  buttons.addEventListener("change", show);
  buttons.hidden = false;
  show();
}
