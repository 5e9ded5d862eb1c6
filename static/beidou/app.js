// Small parts of every page: relative times that go on, and a way past the sidebar for the keyboard.
"use strict";
(() => {
  const steps = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const words = new Intl.RelativeTimeFormat(document.documentElement.lang || "en", { numeric: "auto" });
  const refresh = () => {
    const now = Date.now();
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
})();
