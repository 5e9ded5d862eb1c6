// The live tail: rows that the server has made come on top, in the order in which they were stored.
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const place = $("ev-live");
  if (!place) return;
  const data = JSON.parse($("ev-live-data").textContent);
  const button = place.querySelector("button");
  const status = place.querySelector("[role=status]");
  const list = $("ev-rows") || $("ev-live-rows");
  const note = $("ev-live-note");
  const RETRY_MS = 2000, RETRY_MAX_MS = 30000;
  let source = null, after = data.after, isOn = false, timer = 0, delay = RETRY_MS;

  const link = (text, url) => Object.assign(document.createElement("a"), { textContent: text, href: url });

  function said(state, text = data.texts[state] ?? "") {
    if (place.dataset.state === state && status.textContent === text) return;
    place.dataset.state = state;
    status.textContent = text;
    if (state === "signed_out") status.append(" ", link(data.texts.sign_in, data.login));
  }

  function told(text, label, url) {
    note.replaceChildren(text, " ", link(label, url));
    note.hidden = false;
  }

  // --- rows -----------------------------------------------------------------------------------
  function put(html) {
    const made = document.createElement("template");
    made.innerHTML = html;
    const row = made.content.firstElementChild;
    const old = list.querySelector(`[data-key="${CSS.escape(row.dataset.key)}"]`);
    if (old?.dataset.state === row.dataset.state) return;
    const isOpen = old?.querySelector("details").open;
    old?.remove();
    row.classList.add("ev-row-new");
    list.prepend(row);
    htmx.process(row);
    row.querySelector("details").open = Boolean(isOpen);
  }

  function add(rows) {
    rows.forEach(put);
    if (list.hidden && list.firstElementChild) {
      list.hidden = false;
      below().forEach((each) => each.remove()); // that there is nothing
    }
    if (list.children.length <= data.most) return;
    while (list.children.length > data.most) list.lastElementChild.remove();
    below().forEach((each) => each.remove()); // what was older goes on behind rows that are gone
    if (note.hidden) told(data.texts.trimmed, data.texts.all, data.page);
  }
  const below = () => [...list.parentElement.querySelectorAll(":scope > p")].filter((each) => each !== note);

  // --- the connection -------------------------------------------------------------------------
  function connect() {
    close();
    if (document.hidden) { said("paused"); return; }
    said("connecting");
    source = new EventSource(`${data.url}&after=${after}`);
    const on = (name, what) => source.addEventListener(name, (event) => {
      after = event.lastEventId || after;
      what(JSON.parse(event.data));
    });
    on("rows", add);
    on("at", () => {});
    on("live", live);
    on("back", live);
    on("away", (found) => said("away", found.message));
    on("left_out", leftOut);
    on("forbidden", whyNot);
    source.addEventListener("error", () => {
      if (place.dataset.state !== "away") said("lost");
      if (source.readyState === EventSource.CLOSED) whyNot(); // else the browser connects again
    });
  }

  function leftOut(found) {
    if (!found.count) { told(data.texts.late, data.texts.all, found.url); return; }
    const count = found.more ? `> ${found.count}` : found.count;
    told(data.texts.left_out, data.texts.find.replace("%(count)s", count), found.url);
  }

  function live() {
    delay = RETRY_MS;
    said("live");
  }

  // A stream that is refused does not say why.
  async function whyNot() {
    close();
    const answer = await fetch(data.url, { method: "HEAD" }).catch(() => null);
    if (!isOn) return;
    const reason = { 400: "refused", 401: "signed_out", 403: "forbidden" }[answer?.status];
    if (reason) {
      turn(false);
      said(reason);
      return;
    }
    if (!answer?.ok) said("lost");
    timer = setTimeout(connect, delay);
    delay = Math.min(delay * 2, RETRY_MAX_MS);
  }

  function close() {
    clearTimeout(timer);
    source?.close();
    source = null;
  }

  function turn(on) {
    isOn = on;
    button.setAttribute("aria-pressed", String(on));
    if (on) connect();
    else { close(); said("off"); }
  }

  button.addEventListener("click", () => turn(!isOn));
  document.addEventListener("visibilitychange", () => {
    if (!isOn) return;
    if (document.hidden) { close(); said("paused"); } else connect();
  });
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", (event) => { if (event.persisted && isOn) connect(); });
  place.hidden = false;
  if (location.hash === "#live") {
    turn(true);
    $("ev-list").scrollIntoView(); // the figures stand before it
  }
})();
