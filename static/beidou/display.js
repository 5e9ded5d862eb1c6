// Copies what carries data-copy, by click or Enter, and says so for a moment.
"use strict";
(() => {
  const copy = (element) => {
    navigator.clipboard?.writeText(element.dataset.copy).then(() => {
      element.classList.add("bd-copied");
      setTimeout(() => element.classList.remove("bd-copied"), 1500);
    });
  };
  document.addEventListener("click", (event) => {
    const element = event.target.closest("[data-copy]");
    if (element) copy(element);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.matches?.("[data-copy]")) copy(event.target);
  });
})();
