// The live page of a task: one event stream in, only what changed is drawn again.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("op-data").textContent);
  const { texts, states, urls } = data;
  const $ = (id) => document.getElementById(id);
  const state = { task: null, steps: new Map(), machines: new Map(), offset: 0 };
  const IDLE_MS = 10000, ROWS = 500;

  const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
  const element = (tag, className, text) => {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const icon = (name) => { const made = element("span", "material-symbols-outlined", name); made.setAttribute("aria-hidden", "true"); return made; };
  const link = (text, href) => Object.assign(element("a", "op-link", text), { href });
  const look = (status) => states[status] ?? { word: status, icon: "help", tone: "neutral" };
  const now = () => Date.now() + state.offset;
  const spoken = (milliseconds) => {
    const whole = Math.max(0, Math.round(milliseconds / 1000));
    const s = whole % 60, m = Math.floor(whole / 60) % 60, h = Math.floor(whole / 3600);
    return fill(h ? texts.h : m ? texts.m : texts.s, { h, m, s });
  };
  const isActive = () => ["waiting", "running", "paused", "canceling"].includes(state.task?.status);
  const setText = (target, text) => { if (target.textContent !== text) target.textContent = text; };
  const badge = (status) => { const mark = look(status), made = element("span", `op-badge op-badge-${mark.tone}`); made.append(icon(mark.icon), mark.word); return made; };

  // --- head ---------------------------------------------------------------------------------
  function drawHead() {
    const task = state.task, mark = look(task.status), target = $("op-status");
    if (target.dataset.status !== task.status) {
      target.dataset.status = task.status;
      target.className = `op-badge op-badge-${mark.tone}`;
      target.replaceChildren(icon(mark.icon), mark.word);
      document.title = `${mark.word} · ${task.name}`;
    }
    const message = isActive() && task.waiting_for ? fill(texts.waits_for, { what: task.waiting_for }) : task.message;
    $("op-message").hidden = !message;
    setText($("op-message"), message);
    const { count } = task;
    setText($("op-count"), task.failed ? `${count}, ${fill(texts.failed_machines, { count: task.failed })}` : count);
    for (const button of document.querySelectorAll("[data-verb]")) button.hidden = !task.actions.includes(button.dataset.verb);
  }
  function drawTimes() {
    const task = state.task;
    if (!task) return;
    let elapsed = fill(texts.asked, { time: spoken(now() - task.created_at) });
    if (task.started_at) elapsed = fill(task.finished_at ? texts.took : texts.elapsed, { time: spoken((task.finished_at ?? now()) - task.started_at) });
    setText($("op-elapsed"), elapsed);
    for (const cell of document.querySelectorAll("[data-since]")) setText(cell, spoken(now() - Number(cell.dataset.since)));
    for (const cell of document.querySelectorAll("[data-until]")) {
      const left = Number(cell.dataset.until) - now();
      setText(cell, left > 0 ? fill(texts.until, { time: spoken(left) }) : texts.due);
    }
  }

  // --- the graph ----------------------------------------------------------------------------
  function drawSteps() {
    const list = $("flow"), used = new Map();
    for (const step of state.steps.values()) {
      const row = (used.get(step.column) ?? 0) + 1;
      used.set(step.column, row);
      let item = list.querySelector(`[data-step="${step.id}"]`);
      if (!item) { item = element("li"); item.dataset.step = step.id; list.append(item); }
      const isUnreached = step.status === "waiting" && !isActive();
      const key = JSON.stringify([step, isUnreached, state.task.actions]);
      if (item.dataset.key === key) continue;
      item.dataset.key = key;
      item.style.gridColumn = String(step.column + 1);
      item.style.gridRow = String(row);
      drawStep(item, step, isUnreached);
    }
    drawLines();
  }
  function drawStep(item, step, isUnreached) {
    const mark = isUnreached ? { word: texts.not_reached, icon: "remove", tone: "neutral" } : look(step.status);
    const isAsking = step.status === "running" && (step.kind === "workOrder" || step.parts.some((part) => part.asks)); // a person works, nothing turns
    item.className = `op-step flow-card op-step-${mark.tone}${isAsking ? " flow-asks" : step.status === "running" ? " op-step-running" : ""}`;
    if (step.status === "running") item.setAttribute("aria-current", "step"); else item.removeAttribute("aria-current");
    const head = element("span", "op-step-head"), left = element("span");
    left.append(icon(isAsking ? "how_to_reg" : mark.icon), element("strong", "", step.title || step.key));
    head.append(left);
    const facts = element("span", "op-step-facts");
    facts.append(element("span", "", mark.word));
    if (step.total) facts.append(element("span", "bd-number", `${step.succeeded}/${step.total}`));
    const time = element("span", "bd-number");
    if (step.status === "running" && step.started_at) time.dataset.since = step.started_at;
    else if (step.started_at && step.finished_at) time.textContent = spoken(step.finished_at - step.started_at);
    facts.append(time);
    if (step.due_at && step.status === "running") { const due = element("span", "bd-number"); due.dataset.until = step.due_at; facts.append(due); }
    const parts = [head, element("span", "op-step-title", `${step.kind_title} · ${step.key}`), facts];
    if (step.is_compensation) parts.push(element("span", "bd-subtle", texts.compensation));
    if (step.message) parts.push(element("span", "flow-note", step.message));
    if (step.kind === "workOrder" && !step.is_ticket && step.status !== "succeeded" && isActive()) parts.push(element("span", "flow-note bd-subtle", step.approvers.length ? fill(texts.may_approve, { names: step.approvers.join(", ") }) : texts.nobody));
    if (step.parts.length) parts.push(drawParts(step));
    const approved = step.orders.find((order) => order.status === "approved");
    if (approved) {
      const box = element("details", "flow-approved");
      box.append(element("summary", "", texts.what_was_approved), element("span", "", fill(texts.plan, { machines: approved.count, digest: approved.digest.slice(0, 12), playbooks: approved.playbooks.slice(0, 12) })), drawWords(approved));
      box.addEventListener("toggle", drawLines);
      parts.push(box);
    }
    const buttons = drawStepButtons(step);
    if (buttons.childElementCount) parts.push(buttons);
    item.replaceChildren(...parts);
  }
  function drawParts(step) {
    const list = element("span", "flow-parts");
    for (const part of step.parts) {
      const line = element("span");
      if (step.parts.length > 1) line.append(`${fill(texts.batch, { number: part.number })}: `);
      if (part.url) line.append(link(part.name, part.url), ` ${look(part.status).word}`); else line.append(element("span", "bd-subtle", texts.not_begun));
      line.append(element("span", "bd-number", ` ${part.succeeded}/${part.total}`));
      if (part.asks) line.append(" ", link(texts.answer, part.url));
      if (part.failed) line.append(" ", element("span", "bd-tone-bad", fill(texts.failed_machines, { count: part.failed })));
      list.append(line);
    }
    return list;
  }
  function drawStepButtons(step) {
    const box = element("span", "op-row-buttons");
    const add = (verb, body) => {
      const button = element("button", "op-button op-small-button", texts[verb]);
      button.type = "button";
      button.addEventListener("click", () => ask(verb, { step: step.title || step.key }, body));
      box.append(button);
    };
    const isWait = step.status === "running" && ["wait", "gate", "notify"].includes(step.kind);
    const isUndone = ["failed", "canceled", "partial"].includes(step.status) && state.task.actions.includes("skip");
    if (data.may_operate && step.may_be_skipped && (isUndone || isWait)) add("skip", { step: step.key });
    const approved = step.orders.find((order) => order.status === "approved");
    if (data.may_decide && approved && step.is_decisive && isActive()) add("withdraw", { order: approved.id });
    return box;
  }
  function drawLines() {
    const list = $("flow"), byKey = new Map([...state.steps.values()].map((step) => [step.key, step])), links = [];
    const card = (step) => list.querySelector(`[data-step="${step.id}"]`);
    for (const step of state.steps.values()) {
      for (const need of step.needs) {
        const from = byKey.has(need) && card(byKey.get(need)), to = card(step);
        if (from && to) links.push([from, to, step.is_compensation]);
      }
    }
    window.flowLines($("flow-lines"), list, links);
  }
  window.addEventListener("resize", drawLines);

  // --- what is asked ------------------------------------------------------------------------
  function drawAsking() {
    const asking = [...state.steps.values()].filter((step) => step.status === "running" && step.orders.some((order) => order.status === "open"));
    const box = $("flow-asking");
    box.hidden = !asking.length;
    const key = JSON.stringify(asking);
    if (box.dataset.key === key) return;
    box.dataset.key = key;
    box.replaceChildren(...asking.map((step) => drawOrder(step, step.orders.find((order) => order.status === "open"))));
  }
  function drawOrder(step, order) {
    const part = element("div");
    const mine = data.may_decide && !order.decided_at_host;
    const who = order.decided_at_host ? fill(texts.waits_for_ticket, { host: order.decided_at_host }) : mine ? texts.waits_for_you : texts.waits_for_decision;
    part.append(element("h2", "", `${who}: ${step.title || step.key}`));
    part.append(element("p", "", fill(texts.plan, { machines: order.count, digest: order.digest.slice(0, 12), playbooks: order.playbooks.slice(0, 12) })));
    part.append(element("p", "bd-subtle", order.machines.slice(0, 200).join(", ")), drawWords(order));
    if (order.changes.length) {
      const list = element("ul");
      list.append(...order.changes.map((text) => element("li", "", text)));
      part.append(element("p", "", texts.changed), list);
    }
    for (const old of step.orders) if (old.decided_by) part.append(element("p", "bd-subtle", fill(texts.decided, { state: look(old.status).word, who: old.decided_by, reason: old.reason })));
    if (mine) {
      const buttons = element("div", "op-buttons");
      for (const [verb, tone] of [["approve", "op-primary"], ["reject", "op-danger"]]) {
        const button = element("button", `op-button ${tone}`, texts[verb]);
        button.type = "button";
        button.addEventListener("click", () => ask(verb, { step: step.title || step.key }, { order: order.id, digest: order.digest }, verb === "approve" ? approvalText(step) : undefined));
        buttons.append(button);
      }
      part.append(buttons);
    }
    return part;
  }

  function approvalText(step) {
    if (!step.is_decisive) return texts.accept_text;
    return step.goes_on_in ? fill(texts.above_text, { task: step.goes_on_in }) : undefined;
  }
  function drawWords(order) {
    const list = element("dl", "flow-words");
    for (const { label, text } of order.words) list.append(element("dt", "", label), element("dd", "", text));
    return list;
  }

  // --- machines -----------------------------------------------------------------------------
  function drawMachines() {
    const body = $("flow-machines"), titles = new Map([...state.steps.values()].map((step) => [step.key, step.title || step.key]));
    const rows = [...state.machines.values()].sort((one, other) => (other.state === "failed") - (one.state === "failed")).slice(0, ROWS);
    const key = JSON.stringify([rows, isActive()]);
    if (body.dataset.key === key) return;
    body.dataset.key = key;
    body.replaceChildren(...rows.map((machine) => {
      const row = element("tr"), name = Object.assign(element("th"), { scope: "row" }), mark = element("td");
      const url = machine.url || urls.machines[machine.id]; // of a machine that not all may see: only if this reader may
      name.append(url ? link(machine.hostname || machine.address, url) : machine.hostname || machine.address, element("span", "op-hostname", [machine.hostname ? machine.address : "", machine.group].filter(Boolean).join(" · ")));
      if (machine.state === "waiting" && !isActive()) mark.textContent = texts.not_reached; else mark.append(badge(machine.state));
      row.append(name, mark, element("td", "", titles.get(machine.step) ?? ""), element("td", "op-wrap", machine.message));
      return row;
    }));
  }

  function take(news, isWhole) {
    state.offset = news.now - Date.now();
    if (isWhole) { state.steps.clear(); state.machines.clear(); }
    if (news.task) state.task = news.task;
    for (const step of news.steps ?? []) state.steps.set(step.id, step);
    for (const machine of news.machines ?? []) state.machines.set(machine.id, machine);
    drawHead(); drawSteps(); drawAsking(); drawMachines(); drawTimes();
  }

  // --- the stream ---------------------------------------------------------------------------
  let source = null, retryDelay = 1000, timer = 0;
  const later = (what, milliseconds) => { clearTimeout(timer); timer = setTimeout(what, milliseconds); };
  function connect() {
    clearTimeout(timer);
    source?.close();
    source = new EventSource(urls.events);
    source.addEventListener("open", () => { retryDelay = 1000; said("live"); });
    source.addEventListener("snapshot", (event) => take(JSON.parse(event.data), true));
    source.addEventListener("change", (event) => take(JSON.parse(event.data), false));
    source.addEventListener("end", () => { source.close(); said("ended"); later(lookAgain, IDLE_MS); });
    source.addEventListener("forbidden", () => { source.close(); said("forbidden"); });
    source.addEventListener("error", () => {
      said("reconnecting");
      if (source.readyState !== EventSource.CLOSED) return; // the browser connects again by itself
      later(lookAgain, retryDelay);
      retryDelay = Math.min(retryDelay * 2, 30000);
    });
  }
  // After the end: somebody may retry, so a cheap look now and then, only while the page is seen.
  async function lookAgain() {
    if (document.hidden) { later(lookAgain, IDLE_MS); return; }
    try {
      const answer = await fetch(urls.live, { headers: { Accept: "application/json" } });
      if (answer.status === 401) { said("signed_out"); return; }
      if ([403, 404].includes(answer.status)) { said("forbidden"); return; }
      if (answer.ok) {
        take(await answer.json(), true);
        if (isActive()) { connect(); return; }
      }
    } catch { /* the portal is away; the next look tells */ }
    later(lookAgain, IDLE_MS);
  }
  document.addEventListener("visibilitychange", () => { if (!document.hidden && source?.readyState === EventSource.CLOSED && !isActive()) later(lookAgain, 0); });
  function said(what) {
    const target = $("op-stream");
    if (target.dataset.state === what) return;
    target.dataset.state = what;
    target.textContent = texts[what];
    if (what === "signed_out") target.append(" ", link(texts.sign_in, urls.login));
  }

  // --- verbs --------------------------------------------------------------------------------
  const dialog = $("op-dialog"), NEEDS_REASON = ["skip", "reject", "withdraw"];
  let pending = null;
  // The cookie's: whoever signs in again in another tab has a new one.
  const csrf = () => document.cookie.split("; ").find((part) => part.startsWith(`${data.csrf_cookie}=`))?.split("=")[1] ?? data.csrf;
  async function post(verb, body) {
    try {
      const answer = await fetch(`${urls.api}${verb}/`, {
        method: "POST",
        headers: { "Content-Type": "application/json", Accept: "application/json", "X-CSRFToken": csrf() },
        body: JSON.stringify(body),
      });
      if (answer.ok) { later(lookAgain, 0); return ""; }
      if (answer.status === 401) { said("signed_out"); return texts.signed_out; }
      const problem = await answer.json().catch(() => ({}));
      return problem.message || texts.failed_request;
    } catch { return texts.failed_request; }
  }
  function ask(verb, words, body, text = texts[`${verb}_text`]) {
    pending = { verb, body };
    setText($("op-dialog-title"), fill(texts[`${verb}_title`], words));
    setText($("op-dialog-text"), text);
    drawAnswering(verb);
    setText($("op-dialog-go"), texts[`${verb}_button`]);
    const isNeeded = NEEDS_REASON.includes(verb), reason = $("op-dialog-reason");
    reason.value = "";
    reason.required = isNeeded;
    $("op-dialog-optional").hidden = isNeeded;
    $("op-dialog-error").hidden = true;
    $("op-dialog-go").classList.toggle("op-danger", ["cancel", "reject", "withdraw"].includes(verb));
    dialog.showModal();
    reason.focus();
  }
  // Choices are an operation's own: where one ended badly that takes some, the way there.
  function drawAnswering(verb) {
    const box = $("flow-answering"), parts = verb === "retry" ? [...state.steps.values()].flatMap((step) => step.parts).filter((part) => part.takes_answers) : [];
    box.hidden = !parts.length;
    if (!parts.length) return;
    box.replaceChildren(state.task.is_asking ? texts.asking_answers : texts.retry_answers, ...parts.slice(0, 20).flatMap((part) => [" ", link(part.name, part.url)]));
  }
  dialog.querySelector("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const go = $("op-dialog-go");
    go.disabled = true;
    const problem = await post(pending.verb, { ...pending.body, reason: $("op-dialog-reason").value });
    go.disabled = false;
    $("op-dialog-error").hidden = !problem;
    setText($("op-dialog-error"), problem);
    if (!problem) dialog.close();
  });
  $("op-dialog-close").addEventListener("click", () => dialog.close());
  for (const button of document.querySelectorAll("[data-verb]")) {
    button.addEventListener("click", async () => {
      const { verb } = button.dataset;
      if (["cancel", "retry"].includes(verb)) { ask(verb, {}, {}, state.task.is_asking && verb === "retry" ? texts.ask_again_text : undefined); return; }
      button.disabled = true;
      const problem = await post(verb, {});
      button.disabled = false;
      $("op-error").hidden = !problem;
      setText($("op-error"), problem);
    });
  }

  if (data.snapshot) take(data.snapshot, true);
  setInterval(drawTimes, 1000);
  if (isActive()) connect(); else { said("ended"); later(lookAgain, IDLE_MS); }
})();
