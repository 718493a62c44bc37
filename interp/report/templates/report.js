"use strict";
(() => {
  const tip = document.getElementById("tip"), live = document.getElementById("live");
  const say = (text, x, y) => {
    tip.textContent = text;
    if (!text) return;
    const box = tip.getBoundingClientRect();
    tip.style.left = Math.max(4, Math.min(innerWidth - box.width - 6, x + 12)) + "px";
    tip.style.top = (y + 16 + box.height > innerHeight ? y - box.height - 10 : y + 16) + "px";
  };
  const sayAt = (text, element) => { const r = element.getBoundingClientRect(); say(text, r.left + r.width / 2, r.bottom - 8); };

  // Head grids: hover and focus show the cell's name; arrows move; the same head is ringed in the task's other grids and table.
  for (const section of document.querySelectorAll("section.task")) {
    const same = (head, on) => section.querySelectorAll("[data-h]").forEach(e => { if (e.dataset.h === head) e.classList.toggle("on", on); });
    for (const grid of section.querySelectorAll("svg.heat")) {
      const cells = [...grid.querySelectorAll("g[data-h]")];
      const across = cells.filter(c => c.querySelector("rect").getAttribute("y") === cells[0].querySelector("rect").getAttribute("y")).length;
      const text = c => c.getAttribute("aria-label") || c.dataset.h + ": not significant";
      cells.forEach((c, i) => c.setAttribute("tabindex", i ? "-1" : "0"));
      cells.forEach((cell, index) => {
        cell.addEventListener("pointermove", e => say(text(cell), e.clientX, e.clientY));
        cell.addEventListener("pointerenter", () => same(cell.dataset.h, true));
        cell.addEventListener("pointerleave", () => { say(""); if (document.activeElement !== cell) same(cell.dataset.h, false); });
        cell.addEventListener("focus", () => { same(cell.dataset.h, true); sayAt(text(cell), cell); });
        cell.addEventListener("blur", () => { same(cell.dataset.h, false); say(""); });
        cell.addEventListener("keydown", e => {
          const row = index - index % across;
          const to = {ArrowRight: index + 1, ArrowLeft: index - 1, ArrowDown: index + across, ArrowUp: index - across, Home: row, End: row + across - 1}[e.key];
          if (e.key === "Escape") { cell.blur(); return; }
          if (to === undefined || !cells[to]) return;
          e.preventDefault();
          cells.forEach(c => c.setAttribute("tabindex", "-1"));
          cells[to].setAttribute("tabindex", "0");
          cells[to].focus();
        });
      });
    }
  }

  // Circuits: a node shows its own edges, and its head in the task's grids and tables.
  for (const graph of document.querySelectorAll("svg.circuit")) {
    const edges = [...graph.querySelectorAll("path.e")], section = graph.closest("section");
    for (const node of graph.querySelectorAll("g.node")) {
      const name = node.dataset.h;
      const mark = on => {
        graph.classList.toggle("looking", on);
        edges.forEach(e => e.classList.toggle("mine", on && (e.dataset.s === name || e.dataset.t === name)));
        section.querySelectorAll("[data-h]").forEach(e => { if (e.dataset.h === name) e.classList.toggle("on", on); });
      };
      const into = edges.filter(e => e.dataset.t === name).length, out = edges.filter(e => e.dataset.s === name).length;
      node.addEventListener("pointerenter", () => mark(true));
      node.addEventListener("pointermove", e => say(name + ": " + into + " edges in, " + out + " out", e.clientX, e.clientY));
      node.addEventListener("pointerleave", () => { mark(false); say(""); });
    }
  }

  // Tables: sort by a column, fold the tail, save as CSV.
  for (const table of document.querySelectorAll("table.ranked, table.sortable")) {
    const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      if (head.matches(".plain")) return;
      const button = document.createElement("span");    // a real button is not repeated on the next sheet of paper
      button.setAttribute("role", "button");
      button.tabIndex = 0;
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("keydown", e => { if (e.key === "Enter" || e.key === " ") { e.preventDefault(); button.click(); } });
      button.addEventListener("click", () => {
        const first = head.dataset.first || "descending", now = head.getAttribute("aria-sort");
        const next = now ? (now === "ascending" ? "descending" : "ascending") : first, sign = next === "ascending" ? 1 : -1;
        heads.forEach(h => h.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", next);
        const number = row => { const v = parseFloat(row.cells[column].dataset.v); return Number.isNaN(v) ? -sign * Infinity : v; };
        const text = row => row.cells[column].textContent.trim();
        const numbers = [...body.rows].some(row => "v" in row.cells[column].dataset);
        body.append(...[...body.rows].sort((a, b) => sign * (numbers ? number(a) - number(b) || 0 : text(a).localeCompare(text(b)))));
        live.textContent = "sorted by " + head.textContent.trim() + ", " + next;
      });
    });
    const tools = document.createElement("p");
    tools.className = "tools";
    const add = (text, act) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = text;
      button.addEventListener("click", () => act(button));
      tools.append(button);
    };
    if (body.rows.length > 12 && table.matches(".ranked, .folds")) {
      const all = "Show all " + body.rows.length + " heads";
      table.classList.add("folded");
      add(all, button => { button.textContent = table.classList.toggle("folded") ? all : "Show the first 12"; });
    }
    add("Save as CSV", () => {
      const quote = text => '"' + text.replace(/\s+/g, " ").trim().replace(/"/g, '""') + '"';
      const rows = [...table.rows].map(row => [...row.cells].map(c => quote(c.textContent)).join(","));
      const link = document.createElement("a");
      link.href = "data:text/csv;charset=utf-8," + encodeURIComponent(rows.join("\n"));
      link.download = (table.dataset.name || "heads") + ".csv";
      link.click();
    });
    table.closest(".scroll").after(tools);
  }

  // Workbenches: the packed documents are opened in frames of their own that can reach neither this page nor the network.
  const frames = [];
  const unpack = async script => {
    const bytes = Uint8Array.from(atob(script.textContent.trim()), c => c.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  };
  const whole = async own => {
    const [common, text] = await Promise.all([unpack(document.getElementById("benches")), unpack(own)]);
    return common.split("\0").join(text);
  };
  addEventListener("message", event => {
    const frame = frames.find(f => f.contentWindow === event.source), height = event.data && event.data.interpHeight;
    if (frame && Number.isFinite(height)) frame.style.height = Math.min(6000, Math.max(200, height)) + "px";
  });
  for (const box of document.querySelectorAll(".bench")) {
    const texts = [...document.querySelectorAll("script[data-bench]")].filter(s => s.dataset.bench === box.dataset.bench);
    if (!texts.length || typeof DecompressionStream === "undefined") continue;
    const title = document.createElement("h3"), frame = document.createElement("iframe"), note = document.createElement("p");
    title.textContent = "Every head on " + (texts.length > 1 ? "these prompts" : "the first prompt");
    note.className = "note";
    note.textContent = "Choose a head in the grid to see its attention; choose a token to see what it looks at, or what looks at it.";
    frame.setAttribute("sandbox", "allow-scripts");
    frame.title = "Workbench: every head of " + box.dataset.name;
    frames.push(frame);
    let shown = -1;
    const show = async i => { shown = i; const text = await whole(texts[i]); if (shown === i) frame.srcdoc = text; };
    box.append(title, note);
    if (texts.length > 1) {
      const choice = document.createElement("p");
      choice.className = "tools";
      texts.forEach((text, i) => {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = "Prompt " + text.dataset.prompt;
        button.setAttribute("aria-pressed", String(i === 0));
        button.addEventListener("click", () => {
          choice.querySelectorAll("button").forEach(b => b.setAttribute("aria-pressed", String(b === button)));
          show(i);
        });
        choice.append(button);
      });
      box.append(choice);
    }
    box.append(frame);
    box.hidden = false;
    new IntersectionObserver((seen, observer) => {
      if (seen.some(one => one.isIntersecting)) { observer.disconnect(); show(0); }
    }, {rootMargin: "800px"}).observe(box);
  }

  // Attention patterns: hover or arrows give query, key and weight.
  for (const svg of document.querySelectorAll("svg.pattern")) {
    const d = svg.dataset, rows = +d.rows, columns = +d.columns, pitch = +d.pitch, left = +d.left, block = +d.block;
    const bytes = Uint8Array.from(atob(d.v), c => c.charCodeAt(0));
    const figure = svg.closest("figure"), queries = JSON.parse(figure.dataset.queries), keys = figure.dataset.keys ? JSON.parse(figure.dataset.keys) : queries;
    const cross = svg.querySelector(".cross");
    let at = [rows - 1, 0];
    const range = (tokens, i) => block === 1 ? tokens[i] + " (" + i + ")" : "tokens " + i * block + "–" + (Math.min(tokens.length, (i + 1) * block) - 1);
    const text = (r, c) => {
      const lower = "lower" in d, at = 2 * (lower ? r * (r + 1) / 2 + c : r * columns + c);
      const code = lower && c > r ? 65535 : bytes[at] + 256 * bytes[at + 1], w = code / 65534;
      const said = code === 65535 ? "masked" : (block > 1 ? "at most " : "") + (w > 0 && w < 0.0005 ? "<0.001" : w.toFixed(3));
      return range(queries, r) + " → " + range(keys, c) + ": " + said;
    };
    const show = (r, c) => {
      at = [r, c];
      for (const [k, v] of Object.entries({x: left + c * pitch, y: r * pitch, width: pitch, height: pitch})) cross.setAttribute(k, v);
      return text(r, c);
    };
    svg.addEventListener("pointermove", e => {
      const p = new DOMPoint(e.clientX, e.clientY).matrixTransform(svg.getScreenCTM().inverse());
      const r = Math.floor(p.y / pitch), c = Math.floor((p.x - left) / pitch);
      if (r < 0 || c < 0 || r >= rows || c >= columns) { say(""); cross.setAttribute("width", 0); return; }
      say(show(r, c), e.clientX, e.clientY);
    });
    const hide = () => { say(""); cross.setAttribute("width", 0); cross.setAttribute("height", 0); };
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("blur", hide);
    svg.addEventListener("keydown", e => {
      const move = {ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0]}[e.key];
      if (e.key === "Escape") svg.blur();
      if (!move) return;
      e.preventDefault();
      const said = show(Math.min(rows - 1, Math.max(0, at[0] + move[0])), Math.min(columns - 1, Math.max(0, at[1] + move[1])));
      live.textContent = said;
      sayAt(said, cross);
    });
  }
})();
