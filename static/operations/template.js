// The editor of templates: its buttons post the form and take the answer's body, so that nothing jumps and nothing is lost.
// Without this script the same buttons load the page anew.
"use strict";
(() => {
  const form = document.getElementById("tpl-form"), trouble = document.getElementById("tpl-trouble");
  const body = () => document.getElementById("tpl-body");
  const opened = () => new Set([...form.querySelectorAll("details[id][open]")].map((each) => each.id));
  let isChanged = false, isLeaving = false, timer = 0, number = 0;

  async function ask(name, value) {
    const data = new FormData(form), mine = ++number;
    data.set(name, value);
    try {
      const answer = await fetch(form.action || location.href, { method: "POST", body: data });
      if (answer.redirected || ![200, 400, 409].includes(answer.status)) throw new Error();
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (mine !== number) return null; // something newer is on its way
      trouble.hidden = true;
      return page;
    } catch {
      trouble.textContent = form.dataset.lost;
      trouble.hidden = false;
      return null;
    }
  }
  async function rebuild(value, focus) {
    const open = opened(), before = new Set([...form.querySelectorAll("details[id]")].map((each) => each.id));
    clearTimeout(timer);
    form.inert = true; // what is typed meanwhile would be lost with the body
    const page = await ask("do", value);
    form.inert = false;
    if (!page) { document.getElementById(focus)?.focus(); return; }
    body().replaceWith(document.adoptNode(page.getElementById("tpl-body")));
    for (const each of form.querySelectorAll("details[id]")) {
      if (!each.classList.contains("tpl-wrong")) each.open = each.open && !before.has(each.id) || open.has(each.id) || !before.has(each.id) && each.id !== "tpl-as-yaml";
    }
    window.flowLinesOfPage();
    const target = document.getElementById("tpl-problem") ?? document.getElementById(focus) ?? document.getElementById("tpl-add");
    if (value === "add") [...form.querySelectorAll(".tpl-step > summary")].at(-1)?.focus();
    else if (["check", "yaml"].includes(value)) (document.getElementById("tpl-problem") ?? document.getElementById("tpl-said") ?? target).scrollIntoView({ block: "center" });
    else (target.disabled ? document.getElementById("tpl-add") : target).focus();
  }
  async function redraw() {
    const page = await ask("do", "look");
    if (!page) return;
    document.getElementById("tpl-preview").replaceWith(document.adoptNode(page.getElementById("tpl-preview")));
    const text = document.getElementById("tpl-yaml");
    // What somebody has written there stays until they take it over.
    if (document.activeElement !== text && !("own" in text.dataset) && text.value === text.defaultValue) {
      text.value = text.defaultValue = page.getElementById("tpl-yaml").value;
      document.getElementById("tpl-yaml-shown").value = page.getElementById("tpl-yaml-shown").value;
    }
    // A key that was changed is called so where others come after it.
    for (const label of page.querySelectorAll("input[type=checkbox]")) {
      const mine = form.querySelector(`input[type=checkbox][name="${label.name}"][value="${label.value}"]`)?.closest("label"), theirs = label.closest("label");
      if (mine && theirs && mine.textContent.trim() !== theirs.textContent.trim()) for (const node of mine.childNodes) if (node.nodeType === Node.TEXT_NODE && node.textContent.trim()) node.textContent = theirs.textContent;
    }
    window.flowLinesOfPage();
  }
  form.addEventListener("submit", (event) => {
    const { submitter } = event;
    if (submitter && ("quiet" in submitter.dataset || submitter.value === "look")) {
      event.preventDefault();
      isChanged = true;
      rebuild(submitter.value, submitter.id);
      return;
    }
    isLeaving = true;
  });
  form.addEventListener("change", (event) => {
    isChanged = true;
    clearTimeout(timer);
    const { name, id } = event.target;
    if (["yaml", "new", "comment"].includes(name)) return;
    if (/^r\d+-step$/.test(name)) { rebuild("look", id); return; }
    timer = setTimeout(redraw, 250);
  });
  window.addEventListener("beforeunload", (event) => { if (isChanged && !isLeaving) event.preventDefault(); });
})();
