// The start form: picking machines writes their addresses into the field; another kind asks for its options.
"use strict";
(() => {
  const form = document.getElementById("op-start");
  const text = form.querySelector("textarea[name=machines]");
  const list = document.getElementById("op-pick-list");
  const words = () => text.value.split(/[\s,;]+/).filter(Boolean);

  const mark = () => {
    const chosen = new Set(words());
    for (const box of list?.querySelectorAll("input") ?? []) box.checked = chosen.has(box.value);
  };
  const set = (boxes, isOn) => {
    const chosen = words();
    for (const box of boxes) {
      const place = chosen.indexOf(box.value);
      if (isOn && place < 0) chosen.push(box.value);
      if (!isOn && place >= 0) chosen.splice(place, 1);
    }
    text.value = chosen.join("\n");
    mark();
  };
  list?.addEventListener("change", (event) => set([event.target], event.target.checked));
  text.addEventListener("input", mark);
  const shown = () => [...list.children].filter((item) => !item.hidden);
  document.getElementById("op-pick-find")?.addEventListener("input", (event) => {
    const wanted = event.target.value.trim().toLowerCase();
    for (const item of list.children) item.hidden = !item.textContent.toLowerCase().includes(wanted);
  });
  document.getElementById("op-pick-find")?.addEventListener("keydown", (event) => { if (event.key === "Enter") event.preventDefault(); });
  document.getElementById("op-pick-all")?.addEventListener("click", () => set(shown().filter((item) => !("blocked" in item.dataset)).map((item) => item.querySelector("input")), true));

  // The buttons of kinds post the form as it is; the server answers with that kind's options.
  for (const button of form.querySelectorAll("[data-step=change]")) {
    button.addEventListener("click", () => {
      form.querySelector("input[name=kind]").disabled = true;
      const step = Object.assign(document.createElement("input"), { type: "hidden", name: "step", value: "change" });
      form.append(step);
    });
  }
  // What is chosen here decides what else is asked.
  for (const select of form.querySelectorAll("select[data-reload]")) {
    select.addEventListener("change", () => {
      form.append(Object.assign(document.createElement("input"), { type: "hidden", name: "step", value: "change" }));
      form.submit();
    });
  }
  mark();
  const plan = document.getElementById("op-plan");
  if (plan) { plan.scrollIntoView({ block: "start" }); plan.focus({ preventScroll: true }); }
})();
