// A board that follows the server's events and is sorted in place. The page is whole without this.
"use strict";

(() => {
  const live = document.getElementById("live");
  const bar = document.getElementById("live-bar");
  const state = document.getElementById("live-state");
  const pause = document.getElementById("live-pause");
  const said = document.getElementById("live-said");
  let source = null;
  let last = live.dataset.last;
  let paused = false;
  let waiting = null; // one fetch for a burst of events
  let asked = 0; // numbers the fetches: of two under way only the later one is shown

  function show(name, text) {
    state.dataset.state = name;
    state.textContent = text;
  }

  function listen() {
    source = new EventSource(`${live.dataset.events}?after=${encodeURIComponent(last)}`);
    source.onopen = () => show("live", "live");
    for (const kind of live.dataset.kinds.split(" ")) source.addEventListener(kind, heard);
    source.onerror = () => {
      show("lost", "connection lost, trying again");
      if (source.readyState === EventSource.CLOSED) {
        setTimeout(() => { if (!paused) listen(); }, 5000);
      }
    };
  }

  function heard(event) {
    if (event.lastEventId) last = event.lastEventId;
    clearTimeout(waiting);
    waiting = setTimeout(update, 150);
  }

  async function refresh(keep) {
    const mine = ++asked;
    let answer;
    try {
      answer = await fetch(live.dataset.fragment, { headers: { Accept: "text/html" } });
    } catch {
      return false; // the stream's own error handling says so
    }
    if (!answer.ok) return false;
    const text = await answer.text();
    if (mine !== asked) return true;
    const before = scores();
    const active = document.activeElement;
    const focused = active?.dataset.focus;
    const fresh = new DOMParser().parseFromString(text, "text/html");
    const form = keep && live.querySelector("form.filters");
    if (form) fresh.querySelector("form.filters")?.replaceWith(form); // somebody may be typing
    live.replaceChildren(...fresh.body.childNodes);
    if (focused) live.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus();
    else if (form?.contains(active)) active.focus();
    return before;
  }

  async function update() {
    const before = await refresh(true);
    if (!(before instanceof Map)) return;
    const news = [];
    for (const row of live.querySelectorAll("#board tbody tr")) {
      if (before.get(row.dataset.key) !== row.dataset.score) {
        row.classList.add("fresh");
        news.push(row.querySelector("th a").textContent.trim());
      }
    }
    const board = document.getElementById("board");
    const summary = live.querySelector("[data-summary]").dataset.summary;
    said.textContent = `${board ? "Board updated" : "Updated"}${news.length ? ": " + news.join(", ") : ""}. ${summary}.`;
  }

  // Another order or page of the same board: its address is the permalink.
  async function swap(address) {
    const url = new URL(address, location.href);
    live.dataset.fragment = `${url.pathname}/table${url.search}`;
    if (!(await refresh(false))) location.assign(address);
    said.textContent = live.querySelector("#board caption")?.textContent.trim() ?? "";
  }

  live.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-swap]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    history.pushState(null, "", link.href);
    swap(link.href);
  });
  addEventListener("popstate", () => swap(location.href));

  function scores() {
    const rows = live.querySelectorAll("#board tbody tr");
    return new Map([...rows].map((row) => [row.dataset.key, row.dataset.score]));
  }

  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    pause.textContent = paused ? "Resume updates" : "Pause updates";
    if (paused) {
      source.close();
      clearTimeout(waiting);
      show("paused", "paused");
    } else {
      update();
      listen();
    }
  });

  bar.hidden = false;
  listen();
})();
