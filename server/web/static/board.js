// A board that follows the server's events, and tables that sort. The page is whole without this.
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
  let order = null; // { column, descending } chosen by the reader, kept over updates

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
    waiting = setTimeout(refresh, 150);
  }

  async function refresh() {
    let answer;
    try {
      answer = await fetch(live.dataset.fragment, { headers: { Accept: "text/html" } });
    } catch {
      return; // the stream's own error handling says so
    }
    if (!answer.ok) return;
    const before = scores();
    const focused = document.activeElement && document.activeElement.dataset.focus;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    live.replaceChildren(...fresh.body.childNodes);
    prepare();
    if (focused) live.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus();
    const news = [];
    for (const row of live.querySelectorAll("#board tbody tr")) {
      if (before.get(row.dataset.key) !== row.dataset.score) {
        row.classList.add("fresh");
        news.push(row.querySelector("th a").textContent.trim());
      }
    }
    const summary = live.querySelector("[data-summary]").dataset.summary;
    said.textContent = `Board updated${news.length ? ": " + news.join(", ") : ""}. ${summary}.`;
  }

  function scores() {
    const rows = live.querySelectorAll("#board tbody tr");
    return new Map([...rows].map((row) => [row.dataset.key, row.dataset.score]));
  }

  function prepare() {
    const table = document.getElementById("board");
    if (!table) return;
    table.querySelectorAll("thead th[data-sort]").forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      button.dataset.focus = `sort-${column}`;
      button.addEventListener("click", () => {
        const same = order && order.column === column;
        order = { column, descending: same ? !order.descending : false };
        sort(table);
      });
      head.replaceChildren(button);
    });
    if (order) sort(table);
  }

  function sort(table) {
    const heads = table.querySelectorAll("thead th");
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    const head = heads[order.column];
    head.setAttribute("aria-sort", order.descending ? "descending" : "ascending");
    const numbers = head.dataset.sort === "number";
    const key = (row) => row.cells[order.column].dataset.value;
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === "" || y === "") return (x === "") - (y === ""); // what is missing comes last
      const difference = numbers ? x - y : x.localeCompare(y);
      return order.descending ? -difference : difference;
    });
    table.tBodies[0].append(...rows);
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
      refresh();
      listen();
    }
  });

  bar.hidden = false;
  prepare();
  listen();
})();
