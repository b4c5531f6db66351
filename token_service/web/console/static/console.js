// Live parts and charts of the console. Every page works without it.
"use strict";
(() => {
  const PAUSED = "token-service-paused";
  const button = document.querySelector("[data-pause]");
  let paused = false;
  try { paused = localStorage.getItem(PAUSED) === "1"; } catch { /* no storage: updates run */ }

  const showPaused = () => {
    if (!button) return;
    button.hidden = !document.querySelector("[data-every]");
    button.textContent = paused ? "Resume updates" : "Pause updates";
    button.setAttribute("aria-pressed", String(paused));
  };
  button?.addEventListener("click", () => {
    paused = !paused;
    try { localStorage.setItem(PAUSED, paused ? "1" : "0"); } catch { /* as above */ }
    showPaused();
  });

  // A part is not replaced while its operator has the focus in it, or selects its text to copy it.
  const isInUse = (element) => {
    const selection = getSelection();
    return element.contains(document.activeElement) || (!selection.isCollapsed && element.contains(selection.anchorNode));
  };

  // One clock for everything that is live. Nothing is asked while the tab is hidden or the operator has paused it.
  const due = new WeakMap();
  const refreshAll = (now) => {
    if (paused || document.hidden) return;
    for (const element of document.querySelectorAll("[data-every]")) {
      const at = due.get(element);
      const every = 1000 * Number(element.dataset.every);
      if (at === undefined) {
        due.set(element, element.dataset.chart ? 0 : now + every);
      }
      if (now >= due.get(element)) {
        due.set(element, now + every);
        if (element.dataset.chart) drawChart(element);
        else if (!isInUse(element)) htmx.trigger(element, "refresh");
      }
    }
  };

  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const plots = new Map();
  const UNITS = {
    "": (value) => value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 2 : 0 }),
    "/s": (value) => `${value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 2 : 0 })}/s`,
    s: (value) => (value < 1 ? `${Math.round(value * 1000)} ms` : `${value.toLocaleString("en", { maximumFractionDigits: 1 })} s`),
  };
  const SHORTEST = 300; // seconds that the axis of a chart has at least
  const WHOLE = [1, 2, 5].flatMap((each) => [...Array(9).keys()].map((power) => each * 10 ** power)).sort((a, b) => a - b);
  const DAYS = 2 * 86400; // seconds from which the times of an axis have their day
  const clock = (seconds, _, ticks) => {
    const time = new Date(seconds * 1000).toISOString();
    if (ticks[ticks.length - 1] - ticks[0] < DAYS) return time.slice(11, seconds % 60 ? 19 : 16);
    return seconds % 86400 ? time.slice(5, 16).replace("T", " ") : time.slice(5, 10);
  };
  const inUnit = (value, unit) => (value === null || value === undefined ? "—" : UNITS[unit](value));

  // The data: {"unit": "/s", "times": [seconds…], "series": [{"label": "…", "values": [number or null…]}…]}
  const drawChart = async (figure) => {
    let data;
    try {
      const answer = await fetch(figure.dataset.chart, { headers: { "HX-Request": "true", "HX-Current-URL": location.href } });
      const away = answer.headers.get("HX-Redirect");
      if (away) { location.assign(away); return; }
      if (!answer.ok) throw new Error(String(answer.status));
      data = await answer.json();
    } catch {
      figure.querySelector("[data-latest]").textContent = "no answer; tried again";
      return;
    }
    const place = figure.querySelector(".plot");
    const columns = [data.times, ...data.series.map((each) => each.values)];
    const last = (values) => values[values.length - 1];
    const latest = figure.querySelector("[data-latest]");
    latest.replaceChildren(...data.series.map((each, number) => {
      const key = document.createElement("span");
      key.className = `key series-${1 + (number % 5)}`;
      key.textContent = `${each.label} ${inUnit(last(each.values), data.unit)}`;
      return key;
    }));
    if (!data.times.length) return;
    const known = plots.get(figure);
    const shape = [data.times.length < 2, ...data.series.map((each) => each.label)].join();
    if (known && known.shape === shape) { known.plot.setData(columns); return; }
    known?.plot.destroy();
    place.hidden = false;
    const axis = { stroke: color("--note"), grid: { stroke: color("--line"), width: 1 }, ticks: { stroke: color("--line"), width: 1 } };
    const plot = new uPlot({
      width: place.clientWidth || figure.clientWidth - 26,
      height: 176,
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      legend: { show: false },
      cursor: { drag: { x: false, y: false } },
      scales: { x: { range: (_, first, last) => [last - Math.max(last - first, SHORTEST), last] }, y: { range: (_, low, high) => [Math.min(0, low ?? 0), high > 0 ? high * 1.1 : 1] } },
      axes: [{ ...axis, values: (_, ticks) => ticks.map(clock), space: 64 }, { ...axis, size: 64, incrs: data.unit ? undefined : WHOLE, values: (_, ticks) => ticks.map((each) => inUnit(each, data.unit)) }],
      series: [{}, ...data.series.map((each, number) => ({
        label: each.label, stroke: color(`--series-${1 + (number % 5)}`), width: 2, spanGaps: false,
        dash: number ? [[6, 3], [2, 3], [10, 4, 2, 4], [1, 2]][(number - 1) % 4] : undefined,
        points: { show: data.times.length < 2 },
      }))],
    }, columns, place);
    plots.set(figure, { plot, shape });
  };

  const redraw = () => {
    for (const [figure, { plot }] of plots) {
      plot.destroy();
      plots.delete(figure);
      if (figure.isConnected) drawChart(figure);
    }
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  let resized;
  addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(redraw, 200); });
  addEventListener("visibilitychange", () => refreshAll(performance.now()));

  // A question before a form does something that can't be undone: <form data-confirm="…">.
  addEventListener("submit", (event) => {
    const question = event.target.dataset?.confirm;
    if (question && !confirm(question)) event.preventDefault();
  }, true);

  // htmx shows what went wrong in #notice; this says so when there is no answer at all.
  addEventListener("htmx:sendError", () => {
    const notice = document.getElementById("notice");
    notice.innerHTML = '<p class="message critical">The service does not answer. The values shown may be old.</p>';
    notice.dataset.live = "1";
  });
  addEventListener("htmx:responseError", (event) => {
    document.getElementById("notice").dataset.live = event.detail.elt.dataset.every ? "1" : "";
  });
  // A live part that works again takes back its own message only: one about a form stays.
  addEventListener("htmx:afterOnLoad", (event) => {
    const notice = document.getElementById("notice");
    if (event.detail.successful && event.detail.elt.dataset?.every && notice.dataset.live) {
      notice.replaceChildren();
      notice.dataset.live = "";
    }
  });

  // Tables that are wider than the window keep their place when they are replaced.
  let places = [];
  addEventListener("htmx:beforeSwap", (event) => {
    places = [...event.detail.target.querySelectorAll(".scroll")].map((each) => each.scrollLeft);
  });
  addEventListener("htmx:afterSwap", (event) => {
    event.detail.target.querySelectorAll(".scroll").forEach((each, number) => { each.scrollLeft = places[number] ?? 0; });
  });

  showPaused();
  addEventListener("htmx:afterSettle", showPaused);
  setInterval(() => refreshAll(performance.now()), 250);
  refreshAll(performance.now());
})();
