// The queue refreshes itself (htmx, every 10 s while it is looked at), but not under somebody's hands.
"use strict";
(() => {
  const trouble = (is_shown) => {
    const line = document.getElementById("queue-trouble");
    line.textContent = is_shown ? line.dataset.text : "";
    line.hidden = !is_shown;
    document.getElementById("queue").classList.toggle("bd-stale", is_shown);
  };
  document.addEventListener("htmx:sendError", () => trouble(true));
  document.addEventListener("htmx:responseError", () => trouble(true));
  document.addEventListener("htmx:afterSwap", () => trouble(false));
  document.addEventListener("htmx:beforeSwap", (event) => {
    const queue = event.detail.target;
    if (queue.id !== "queue") return;
    const is_busy = queue.querySelector("details[open]") || queue.contains(document.activeElement);
    if (is_busy || String(getSelection()).length > 0) event.detail.shouldSwap = false;
  });
})();
