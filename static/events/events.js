// The figures come after the rows; when they do not, the page says so instead of counting for ever.
"use strict";
(() => {
  const trouble = (event) => {
    const place = event.detail.elt;
    if (place.id !== "ev-figures") return;
    const line = document.createElement("p");
    line.className = "bd-trouble";
    line.setAttribute("role", "status");
    line.textContent = place.dataset.trouble;
    place.replaceChildren(line);
  };
  document.addEventListener("htmx:sendError", trouble);
  document.addEventListener("htmx:responseError", trouble);
})();
