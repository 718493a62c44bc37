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
      cells[0].setAttribute("tabindex", "0");
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

  // Tables: sort by a column, fold the tail, save as CSV.
  for (const table of document.querySelectorAll("table.ranked")) {
    const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const first = head.dataset.first || "descending", now = head.getAttribute("aria-sort");
        const next = now ? (now === "ascending" ? "descending" : "ascending") : first, sign = next === "ascending" ? 1 : -1;
        heads.forEach(h => h.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", next);
        const value = row => { const v = parseFloat(row.cells[column].dataset.v); return Number.isNaN(v) ? -sign * Infinity : v; };
        body.append(...[...body.rows].sort((a, b) => sign * (value(a) - value(b)) || 0));
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
    if (body.rows.length > 12) {
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

  // Attention patterns: hover or arrows give query, key and weight.
  for (const svg of document.querySelectorAll("svg.pattern")) {
    const d = svg.dataset, rows = +d.rows, columns = +d.columns, pitch = +d.pitch, left = +d.left, block = +d.block;
    const bytes = Uint8Array.from(atob(d.v), c => c.charCodeAt(0));
    const figure = svg.closest("figure"), queries = JSON.parse(figure.dataset.queries), keys = figure.dataset.keys ? JSON.parse(figure.dataset.keys) : queries;
    const cross = svg.querySelector(".cross");
    let at = [rows - 1, 0];
    const range = (tokens, i) => block === 1 ? tokens[i] + " (" + i + ")" : "tokens " + i * block + "–" + (Math.min(tokens.length, (i + 1) * block) - 1);
    const text = (r, c) => {
      const code = bytes[2 * (r * columns + c)] + 256 * bytes[2 * (r * columns + c) + 1], w = code / 65534;
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
