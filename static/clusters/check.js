// Shows the check of a cluster live: asks for one step after the other and stops at the first that
// fails.  Without this script the same button checks everything and shows the page again.
"use strict";
(() => {
  const form = document.getElementById("check-form");
  const list = document.getElementById("check-steps");
  const report = document.getElementById("check-report");
  const button = document.getElementById("check-button");
  const next = document.getElementById("check-next");
  if (!form || !list || !button) return;

  const show = (item, status, detail, url) => {
    item.dataset.status = status;
    const place = item.querySelector(".cl-step-detail");
    place.textContent = detail;
    if (url) {
      const link = document.createElement("a");
      link.href = url;
      link.textContent = button.dataset.open;
      place.append(" ", link);
    }
  };

  const ask = async (step) => {
    const data = new FormData(form);
    data.delete("do");
    const answer = await fetch(list.dataset.url.replace("STEP", step), { method: "POST", body: data });
    const isJson = (answer.headers.get("Content-Type") ?? "").startsWith("application/json");
    if (isJson && !answer.redirected) return answer.json();
    // A body that is too large is refused before anybody reads it, with a page or by a proxy.
    const tooLarge = [400, 413].includes(answer.status);
    const detail = tooLarge ? button.dataset.large : button.dataset.refused.replace("{status}", answer.status);
    return { status: "failed", detail };
  };

  // Asked before sending: megabytes take seconds, and what is refused unread is refused without a reason.
  const isTooLarge = () => [...new FormData(form).values()].some((value) => (value instanceof File ? value : new Blob([value])).size > Number(button.dataset.limit));

  const showReport = (rows) => {
    report.replaceChildren(...rows.map((row) => {
      const item = document.createElement("li");
      item.className = row.planned ? "bd-subtle" : row.ok ? "" : "bd-tone-warning";
      const why = row.planned ? report.dataset.planned : row.why;
      item.textContent = `${row.planned ? "○" : row.ok ? "✓" : "✗"} ${row.label}${why ? ": " + why : ""}`;
      return item;
    }));
  };

  const check = async () => {
    const items = [...list.children];
    items.forEach((item) => show(item, "", ""));
    report.replaceChildren();
    let passed = true;
    for (const item of items) {
      if (!passed) {
        show(item, "skipped", "");
        continue;
      }
      show(item, "running", "");
      try {
        const found = isTooLarge() ? { status: "failed", detail: button.dataset.large } : await ask(item.dataset.step);
        show(item, found.status || "failed", found.detail, found.url);
        passed = found.status === "ok" || found.status === "warning";
        if (found.capabilities?.length) showReport(found.capabilities);
        const name = form.elements.namedItem("name");
        if (found.suggested_name && name && !name.value) name.value = found.suggested_name;
      } catch {
        show(item, "failed", button.dataset.lost);
        passed = false;
      }
    }
    next.hidden = !passed;
    if (passed) next.scrollIntoView({ behavior: "smooth", block: "nearest" });
  };

  // What was refused may stand far below the first screen.
  const wrong = form.querySelector(".errors :is(input, select, textarea)");
  if (wrong) {
    wrong.scrollIntoView({ block: "center" });
    wrong.focus({ preventScroll: true });
  }

  form.addEventListener("submit", (event) => {
    if (event.submitter !== button && !isTooLarge()) return;
    event.preventDefault();
    button.disabled = true;
    check().finally(() => { button.disabled = false; });
  });
})();
