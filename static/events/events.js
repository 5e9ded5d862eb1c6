// What is counted comes later; when it does not, the page says so instead of counting for ever.
"use strict";
(() => {
  const trouble = (event) => {
    const place = event.detail.target;
    if (!place?.dataset.trouble) return;
    const line = document.createElement("p");
    line.className = "bd-trouble";
    line.setAttribute("role", "status");
    const answer = event.detail.xhr;
    // The portal says why in plain text when the event store is away.
    const said = answer && (answer.getResponseHeader("Content-Type") || "").startsWith("text/plain");
    line.textContent = said && answer.responseText ? answer.responseText : place.dataset.trouble;
    place.replaceChildren(line);
  };
  document.addEventListener("htmx:sendError", trouble);
  document.addEventListener("htmx:responseError", trouble);
})();
