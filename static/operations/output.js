// The output of an operation: at most LIMIT lines in the page, older ones fetched when scrolled to.
"use strict";
class OperationOutput {
  static LIMIT = 2000;
  static PIECE = 500;

  // page: {texts, urls, nameOf(machine), timeZone, failed()}
  constructor(page) {
    this.page = page;
    this.log = document.getElementById("op-log");
    this.fresh = document.getElementById("op-new");
    this.counter = document.getElementById("op-lines");
    this.followButton = document.getElementById("op-follow");
    this.select = document.getElementById("op-of");
    this.onlyFailed = document.getElementById("op-only-failed");
    this.download = document.getElementById("op-download");
    this.last = 0;        // newest line known, shown or not
    this.before = 1;      // older lines end here
    this.following = true;
    this.waiting = [];    // lines for the next frame
    this.unseen = 0;
    this.isLoading = false;
    this.generation = 0;  // answers to questions of an earlier filter are dropped
    this.isDetached = false; // the newest lines were dropped while reading old ones
    this.expected = 0;    // where the program itself scrolled to
    this.clock = new Intl.DateTimeFormat(document.documentElement.lang || "en", { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false, timeZone: page.timeZone });
    this.#listen();
    this.#links();
    this.#count();
  }

  #listen() {
    this.followButton.addEventListener("click", () => (this.following ? this.#pause() : this.#toEnd()));
    this.fresh.addEventListener("click", () => this.#toEnd());
    this.select.addEventListener("change", () => { this.onlyFailed.checked = false; this.reload(); });
    this.onlyFailed.addEventListener("change", () => { this.select.value = ""; this.reload(); });
    this.log.addEventListener("scroll", () => this.#scrolled(), { passive: true });
  }

  #query() {
    const query = new URLSearchParams();
    if (this.select.value) query.set("machine", this.select.value);
    if (this.onlyFailed.checked) query.set("failed", "true");
    return query;
  }

  #links() {
    const query = this.#query().toString();
    this.download.href = this.page.urls.download + (query ? `?${query}` : "");
  }

  #takes(machine) {
    if (this.select.value) return machine === Number(this.select.value);
    return !this.onlyFailed.checked || this.page.failed().has(machine);
  }

  setMachines(machines) {
    if (this.select.options.length === machines.length + 1) return;
    const chosen = this.select.value;
    this.select.replaceChildren(this.select.options[0], ...machines.map((machine) => new Option(machine.hostname ? `${machine.address} · ${machine.hostname}` : machine.address, machine.id)));
    this.select.value = chosen;
  }

  // rows: [number, milliseconds, machine, level, text], in order; what is known already is dropped.
  add(rows) {
    const isNew = rows.filter((row) => row[0] > this.last);
    if (!isNew.length) return;
    if (!this.last) this.before = isNew[0][0];
    this.last = isNew[isNew.length - 1][0];
    const wanted = isNew.filter((row) => this.#takes(row[2]));
    if (!wanted.length) return this.#count();
    if (!this.following || this.isDetached) {
      this.unseen += wanted.length;
      this.isDetached = true;
      this.#count();
      return;
    }
    const isIdle = !this.waiting.length;
    this.waiting.push(...wanted.slice(-OperationOutput.LIMIT));
    if (isIdle) (document.hidden ? setTimeout : requestAnimationFrame)(() => this.#flush());
  }

  #flush() {
    const rows = this.waiting.slice(-OperationOutput.LIMIT);
    this.waiting = [];
    if (!rows.length) return;
    this.#clearNote();
    this.log.append(this.#rows(rows));
    let surplus = this.log.childElementCount - OperationOutput.LIMIT;
    if (surplus > 0) {
      while (surplus-- > 0) this.log.firstElementChild.remove();
      this.before = Number(this.log.firstElementChild.dataset.number);
    }
    if (this.following) this.#scrollToEnd();
    this.#count();
  }

  #scrollToEnd() {
    this.log.scrollTop = this.log.scrollHeight;
    this.expected = this.log.scrollTop;
  }

  #rows(rows) {
    const fragment = document.createDocumentFragment();
    for (const [number, at, machine, level, text] of rows) {
      const row = document.createElement("div");
      row.className = level === "info" ? "op-line" : `op-line op-line-${level}`;
      row.dataset.number = number;
      const time = document.createElement("time");
      time.dateTime = new Date(at).toISOString();
      time.textContent = this.clock.format(at);
      const who = document.createElement("b");
      who.textContent = machine ? this.page.nameOf(machine) : "";
      who.title = who.textContent; // long names are cut
      const what = document.createElement("span");
      what.textContent = text;
      row.append(time, who, what);
      fragment.append(row);
    }
    return fragment;
  }

