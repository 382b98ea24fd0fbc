/* Draws the figures from the JSON blocks of the page, switches their views, sorts the tables. Loads nothing. */
(() => {
  "use strict";
  const BASE = {
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: "#1b1f24" },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "#ffffff",
    margin: { l: 64, r: 18, t: 38, b: 56 },
    modebar: { bgcolor: "rgba(255,255,255,0)", color: "#a3abb4", activecolor: "#1b1f24" },
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

  /* An array is a plain list, {i2: base64 of little-endian int16, scale}, or {ref: name of a shared one}. */
  const unpack = (spec, value) => {
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
      const bottom = name === "y2" ? 0 : Math.min(...values), top = Math.max(...values);
      const space = 0.06 * (top - bottom || 1);
      layout[key] = { range: [name === "y2" ? 0 : bottom - space, top + space] };
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
    let layout = merge(BASE, spec.layout);
    for (const other of spec.layouts || []) if (matches(other.when, state)) layout = merge(layout, other.layout);
    if (zoom) layout = merge(layout, zoomed(data, zoom));
    layout.height = layout.height || 420;
    for (const key of Object.keys(layout)) if (/^[xy]axis\d*$/.test(key)) layout[key] = merge(AXIS, layout[key]);
    const config = {
      responsive: true, displaylogo: false, showSendToCloud: false, plotlyServerURL: "", modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
      toImageButtonOptions: { format: "svg", filename: plot.dataset.figure },
    };
    figure.drawn = true;
    window.Plotly.react(plot, data, layout, config);
    const empty = plot.parentElement.querySelector(".empty");
    if (empty) empty.hidden = data.length > 0;
  };

  const figures = [];
  for (const plot of document.querySelectorAll(".plot")) {
    const spec = JSON.parse(document.getElementById(`data-${plot.dataset.figure}`).textContent);
    const state = {};
    const figure = { spec, state, plot, drawn: false };
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
    window.addEventListener("beforeprint", () => {
      for (const figure of figures) {
        if (!figure.drawn) draw(figure);
        window.Plotly.relayout(figure.plot, { width: 680 });
      }
    });
    window.addEventListener("afterprint", () => {
      for (const figure of figures) window.Plotly.relayout(figure.plot, { width: null, autosize: true });
    });
  }

  const rank = (cell) => {
    const text = cell.textContent.trim();
    const number = cell.dataset.value !== undefined ? Number(cell.dataset.value) : Number(text);
    return { missing: text === "n/a" || text === "", number, text };
  };
  const compare = (a, b) => {
    if (a.missing || b.missing) return 0;
    if (!Number.isNaN(a.number) && !Number.isNaN(b.number)) return a.number - b.number;
    return a.text.localeCompare(b.text, "en", { numeric: true });
  };
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
  }
})();
