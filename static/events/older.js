// Older rows come as one scrolls to the end.  Where they do not come, the link to them stays.
"use strict";
(() => {
  const list = document.getElementById("ev-rows");
  if (!list) return;
  const AHEAD = "600px";
  const isLive = () => document.querySelector("#ev-live button")?.getAttribute("aria-pressed") === "true";
  const observer = new IntersectionObserver((seen) => {
    if (seen.some((each) => each.isIntersecting)) load();
  }, { rootMargin: AHEAD });
  let isLoading = false;

  function watch() {
    const link = document.querySelector("#ev-older a");
    if (link) observer.observe(link);
  }

  async function load() {
    const place = document.getElementById("ev-older");
    const link = place?.querySelector("a");
    // A list that new rows come into is cut at its end.
    if (!link || isLoading || isLive()) return;
    isLoading = true;
    observer.disconnect();
    place.setAttribute("aria-busy", "true");
    const answer = await fetch(link.href).catch(() => null);
    const found = answer?.ok && !answer.redirected ? new DOMParser().parseFromString(await answer.text(), "text/html") : null;
    const end = found?.getElementById("ev-older");
    place.removeAttribute("aria-busy");
    isLoading = false;
    if (!end || !place.isConnected || isLive()) return;
    for (const row of found.querySelectorAll("#ev-rows > li")) {
      list.append(row);
      htmx.process(row);
    }
    place.replaceWith(end);
    watch();
  }

  watch();
})();