  #scrolled() {
    const room = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight;
    if (this.following && this.log.scrollTop < this.expected - 4 && room > 24) this.#pause();
    else if (!this.following && room < 4 && !this.isDetached) this.#setFollowing(true);
    if (this.log.scrollTop < 120 && !this.following) this.#loadOlder();
  }

  #pause() { this.#setFollowing(false); if (this.log.scrollTop < 120) this.#loadOlder(); }

  #setFollowing(isOn) {
    this.following = isOn;
    this.followButton.setAttribute("aria-pressed", String(isOn));
    this.#count();
  }

  async #toEnd() {
    this.#setFollowing(true);
    if (this.isDetached) await this.reload();
    this.#scrollToEnd();
  }

  async #fetch(before) {
    const query = this.#query();
    query.set("before", String(before));
    query.set("limit", String(OperationOutput.PIECE));
    const answer = await fetch(`${this.page.urls.output}?${query}`, { headers: { Accept: "application/json" } });
    if (!answer.ok) throw new Error(String(answer.status));
    const piece = await answer.json();
    return { ...piece, rows: piece.lines.map((line) => [line.number, line.at, line.machine, line.level, line.text]) };
  }

  // Begins anew with the newest lines that the filter takes.
  async reload() {
    const generation = ++this.generation;
    this.#links();
    this.waiting = [];
    try {
      const piece = await this.#fetch(0);
      if (generation !== this.generation) return;
      this.log.replaceChildren(this.#rows(piece.rows));
      this.before = piece.before;
      this.last = Math.max(this.last, piece.after);
      this.unseen = 0;
      this.isDetached = false;
      this.#setFollowing(true);
      this.#scrollToEnd();
      if (!piece.rows.length) this.#note(this.page.texts.no_output_here);
    } catch {
      this.#note(this.page.texts.failed_request);
    }
    this.#count();
  }

  async #loadOlder() {
    if (this.isLoading || this.before <= 1) return;
    this.isLoading = true;
    const generation = this.generation;
    try {
      const piece = await this.#fetch(this.before);
      if (generation !== this.generation) return;
      const height = this.log.scrollHeight;
      this.before = piece.before;
      this.log.prepend(this.#rows(piece.rows));
      this.log.scrollTop += this.log.scrollHeight - height;
      while (this.log.childElementCount > OperationOutput.LIMIT) {
        this.log.lastElementChild.remove();
        this.isDetached = true;
      }
    } catch {
      // The next scroll asks again.
    } finally {
      this.isLoading = false;
      this.#count();
    }
  }

  #clearNote() { this.log.querySelector(".op-log-note")?.remove(); }

  #note(text) {
    this.#clearNote();
    const note = document.createElement("p");
    note.className = "op-log-note";
    note.textContent = text;
    this.log.append(note);
  }

  #count() {
    const texts = this.page.texts;
    if (!this.last && !this.log.childElementCount) this.#note(texts.no_output);
    this.counter.textContent = this.last ? texts.lines.replace("{count}", this.last.toLocaleString(document.documentElement.lang || "en")) : "";
    this.fresh.hidden = this.following || !this.unseen;
    this.fresh.textContent = texts.new_lines.replace("{count}", this.unseen.toLocaleString());
  }
}
window.OperationOutput = OperationOutput;
