// The live page of an operation: one event stream in, only what changed is drawn again.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("op-data").textContent);
  const { texts, states, titles, urls } = data;
  const $ = (id) => document.getElementById(id);
  const state = { operation: null, steps: new Map(), machines: new Map(), attempts: new Map(), offset: 0 };
  const ROWS = 200, TROUBLES = 10, IDLE_MS = 10000;
  let shownRows = ROWS;

  const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
  const element = (tag, className, text) => {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const icon = (name, label) => {
    const made = element("span", "material-symbols-outlined", name);
    if (label) { made.setAttribute("role", "img"); made.setAttribute("aria-label", label); made.title = label; } else made.setAttribute("aria-hidden", "true");
    return made;
  };
  const look = (status) => states[status] ?? { word: status, icon: "help", tone: "neutral" };
  const now = () => Date.now() + state.offset;
  const spoken = (milliseconds) => {
    const whole = Math.max(0, Math.round(milliseconds / 1000));
    const s = whole % 60, m = Math.floor(whole / 60) % 60, h = Math.floor(whole / 3600);
    return fill(h ? texts.h : m ? texts.m : texts.s, { h, m, s });
  };
  const took = (row) => (row.started_at ? (row.finished_at ?? now()) - row.started_at : null);
  const isActive = () => ["waiting", "running", "paused", "canceling"].includes(state.operation?.status);
  const nameOf = (id) => { const machine = state.machines.get(id); return machine ? machine.hostname || machine.address : ""; };
  const setText = (target, text) => { if (target.textContent !== text) target.textContent = text; };

  const output = new window.OperationOutput({
    texts, urls, nameOf, timeZone: data.time_zone,
    failed: () => new Set([...state.machines.values()].filter((machine) => machine.state === "failed").map((machine) => machine.id)),
  });

  // --- head ---------------------------------------------------------------------------------
  function drawHead() {
    const operation = state.operation, mark = look(operation.status);
    const badge = $("op-status");
    if (badge.dataset.status !== operation.status) {
      badge.dataset.status = operation.status;
      badge.className = `op-badge op-badge-${mark.tone}`;
      badge.replaceChildren(icon(mark.icon), mark.word);
      document.title = `${mark.word} · ${operation.name}`;
    }
    const bar = $("op-bar");
    bar.value = operation.settled_percent;
    bar.className = operation.failed ? "op-bar-failed" : operation.status === "canceled" ? "op-bar-canceled" : "";
    const count = fill(texts.machines_done, { done: operation.succeeded, total: operation.total });
    setText($("op-count"), operation.failed ? `${count}, ${fill(texts.failed_machines, { count: operation.failed })}` : count);
    const message = operation.status === "waiting" && operation.waiting_for ? waitText() : operation.message;
    $("op-message").hidden = !message;
    setText($("op-message"), message);
    const became = operation.status === "canceled" ? becameText() : "";
    $("op-became").hidden = !became;
    setText($("op-became"), became);
    for (const button of document.querySelectorAll("[data-verb]")) button.hidden = !mayBe(button.dataset.verb);
    const glass = operation.glass_broken_by ? fill(texts.glass, { who: operation.glass_broken_by, reason: operation.glass_reason }) : "";
    $("op-glass").hidden = !glass;
    setText($("op-glass"), glass);
    const failed = [...state.machines.values()].filter((machine) => wasTouched(machine) && (machine.state === "failed" || (machine.state === "canceled" && machine.machine_state === "faulty")));
    const cleanUp = $("op-clean-up");
    if (cleanUp) {
      cleanUp.hidden = !operation.actions.includes("clean_up") || !failed.length;
      cleanUp.href = `${urls.clean_up}&machines=${encodeURIComponent(failed.slice(0, 200).map((machine) => machine.address).join(","))}`;
    }
    drawTimes();
  }

  function mayBe(verb) {
    if (verb === "break-glass") return state.operation.is_held && data.may_approve;
    return state.operation.actions.includes(verb);
  }

  function waitText() {
    const { waiting_for: what, waiting_since: since, waiting_until: until } = state.operation;
    if (until > now()) return fill(texts.waits_for_since, { what, time: fill(texts.waits_until, { time: spoken(until - now()) }) });
    return since ? fill(texts.waits_for_since, { what, time: spoken(now() - since) }) : fill(texts.waits_for, { what });
  }

  // What a cancel has left: it ends in mid-step, and some machines are as they were and some are Faulty.
  function becameText() {
    const counts = new Map();
    for (const { machine_state: name } of state.machines.values()) if (name) counts.set(name, (counts.get(name) ?? 0) + 1);
    const parts = [...counts].map(([name, count]) => `${count} × ${data.machine_states[name] ?? name}`);
    return parts.length ? fill(texts.machines_now, { states: parts.join(", ") }) : "";
  }

  // Whether a step that changes machines was begun: one that failed in a check is as it was delivered.
  function wasTouched(machine) {
    const names = [...state.steps.values()].map((step) => step.name);
    return names.some((name, index) => data.touching.includes(name) && machine.cells[index]?.[1]);
  }

  function drawTimes() {
    const operation = state.operation;
    if (!operation) return;
    setText($("op-elapsed"), spentText());
    const isPlain = operation.priority === "normal" || operation.status !== "waiting";
    setText($("op-priority"), isPlain ? "" : fill(texts.priority, { priority: data.priorities[operation.priority] ?? operation.priority }));
    if (operation.status === "waiting" && operation.waiting_for) setText($("op-message"), waitText());
    setText($("op-left"), leftText());
    for (const cell of document.querySelectorAll("[data-since]")) setText(cell, spoken(now() - Number(cell.dataset.since)));
  }

  // How long steps ran, and the whole span where it lay failed or paused (the rule of operations/durations.py).
  function spentText() {
    const operation = state.operation, span = took(operation);
    if (span === null) return fill(texts.asked, { time: spoken(now() - operation.created_at) });
    const worked = [...state.attempts.values()].reduce((sum, attempt) => sum + took(attempt), 0);
    const isInterrupted = span - worked > Math.max(10000, span / 10);
    const text = operation.finished_at ? (isInterrupted ? texts.took_within : texts.took) : isInterrupted ? texts.elapsed_within : texts.elapsed;
    return fill(text, { time: spoken(isInterrupted ? worked : span), span: spoken(span) });
  }

  // What is left, or that it takes longer than it ever did; never both, and nothing while nothing goes on.
  function leftText() {
    if (!["waiting", "running"].includes(state.operation.status)) return "";
    if (!state.operation.is_estimated) return texts.no_estimate;
    let left = 0;
    for (const step of state.steps.values()) {
      const usual = step.expected_seconds * 1000;
      if (step.status === "waiting") left += usual;
      if (step.status !== "running") continue;
      const spent = now() - step.started_at;
      if (spent - usual > Math.max(data.late.seconds * 1000, data.late.share * usual)) return texts.longer;
      left += Math.max(0, usual - spent);
    }
    return left > 0 ? fill(texts.left, { time: spoken(left) }) : texts.longer;
  }

  // --- steps --------------------------------------------------------------------------------
  function drawSteps() {
    const list = $("op-steps");
    for (const step of state.steps.values()) {
      let item = list.querySelector(`[data-step="${step.id}"]`);
      if (!item) { item = element("li", "op-step"); item.dataset.step = step.id; list.append(item); }
      const isUnreached = step.status === "waiting" && !isActive();
      const key = JSON.stringify([step, isUnreached]);
      if (item.dataset.key === key) continue;
      item.dataset.key = key;
      const mark = isUnreached ? { word: texts.not_reached, icon: "remove", tone: "neutral" } : look(step.status);
      item.className = `op-step op-step-${mark.tone}${step.status === "running" ? " op-step-running" : ""}`;
      if (step.status === "running") item.setAttribute("aria-current", "step"); else item.removeAttribute("aria-current");
      const head = element("span", "op-step-head");
      head.append(icon(mark.icon), element("strong", "", step.name));
      const facts = element("span", "op-step-facts");
      const { not_reached: _unreached, ...counts } = step.counts; // who failed before does not take part
      const total = Object.values(counts).reduce((sum, value) => sum + value, 0);
      const passed = (counts.succeeded ?? 0) + (counts.skipped ?? 0);
      facts.append(element("span", "", mark.word));
      if (step.status !== "waiting") facts.append(element("span", "bd-number", `${passed}/${total}`));
      if (counts.failed) facts.append(element("span", "bd-tone-bad", fill(texts.failed_machines, { count: counts.failed })));
      const time = element("span", "bd-number");
      if (step.status === "running") time.dataset.since = step.started_at;
      else if (step.finished_at) time.textContent = spoken(took(step));
      else if (step.expected_seconds && !isUnreached) time.textContent = fill(texts.usually, { time: spoken(step.expected_seconds * 1000) });
      facts.append(time);
      item.title = [titles[step.name], step.message].filter(Boolean).join(" — ");
      item.replaceChildren(head, element("span", "op-step-title", titles[step.name] ?? ""), facts);
    }
  }

  // --- machines -----------------------------------------------------------------------------
  function drawMatrixHead() {
    const head = $("op-matrix-head");
    if (head.childElementCount > 1) return;
    for (const step of state.steps.values()) head.append(Object.assign(element("th", "", step.name), { scope: "col" }));
    head.append(Object.assign(element("th", "", $("op-word-message").textContent), { scope: "col" }));
  }

  function rowsToShow() {
    const which = $("op-which").value, find = $("op-find").value.trim().toLowerCase();
    return [...state.machines.values()].filter((machine) => (!which || machine.state === which) && (!find || `${machine.address} ${machine.hostname}`.toLowerCase().includes(find)));
  }

  function drawMatrix() {
    drawMatrixHead();
    const body = $("op-matrix"), wanted = rowsToShow(), visible = wanted.slice(0, shownRows);
    const keep = new Set(visible.map((machine) => String(machine.id)));
    for (const row of [...body.children]) if (!keep.has(row.dataset.machine)) row.remove();
    let place = body.firstElementChild;
    for (const machine of visible) {
      const id = String(machine.id);
      if (place && place.dataset.machine === id) { drawRow(place, machine); place = place.nextElementSibling; continue; }
      const row = element("tr");
      row.dataset.machine = id;
      body.insertBefore(row, place);
      drawRow(row, machine);
    }
    if (!visible.length) {
      const cell = Object.assign(element("td", "bd-subtle", texts.no_rows), { colSpan: state.steps.size + 2 });
      const row = element("tr");
      row.append(cell);
      body.replaceChildren(row);
    }
    $("op-more").hidden = wanted.length <= shownRows;
    $("op-more").textContent = wanted.length > shownRows ? fill(texts.more_rows, { count: Math.min(ROWS, wanted.length - shownRows) }) : "";
    setText($("op-shown"), state.machines.size > 1 ? fill(texts.shown, { shown: visible.length, total: state.machines.size }) : "");
  }

  function drawRow(row, machine) {
    const key = JSON.stringify([machine, state.operation.actions]);
    if (row.dataset.key === key) return;
    row.dataset.key = key;
    const head = Object.assign(element("th"), { scope: "row" });
    const url = machine.url || urls.machines[machine.id]; // of a machine that not all may see: only if this reader may
    const name = url ? Object.assign(element("a", "op-link"), { href: url }) : element("span");
    name.textContent = machine.address;
    head.append(name);
    if (machine.hostname) head.append(element("span", "op-hostname", machine.hostname));
    row.replaceChildren(head);
    let isEnded = false;
    for (const [status, started, finished] of machine.cells) {
      const cell = element("td", "op-cell");
      if (isEnded && status === "waiting") {
        cell.append(Object.assign(element("span", "bd-subtle", "–"), { title: texts.not_reached }));
      } else {
        const mark = look(status);
        const made = icon(mark.icon, mark.word);
        made.classList.add(`bd-tone-${mark.tone}`);
        if (status === "running") made.classList.add("op-spin");
        cell.append(made);
        const time = element("span", "op-cell-time");
        if (status === "running" && started) time.dataset.since = started;
        else if (started && finished) time.textContent = spoken(finished - started);
        cell.append(time);
      }
      if (status === "failed" || status === "canceled") isEnded = true;
      row.append(cell);
    }
    const said = element("td", "op-said");
    said.append(element("span", machine.state === "failed" ? "bd-tone-bad" : "", machine.message));
    const buttons = machineButtons(machine);
    if (buttons) said.append(buttons);
    row.append(said);
  }

  function machineButtons(machine) {
    if (!data.may_operate || !machine.failed_step || !state.operation.actions.includes("retry")) return null;
    const box = element("span", "op-row-buttons");
    const retry = element("button", "op-button op-small-button", texts.retry);
    retry.type = "button";
    retry.addEventListener("click", () => ask("retry", machine));
    const skip = element("button", "op-button op-small-button", texts.skip);
    skip.type = "button";
    skip.addEventListener("click", () => ask("skip", machine));
    const buttons = data.never_skipped.includes(machine.failed_step) ? [retry] : [retry, skip];
    for (const button of buttons) button.setAttribute("aria-label", `${button.textContent} ${machine.address}`);
    box.append(...buttons);
    return box;
  }

  // --- what went wrong ----------------------------------------------------------------------
  function drawTrouble() {
    const failed = [...state.machines.values()].filter((machine) => machine.state === "failed");
    const key = JSON.stringify([failed, state.operation.actions]);
    const box = $("op-trouble");
    if (box.dataset.key === key) return;
    box.dataset.key = key;
    box.hidden = !failed.length;
    $("op-trouble-list").replaceChildren(...failed.slice(0, TROUBLES).map(trouble));
    $("op-trouble-more").hidden = failed.length <= TROUBLES;
    $("op-trouble-more").textContent = failed.length > TROUBLES ? fill(texts.more_failed, { count: failed.length - TROUBLES }) : "";
  }

  function trouble(machine) {
    const box = element("article", "op-trouble-machine");
    const head = element("h3");
    head.append(element("strong", "", machine.address));
    if (machine.hostname) head.append(element("span", "op-hostname", machine.hostname));
    if (machine.failed_step) head.append(element("span", "bd-subtle", fill(texts.in_step, { step: machine.failed_step })));
    const buttons = machineButtons(machine);
    if (buttons) head.append(buttons);
    box.append(head);
    if (!machine.failed_checks.length) {
      box.append(element("p", "", machine.message || texts.no_checks));
      return box;
    }
    const table = element("table", "op-checks");
    const line = table.createTHead().insertRow();
    for (const name of ["check", "found", "wanted", "advice"]) line.append(Object.assign(element("th", "", texts[name]), { scope: "col" }));
    const body = table.createTBody();
    for (const check of machine.failed_checks) {
      const row = body.insertRow();
      for (const name of ["check", "found", "wanted", "advice"]) {
        const cell = row.insertCell();
        cell.textContent = typeof check[name] === "object" ? JSON.stringify(check[name]) : check[name];
        cell.dataset.label = texts[name];
      }
    }
    box.append(table);
    return box;
  }

  // --- attempts -----------------------------------------------------------------------------
  function drawAttempts() {
    const clock = new Intl.DateTimeFormat("sv", { dateStyle: "short", timeStyle: "medium", timeZone: data.time_zone }); // Swedish writes 2026-11-25 14:03:09, as all pages do
    const rows = [...state.attempts.values()].sort((a, b) => b.id - a.id).slice(0, 200).map((attempt) => {
      const row = element("tr"), mark = look(attempt.outcome);
      const outcome = element("td");
      const badge = element("span", `op-badge op-badge-${mark.tone}`);
      badge.append(icon(mark.icon), mark.word);
      outcome.append(badge);
      const time = element("td", "bd-number");
      if (attempt.finished_at) time.textContent = spoken(took(attempt)); else time.dataset.since = attempt.started_at;
      row.append(element("td", "", attempt.step), element("td", "", String(attempt.number)), outcome, element("td", "bd-number", String(attempt.machines)),
        element("td", "", clock.format(attempt.started_at)), time, element("td", "", attempt.holder), element("td", "op-wrap", attempt.message));
      return row;
    });
    $("op-attempt-rows").replaceChildren(...rows);
  }

  // --- what comes in ------------------------------------------------------------------------
  function take(part, isWhole) {
    state.offset = part.now ? part.now - Date.now() : state.offset;
    if (part.operation) state.operation = part.operation;
    for (const name of ["steps", "machines", "attempts"]) {
      if (isWhole) state[name].clear();
      for (const row of part[name] ?? []) state[name].set(row.id, row);
    }
    if (!state.operation) return;
    output.setMachines([...state.machines.values()]);
    drawHead();
    drawSteps();
    drawTrouble();
    if (part.machines || part.operation) drawMatrix();
    if (part.attempts || isWhole) drawAttempts();
    drawTimes();
  }

  let source = null, retryDelay = 1000, timer = 0;
  function connect() {
    clearTimeout(timer);
    source?.close();
    const from = output.last ? `after=${output.last}` : "tail=1000";
    source = new EventSource(`${urls.events}?${from}`);
    source.addEventListener("open", () => { retryDelay = 1000; said("live"); });
    source.addEventListener("snapshot", (event) => take(JSON.parse(event.data), true));
    source.addEventListener("change", (event) => take(JSON.parse(event.data), false));
    source.addEventListener("output", (event) => output.add(JSON.parse(event.data)));
    source.addEventListener("end", () => { source.close(); said("ended"); later(lookAgain, IDLE_MS); });
    source.addEventListener("forbidden", () => { source.close(); said("forbidden"); });
    source.addEventListener("error", () => {
      said("reconnecting");
      if (source.readyState !== EventSource.CLOSED) return; // the browser connects again by itself
      later(lookAgain, retryDelay); // refused: perhaps signed out, perhaps the portal is starting
      retryDelay = Math.min(retryDelay * 2, 30000);
    });
  }
  const later = (what, milliseconds) => { clearTimeout(timer); timer = setTimeout(what, milliseconds); };

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
    if (what === "signed_out") target.append(" ", Object.assign(element("a", "op-link", texts.sign_in), { href: urls.login }));
  }

  // --- verbs --------------------------------------------------------------------------------
  const dialog = $("op-dialog");
  let pending = null;
  // The cookie's: whoever signs in again in another tab has a new one.
  const csrf = () => document.cookie.split("; ").find((part) => part.startsWith(`${data.csrf_cookie}=`))?.split("=")[1] ?? data.csrf;
  async function post(verb, body) {
    const answer = await fetch(`${urls.api}${verb}/`, {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/json", "X-CSRFToken": csrf() },
      body: JSON.stringify(body),
    });
    if (answer.ok) return "";
    if (answer.status === 401) { said("signed_out"); return texts.signed_out; }
    const problem = await answer.json().catch(() => ({}));
    return problem.message || texts.failed_request;
  }

  // What a retry may choose otherwise; only what was changed is sent.
  const answers = $("op-dialog-answers");
  function offerAnswers(verb) {
    answers.hidden = verb !== "retry" || !data.answers.length;
    for (const each of data.answers) if (each.name in state.operation.chosen) each.value = state.operation.chosen[each.name]; // somebody else may have answered
    answers.open = !answers.hidden;
    answers.firstElementChild.textContent = texts.answers;
    answers.lastElementChild.replaceChildren(...(answers.hidden ? [] : data.answers.map(answerField)));
  }
  function answerField(each) {
    const label = element("label", "op-answer");
    const input = element(each.choices.length ? "select" : "input");
    input.name = each.name;
    for (const [value, text] of each.choices) input.append(Object.assign(element("option", "", text), { value }));
    if (typeof each.value === "boolean") Object.assign(input, { type: "checkbox", checked: each.value });
    else if (typeof each.value === "number") Object.assign(input, { type: "number", min: each.min, max: each.max, required: true });
    if (typeof each.value !== "boolean") input.value = each.value;
    const title = element("span", "", each.label);
    if (typeof each.value === "boolean") label.append(input, title);
    else { label.classList.add("op-answer-wide"); label.append(title, input); }
    label.append(element("span", "bd-subtle", each.help));
    return label;
  }
  function answered() {
    const chosen = {};
    for (const each of data.answers) {
      const input = answers.querySelector(`[name="${each.name}"]`);
      if (!input) continue;
      const value = input.type === "checkbox" ? input.checked : input.type === "number" ? Number(input.value) : input.value;
      if (value !== each.value) chosen[each.name] = value;
    }
    return chosen;
  }

  function ask(verb, machine) {
    const step = machine?.failed_step;
    const values = { machine: machine?.address, step, count: [...state.machines.values()].filter((row) => row.state !== "succeeded").length };
    pending = { verb, seen: state.operation.seen, body: machine ? { machines: [machine.id], ...(verb === "skip" ? { step } : {}) } : {} };
    $("op-dialog-title").textContent = texts[`${verb}_title`];
    $("op-dialog-text").textContent = fill(machine && verb === "retry" ? texts.retry_one_text : texts[`${verb}_text`], values);
    const reason = $("op-dialog-reason");
    reason.value = "";
    reason.required = verb === "skip" || verb === "break-glass";
    $("op-dialog-optional").hidden = reason.required;
    $("op-dialog-go").textContent = texts[`${verb}_button`];
    $("op-dialog-go").className = `op-button ${verb === "cancel" ? "op-danger" : "op-primary"}`;
    $("op-dialog-error").hidden = true;
    offerAnswers(verb);
    dialog.showModal();
    reason.focus();
  }

  dialog.querySelector("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const go = $("op-dialog-go");
    go.disabled = true;
    const chosen = pending.verb === "retry" ? answered() : {};
    const body = { ...pending.body, reason: $("op-dialog-reason").value };
    if (Object.keys(chosen).length) Object.assign(body, { answers: chosen, seen: pending.seen });
    const problem = await post(pending.verb, body).catch(() => texts.failed_request);
    go.disabled = false;
    if (!problem) for (const each of data.answers) if (each.name in chosen && !each.approval) each.value = chosen[each.name];
    $("op-dialog-error").hidden = !problem;
    $("op-dialog-error").textContent = problem;
    if (problem) return;
    dialog.close();
    if (source?.readyState === EventSource.CLOSED) connect();
  });
  $("op-dialog-close").addEventListener("click", () => dialog.close());

  for (const button of document.querySelectorAll("[data-verb]")) {
    button.addEventListener("click", async () => {
      const verb = button.dataset.verb;
      if (["cancel", "retry", "break-glass"].includes(verb)) { ask(verb); return; }
      button.disabled = true;
      const problem = await post(verb, {}).catch(() => texts.failed_request);
      button.disabled = false;
      if (problem) { $("op-message").hidden = false; $("op-message").textContent = problem; }
    });
  }

  // --- tabs ---------------------------------------------------------------------------------
  const tabs = [...document.querySelectorAll('.op-tabs [role="tab"]')];
  function choose(name) {
    for (const tab of tabs) {
      const isChosen = tab.dataset.tab === name;
      tab.setAttribute("aria-selected", String(isChosen));
      tab.tabIndex = isChosen ? 0 : -1;
    }
    for (const panel of document.querySelectorAll("[data-panel]")) panel.hidden = !panel.dataset.panel.split(" ").includes(name);
    $("op-output").classList.toggle("op-output-large", name === "output");
    const panel = document.querySelector(`[data-load="${name}"]`);
    if (panel) load(panel, urls[name]);
    history.replaceState(null, "", name === "machines" ? location.pathname + location.search : `#${name}`);
  }
  async function load(panel, url) {
    panel.setAttribute("aria-busy", "true");
    try {
      const answer = await fetch(url);
      if (answer.redirected) { said("signed_out"); panel.replaceChildren(element("p", "bd-subtle", texts.signed_out)); return; }
      if (!answer.ok) throw new Error(String(answer.status));
      panel.innerHTML = await answer.text(); // our own template, escaped there
    } catch {
      panel.replaceChildren(element("p", "bd-subtle", texts.failed_request));
    } finally {
      panel.setAttribute("aria-busy", "false");
    }
  }
  for (const tab of tabs) {
    tab.addEventListener("click", () => choose(tab.dataset.tab));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length];
      next.focus();
      choose(next.dataset.tab);
    });
  }
  $("op-evidence").addEventListener("change", (event) => { if (event.target.matches("[data-evidence-of]")) load($("op-evidence"), `${urls.evidence}?machine=${event.target.value}`); });
  $("op-results")?.addEventListener("click", (event) => { const button = event.target.closest("[data-results-show]"); if (button) load($("op-results"), `${urls.results}?show=${button.dataset.resultsShow}`); });
  for (const id of ["op-find", "op-which"]) $(id).addEventListener("input", () => { shownRows = ROWS; drawMatrix(); });
  $("op-more").addEventListener("click", () => { shownRows += ROWS; drawMatrix(); });

  if (data.snapshot) take(data.snapshot, true);
  const opened = location.hash.slice(1);
  if (tabs.some((tab) => tab.dataset.tab === opened)) choose(opened);
  window.addEventListener("hashchange", () => { const name = location.hash.slice(1) || "machines"; if (tabs.some((tab) => tab.dataset.tab === name)) choose(name); });
  setInterval(drawTimes, 1000);
  connect();
  window.addEventListener("pagehide", () => source?.close());
  window.addEventListener("pageshow", (event) => { if (event.persisted) connect(); });
})();
