// The home page refreshes itself (htmx, every 10 s while it is looked at); this says so when it cannot.
"use strict";
(() => {
  const trouble = (is_shown) => {
    const line = document.getElementById("overview-trouble");
    if (!line) return;
    line.textContent = is_shown ? line.dataset.text : "";
    line.hidden = !is_shown;
    document.getElementById("overview").classList.toggle("bd-stale", is_shown);
  };
  document.addEventListener("htmx:sendError", () => trouble(true));
  document.addEventListener("htmx:responseError", () => trouble(true));
  document.addEventListener("htmx:afterSwap", () => trouble(false));
  // Somebody who is marking text must not have it taken away.
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.target.id === "overview" && String(getSelection()).length > 0) {
      event.detail.shouldSwap = false;
    }
  });
})();
