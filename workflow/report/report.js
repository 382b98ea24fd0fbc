/* Draws the figures from the JSON blocks of the page, switches their views, saves them; sorts and saves the tables. Loads nothing. */
(() => {
  "use strict";
  const narrow = window.matchMedia("screen and (max-width: 640px)");
  const PAPER_WIDTH = 680;
  let printing = false;
  const BASE = {
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: "#1b1f24" },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "#ffffff",
    margin: { l: 64, r: 18, t: 12, b: 56 },
    hoverlabel: { font: { size: 12 } },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", xanchor: "left" },
    showlegend: false,
  };
  const AXIS = {
    showline: true, linecolor: "#8a929c", linewidth: 1, ticks: "outside", tickcolor: "#8a929c", ticklen: 4,
    gridcolor: "#eceef1", zeroline: false, automargin: true, title: { standoff: 8, font: { size: 13 } },
  };
  const merge = (base, extra) => {
    const out = { ...base };
    for (const [key, value] of Object.entries(extra || {})) {
      const nested = value && typeof value === "object" && !Array.isArray(value) && out[key] && typeof out[key] === "object";
      out[key] = nested ? merge(out[key], value) : value;
    }
    return out;
  };

  /* An array is a plain list, {i2: base64 of little-endian int16, scale}, {ref: name of a shared one}, or {minus: [a, b]}. */
  const unpack = (spec, value) => {
    if (value && value.minus) {
      const [from, less] = value.minus.map((part) => unpack(spec, part));
      return from.map((v, i) => (v === null || less[i] === null ? null : v - less[i]));
    }
    if (value && value.ref) {
      spec.arrays[value.ref] = unpack(spec, spec.arrays[value.ref]);
      return spec.arrays[value.ref];
    }
    if (value && value.i2 !== undefined) {
      const bytes = Uint8Array.from(atob(value.i2), (c) => c.charCodeAt(0));
      const view = new DataView(bytes.buffer);
      return Array.from({ length: bytes.length / 2 }, (_, i) => {
        const whole = view.getInt16(2 * i, true);
        return whole === -32768 ? null : whole * value.scale;
      });
    }
    return value;
  };
  const expand = (spec, stored, state) => {
    const { when, sd, mhz, ...trace } = stored;
    for (const key of ["x", "y", "customdata", "text"]) if (key in trace) trace[key] = unpack(spec, trace[key]);
    const hertz = Number(state.broadening || 0);
    if (mhz !== undefined && hertz > 0) { // a broadened spectrum's SD is not known from the SD
      trace.y = broaden(trace.x, trace.y, hertz / mhz);
      return [trace];
    }
    if (sd === undefined || (state.band && !state.band.has("sd"))) return [trace];
    const width = unpack(spec, sd);
    const upper = trace.y.map((v, i) => v + width[i]);
    const lower = trace.y.map((v, i) => v - width[i]);
    const band = {
      x: trace.x.concat([...trace.x].reverse()), y: upper.concat(lower.reverse()), fill: "toself", mode: "lines",
      line: { width: 0 }, fillcolor: trace.line.color, opacity: 0.16, hoverinfo: "skip", showlegend: false,
      xaxis: trace.xaxis, yaxis: trace.yaxis,
    };
    return [band, trace];
  };
  /* Convolves the real part with a Lorentzian of this full width, which is what FID * exp(-pi * width * t) does. */
  const broaden = (ppm, values, width) => {
    const step = Math.abs(ppm[1] - ppm[0]);
    const weights = values.map((_, i) => 1 / ((i * step) ** 2 + (width / 2) ** 2));
    return values.map((_, i) => {
      let sum = 0, all = 0;
      values.forEach((value, j) => {
        const weight = weights[Math.abs(i - j)];
        sum += weight * value;
        all += weight;
      });
      return sum / all;
    });
  };
  /* Ranges that show one region of ppm, as high as the lines in it. */
  const zoomed = (data, [low, high]) => {
    const layout = { xaxis: { range: [high, low] } };
    for (const [name, key] of [["y", "yaxis"], ["y2", "yaxis2"]]) {
      const values = data.filter((t) => (t.yaxis || "y") === name )
        .flatMap((t) => t.y.filter((_, i) => t.x[i] >= low && t.x[i] <= high));
      if (!values.length) continue;
      const least = Math.min(...values), from_zero = name === "y2" && least >= 0; // an SD
      const bottom = from_zero ? 0 : least, top = Math.max(...values);
      const space = 0.06 * (top - bottom || 1);
      layout[key] = { range: [from_zero ? 0 : bottom - space, top + space] };
    }
    return layout;
  };
  const matches = (when, state) =>
    Object.entries(when || {}).every(([key, value]) => {
      const chosen = state[key];
      if (chosen === undefined) return true;
      return chosen instanceof Set ? chosen.has(value) : [].concat(value).includes(chosen);
    });

  const draw = (figure) => {
    const { spec, state, plot } = figure;
    const zoom = spec.zooms && spec.zooms[state.region];
    const data = spec.traces.filter((t) => matches(t.when, state)).flatMap((t) => expand(spec, t, state))
      .filter((t) => !zoom || !t.fill);
    let layout = merge(BASE, structuredClone(spec.layout)); // plotly writes into what it is given
    for (const other of spec.layouts || []) if (matches(other.when, state)) layout = merge(layout, other.layout);
    if (zoom) layout = merge(layout, zoomed(data, zoom));
    layout.height = layout.height || 420;
    if (narrow.matches) layout = stacked(layout);
    const above = layout.showlegend && layout.legend.yanchor === "bottom";
    if (above || (layout.annotations || []).length) layout.margin = { ...layout.margin, t: Math.max(layout.margin.t, 38) };
    // What the reader zoomed into stays while series are switched; a ppm axis also for another subject or condition.
    const chosen = JSON.stringify(Object.entries(state).filter(([, value]) => !(value instanceof Set)));
    layout.uirevision = chosen;
    for (const key of Object.keys(layout)) {
      if (!/^[xy]axis\d*$/.test(key)) continue;
      layout[key] = merge(AXIS, layout[key]);
      if (key === "xaxis" && spec.layout.xaxis?.range) layout[key].uirevision = String(state.region);
    }
    if (figure.range && figure.region === state.region) layout.xaxis = { ...layout.xaxis, range: figure.range };
    figure.drawn = true;
    layout.width = printing ? PAPER_WIDTH : plot.clientWidth;
    figure.width = layout.width;
    plot.style.height = `${layout.height}px`;
    window.Plotly.react(plot, data, layout, { displayModeBar: false });
    plot.setAttribute("aria-label", [figure.label, ...choices(plot)].join("; "));
    const empty = plot.parentElement.querySelector(".empty");
    if (empty) empty.hidden = data.length > 0;
  };
  /* From nothing: to change a drawn figure's size leaves its legend in the old place. Forgets what was zoomed by mouse. */
  const redraw = (figure) => {
    window.Plotly.purge(figure.plot);
    draw(figure);
  };
  /* Panels side by side, one below the other instead, for narrow screens. */
  const stacked = (layout) => {
    const { xaxis, xaxis2, yaxis, yaxis2 } = layout;
    if (!xaxis?.domain || !xaxis2?.domain || !yaxis2 || yaxis?.domain || yaxis2.domain || layout.xaxis3) return layout;
    const below = layout.legend?.y < 0 ? { legend: { ...layout.legend, y: layout.legend.y / 2 } } : {};
    return merge(layout, {
      height: 1.6 * layout.height, xaxis: { domain: [0, 1] }, xaxis2: { domain: [0, 1] },
      yaxis: { domain: [0.58, 1] }, yaxis2: { domain: [0, 0.42] },
      shapes: (layout.shapes || []).map((s) => (s.xref === "x2" && s.yref === "paper" ? { ...s, yref: "y2 domain" } : s)),
      ...below,
    });
  };
  /* What a figure's controls say, in words. */
  const choices = (plot) => [...plot.parentElement.querySelectorAll("[data-control]")].map((group) => {
    const name = (group.tagName === "SELECT" ? group.labels[0] : group.querySelector("legend")).textContent.trim();
    const on = group.tagName === "SELECT" ? [...group.selectedOptions] : [...group.querySelectorAll('[aria-pressed="true"]')];
    return `${name}: ${on.map((o) => o.textContent.trim()).join(", ") || "none"}`;
  });

  const save = (name, content, type) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([content], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  /* The figure as it is drawn now, in a file of its own. */
  const saveDrawing = async (plot) => {
    const size = { width: Math.max(plot.clientWidth, 640), height: plot.clientHeight };
    const address = await window.Plotly.toImage(plot, { format: "svg", setBackground: "opaque", ...size });
    save(`${plot.dataset.figure}.svg`, decodeURIComponent(address.slice(address.indexOf(",") + 1)), "image/svg+xml");
  };
  /* Zooms or moves the first horizontal axis: `scale` of its width about the centre, moved by `step` of its width. */
  const move = (figure, scale, step) => {
    const [from, to] = figure.plot.layout.xaxis.range.map(Number);
    const [middle, half] = [(from + to) / 2 + step * (to - from), (scale * (to - from)) / 2];
    figure.range = [middle - half, middle + half];
    figure.region = figure.state.region;
    window.Plotly.relayout(figure.plot, { "xaxis.range": figure.range });
  };
  const TOOLS = {
    svg: (figure) => saveDrawing(figure.plot),
    reset: (figure) => {
      delete figure.range;
      redraw(figure);
    },
    in: (figure) => move(figure, 0.5, 0),
    out: (figure) => move(figure, 2, 0),
    left: (figure) => move(figure, 1, -0.25),
    right: (figure) => move(figure, 1, 0.25),
  };

  const figures = [];
  for (const plot of document.querySelectorAll(".plot")) {
    const spec = JSON.parse(document.getElementById(`data-${plot.dataset.figure}`).textContent);
    const state = {};
    const figure = { spec, state, plot, label: plot.getAttribute("aria-label"), drawn: false };
    for (const button of plot.parentElement.querySelectorAll("[data-tool]")) {
      button.setAttribute("aria-label", `${button.textContent.trim().replace(/[←→]/g, "").trim()}: ${figure.label}`);
      button.addEventListener("click", () => TOOLS[button.dataset.tool](figure));
    }
    for (const group of plot.parentElement.querySelectorAll("[data-control]")) {
      const key = group.dataset.control;
      if (group.tagName === "SELECT") {
        state[key] = group.value;
        group.addEventListener("change", () => { state[key] = group.value; draw(figure); });
        continue;
      }
      const buttons = [...group.querySelectorAll("button")];
      const many = group.dataset.many === "yes";
      const pressed = buttons.filter((b) => b.getAttribute("aria-pressed") === "true").map((b) => b.value);
      state[key] = many ? new Set(pressed) : pressed[0];
      for (const button of buttons) {
        button.addEventListener("click", () => {
          if (many) {
            const on = !state[key].has(button.value);
            state[key][on ? "add" : "delete"](button.value);
            button.setAttribute("aria-pressed", String(on));
          } else {
            state[key] = button.value;
            for (const b of buttons) b.setAttribute("aria-pressed", String(b === button));
          }
          draw(figure);
        });
      }
    }
    figures.push(figure);
  }
  if (window.Plotly) {
    const waiting = [...figures]; // one after the other, so that the page stays responsive
    const next = () => {
      const figure = waiting.shift();
      if (!figure) return;
      if (!figure.drawn) draw(figure);
      setTimeout(next, 0);
    };
    next();
    const paper = (on) => {
      printing = on;
      figures.forEach(redraw);
      if (printing) {
        for (const details of document.querySelectorAll("details:not([open])")) {
          if (details.closest("#tables")) continue; // long, and each can be opened by hand
          details.dataset.opened = "for print";
          details.open = true;
        }
      } else {
        for (const details of document.querySelectorAll("details[data-opened]")) {
          delete details.dataset.opened;
          details.open = false;
        }
      }
    };
    window.addEventListener("beforeprint", () => paper(true));
    window.addEventListener("afterprint", () => paper(false));
    let resized;
    window.addEventListener("resize", () => {
      clearTimeout(resized);
      resized = setTimeout(() => figures.filter((f) => f.drawn && !printing && f.width !== f.plot.clientWidth).forEach(redraw), 100);
    });
  }

  /* What a cell sorts by: a number (after a sign such as < or ≥, in any minus), else its text; nothing comes last. */
  const rank = (cell) => {
    const text = cell.textContent.trim();
    const found = /^[<>≤≥±~]?\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)(?=$|[\s%(])/i.exec(text.replace(/−/g, "-"));
    const number = cell.dataset.value !== undefined ? Number(cell.dataset.value) : found ? Number(found[1]) : NaN;
    return { missing: ["n/a", "", "–", "nan"].includes(text.toLowerCase()), number, text };
  };
  const compare = (a, b) => {
    if (a.missing || b.missing) return 0;
    const [first, second] = [Number.isNaN(a.number), Number.isNaN(b.number)];
    if (first !== second) return first - second;
    return first ? a.text.localeCompare(b.text, "en", { numeric: true }) : a.number - b.number;
  };
  /* A table's whole TSV stands in the page as base64 of gzip. */
  for (const button of document.querySelectorAll("[data-table]")) {
    button.addEventListener("click", async () => {
      const name = button.dataset.table;
      const bytes = Uint8Array.from(atob(document.getElementById(`tsv-${name}`).textContent), (c) => c.charCodeAt(0));
      if (!window.DecompressionStream) { // an old browser
        save(`${name}.tsv.gz`, bytes, "application/gzip");
        return;
      }
      const stream = new Blob([bytes]).stream().pipeThrough(new window.DecompressionStream("gzip"));
      save(`${name}.tsv`, await new Response(stream).arrayBuffer(), "text/tab-separated-values");
    });
  }
  const words = (element) => element.textContent.replace(/\s+/g, " ").trim();
  for (const table of document.querySelectorAll("table.sortable")) {
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => {
      heading.querySelector("button")?.addEventListener("click", () => {
        const down = heading.getAttribute("aria-sort") === "ascending";
        for (const other of headings) other.removeAttribute("aria-sort");
        heading.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...table.tBodies[0].rows].map((row) => ({ row, key: rank(row.cells[column]) }));
        rows.sort((a, b) => (a.key.missing - b.key.missing) || (down ? -1 : 1) * compare(a.key, b.key));
        table.tBodies[0].append(...rows.map((r) => r.row));
      });
    });
    if (table.closest("#tables")) continue; // has its file
    const button = document.createElement("button");
    const name = (table.caption && words(table.caption)) || table.closest("[aria-label]")?.getAttribute("aria-label") || "table";
    button.type = "button";
    button.className = "save";
    button.textContent = "Download table (TSV)";
    button.setAttribute("aria-label", `Download table (TSV): ${name}`);
    button.addEventListener("click", () => {
      const lines = [...table.rows].map((row) => [...row.cells].map(words).join("\t"));
      save(`${name.toLowerCase().replace(/[^a-z0-9]+/g, "_").slice(0, 60)}.tsv`, `${lines.join("\n")}\n`, "text/tab-separated-values");
    });
    (table.closest(".scroll") || table).after(button);
  }
})();
