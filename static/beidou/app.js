// Small parts of every page: relative times that go on, and what the theme's menus lack for the keyboard.
"use strict";
(() => {
  const steps = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const words = new Intl.RelativeTimeFormat(document.documentElement.lang || "en", { numeric: "auto" });
  const amount = (count, unit) => new Intl.NumberFormat(document.documentElement.lang || "en", { style: "unit", unit, unitDisplay: "long" }).format(count);
  const refresh = () => {
    const now = Date.now();
    for (const element of document.querySelectorAll("time[data-lasting]")) {
      const seconds = Math.round((now - Date.parse(element.dateTime)) / 1000);
      if (seconds < 60) continue; // the page says so in words
      const [unit, size] = steps.find(([, size]) => seconds >= size);
      element.textContent = element.dataset.lasting.replace("%(time)s", amount(Math.trunc(seconds / size), unit));
    }
    for (const element of document.querySelectorAll("time[data-relative]")) {
      const seconds = Math.round((Date.parse(element.dateTime) - now) / 1000);
      const [unit, size] = steps.find(([, size]) => Math.abs(seconds) >= size) ?? steps[3];
      const text = words.format(Math.trunc(seconds / size), unit);
      if (element.textContent !== text) element.textContent = text;
    }
  };
  document.addEventListener("DOMContentLoaded", refresh);
  document.addEventListener("htmx:afterSwap", refresh);
  setInterval(refresh, 10000);

  // The theme opens menus by clicks on elements that no keyboard reaches.
  const labels = [["sidebar", "wordsMenu"], ["openTheme =", "wordsTheme"], ["openUserLinks =", "wordsAccount"]];
  const reachable = () => {
    const words = document.getElementById("page")?.dataset ?? {};
    for (const element of document.querySelectorAll("[x-on\\:click]:not(button, input, select, textarea, a[href], [tabindex])")) {
      const action = element.getAttribute("x-on:click");
      element.tabIndex = 0;
      element.setAttribute("role", "button");
      const label = labels.find(([part]) => action.includes(part));
      if (label && words[label[1]]) element.setAttribute("aria-label", words[label[1]]);
    }
    for (const field of document.querySelectorAll("input[placeholder]:not([aria-label])")) {
      if (!field.labels?.length) field.setAttribute("aria-label", field.placeholder);
    }
    for (const titled of document.querySelectorAll("a:not([aria-label]) > [title]:empty")) {
      titled.parentElement.setAttribute("aria-label", titled.title);
    }
    // Headings in the cards of narrow screens, as the columns of wide ones are written.
    for (const cell of document.querySelectorAll("#result_list [data-label]")) {
      cell.dataset.label = cell.dataset.label.charAt(0).toUpperCase() + cell.dataset.label.slice(1);
    }
    for (const icon of document.querySelectorAll(".material-symbols-outlined:not([aria-hidden], [role])")) {
      icon.setAttribute("aria-hidden", "true");
    }
  };
  document.addEventListener("DOMContentLoaded", reachable);
  window.addEventListener("load", reachable); // what scripts of Django made meanwhile

  // What scrolls is a region to screen readers, and has one name on all pages, in English.
  const regions = [["#nav-sidebar-apps", "wordsNavigation"], ["#changelist-filter", "wordsFilters"], [":has(> #result_list)", "wordsList"], ["*", "wordsScroll"]];
  const named = () => {
    const words = document.getElementById("page")?.dataset ?? {};
    for (const region of document.querySelectorAll(".simplebar-content-wrapper")) {
      const found = regions.find(([place, word]) => words[word] && region.firstElementChild?.closest(place));
      if (found) region.setAttribute("aria-label", words[found[1]]);
    }
  };
  window.addEventListener("load", named); // the theme's script has made them
  document.addEventListener("htmx:afterSettle", named); // and makes those that come later
  document.addEventListener("keydown", (event) => {
    const element = event.target;
    if ((event.key === "Enter" || event.key === " ") && element.matches?.('[role="button"][x-on\\:click]')) {
      event.preventDefault();
      element.click();
    }
  });

  // A part that comes after its page says so when it does not, instead of being waited for for ever.
  const missing = (event) => {
    const place = event.detail.target;
    if (!place?.dataset.trouble) return;
    const answer = event.detail.xhr;
    // In plain text the portal says why itself, as when the event store is away.
    const isSaid = answer && (answer.getResponseHeader("Content-Type") || "").startsWith("text/plain");
    const why = isSaid && answer.responseText ? answer.responseText : place.dataset.trouble;
    const isInLine = place.tagName === "SPAN";
    const line = document.createElement(isInLine ? "span" : "p");
    line.className = isInLine ? "bd-subtle" : "bd-trouble";
    line.setAttribute("role", "status");
    line.textContent = isInLine ? place.dataset.trouble : why;
    if (isInLine) line.title = why;
    place.replaceChildren(line);
  };
  document.addEventListener("htmx:sendError", missing);
  document.addEventListener("htmx:responseError", missing);

  // A second press of a button while the first is on its way would do the thing twice.  Only for a
  // moment: an answer that is a file leaves the page as it is, and the form in use.
  const sent = new WeakSet();
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (event.defaultPrevented || form.method !== "post") return;
    if (sent.has(form)) { event.preventDefault(); return; }
    sent.add(form);
    setTimeout(() => sent.delete(form), 3000);
  });

  // The first thing the palette finds is chosen, so that Enter alone leads there.
  document.addEventListener("htmx:afterSettle", (event) => {
    if (event.target.id !== "command-results") return;
    const input = document.getElementById("search-input-command");
    input?.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowDown", bubbles: true }));
  });
})();
