// Shows what /page/state says, once a second, and presses the API's buttons.
"use strict";

const byId = (id) => document.getElementById(id);
const filter = byId("filter");
const opened = new Set();
let token = document.body.dataset.token || sessionStorage.getItem("token") || "";
let behind = 0; // the server's clock minus ours, in milliseconds
let timer = 0;

function make(tag, options = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (name === "class") node.className = value;
    else if (name === "click") node.addEventListener("click", value);
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

const small = (...parts) => make("span", { class: "small" }, ...parts);
const cell = (name, ...parts) => make("td", name ? { "data-name": name } : { class: "acts" }, ...parts);

function instant(milliseconds) {
  if (!milliseconds) return "";
  const date = new Date(milliseconds);
  const day = (one) => one.toLocaleDateString();
  const today = day(date) === day(new Date(Date.now() + behind));
  return today ? date.toLocaleTimeString() : date.toLocaleString();
}

function relative(milliseconds) {
  const seconds = Math.round((milliseconds - Date.now() - behind) / 1000);
  const size = Math.abs(seconds);
  const [amount, unit] = size < 90 ? [size, "s"] : size < 5400 ? [Math.round(size / 60), "min"]
    : size < 129600 ? [Math.round(size / 3600), "h"] : [Math.round(size / 86400), "d"];
  return seconds >= 0 ? `in ${amount} ${unit}` : `${amount} ${unit} ago`;
}

async function call(method, path, what) {
  const headers = { Authorization: `Bearer ${token}` };
  const answer = await fetch(path, { method, headers, cache: "no-store" });
  if (answer.ok) {
    if (what) tell(what);
    return answer;
  }
  const { error } = await answer.json().catch(() => ({ error: answer.statusText }));
  throw Object.assign(new Error(error), { status: answer.status });
}

function tell(text, bad = false) {
  byId("told").textContent = text;
  byId("told").classList.toggle("bad", bad);
}

function button(text, about, act) {
  const node = make("button", { type: "button", "data-act": text, "aria-label": `${text}: ${about}` }, text);
  node.addEventListener("click", async () => {
    try { await act(); } catch (error) { tell(error.message, true); }
    await refresh();
  });
  return node;
}

const STATES = {
  CREATED: ["waits", "wait"], ACTIVE: ["being delivered", "wait"], RETRY: ["waits for its retry", "wait"],
  ERROR: ["failed", "bad"], DELIVERED: ["delivered", "good"], FAILED: ["given up", "bad"],
  CANCEL_REQUESTED: ["to be cancelled", "wait"], CANCELED: ["cancelled", ""],
};

function state(name) {
  const [text, kind] = STATES[name] || [name, ""];
  return make("span", { class: kind }, text);
}

function title(one, key) {
  const more = `more-${key}`;
  const node = make("button", { type: "button", class: "open", "data-act": "open",
    "aria-expanded": String(opened.has(key)), "aria-controls": more }, `${one.method} ${one.url}`);
  node.addEventListener("click", () => {
    if (opened.has(key)) opened.delete(key); else opened.add(key);
    refresh();
  });
  const about = [one.messageId, one.queueName && `queue ${one.queueName}`,
    one.topicName && `group ${one.topicName}`, one.flowControlKey && `key ${one.flowControlKey}`,
    one.workflowRunId, one.scheduleId].filter(Boolean).join(" \u00b7 ");
  const labels = (one.labels || []).map((text) => make("span", { class: "label" }, text));
  return [node, small(...labels, about)];
}

function details(key, ...parts) {
  return opened.has(key) ? [make("div", { class: "more", id: `more-${key}` }, ...parts)] : [];
}

function attempt(entry) {
  const status = entry.responseStatus ? ` ${entry.responseStatus}` : "";
  const next = entry.nextDeliveryTime ? `, next ${instant(entry.nextDeliveryTime)}` : "";
  const item = make("li", {}, `${instant(entry.time)} `, state(entry.state), `${status}${next}`);
  if (entry.error) item.append(small(entry.error));
  if (entry.responseBody) item.append(small(entry.responseBody));
  return item;
}

function messageRow(one) {
  const key = one.messageId;
  const acts = one.isOver ? [] : [button("Cancel", one.url, () =>
    call("DELETE", `/v2/messages/${key}`, `Cancelled ${key}.`))];
  return [
    cell("Message", ...title(one, key), ...details(key, make("ol", {}, ...one.log.map(attempt)))),
    cell("State", state(one.state)),
    cell("Attempts", `${one.attempts} of ${one.maxRetries + 1}`),
    cell("Next delivery", ...(one.waitsFor ? [make("span", { class: "wait" }, one.waitsFor)] : one.next ? [instant(one.next), small(relative(one.next))] : [])),
    cell("Published", instant(one.createdAt)),
    cell("", ...acts),
  ];
}

function deadRow(one) {
  const key = one.dlqId;
  const body = one.responseBody || one.responseBodyBase64 || "";
  return [
    cell("Message", ...title(one, key), ...details(key, small("What was sent"), one.body || one.bodyBase64 || "nothing",
      small("What came back"), body || one.error || "nothing")),
    cell("Answer", make("span", { class: "bad" }, one.responseStatus ? String(one.responseStatus) : "none"),
      small(one.error || "")),
    cell("Given up", instant(Number(key.split("-")[0]))),
    cell("",
      button("Retry", one.url, () => call("POST", `/v2/dlq/retry/${key}`, `Published again: ${one.url}`)),
      button("Delete", one.url, () => call("DELETE", `/v2/dlq/${key}`, `Deleted ${key}.`))),
  ];
}

function scheduleRow(one) {
  const path = `/v2/schedules/${encodeURIComponent(one.scheduleId)}`;
  const act = one.isPaused ? "resume" : "pause";
  const results = Object.values(one.lastScheduleStates || {}).join(", ").toLowerCase().replaceAll("_", " ");
  return [
    cell("Destination", `${one.method} ${one.destination}`, small(one.scheduleId)),
    cell("Cron", one.cron),
    cell("Next", ...(one.isPaused ? [make("span", { class: "wait" }, "paused")]
      : one.nextScheduleTime ? [instant(one.nextScheduleTime), small(relative(one.nextScheduleTime))] : [])),
    cell("Last", ...(one.lastScheduleTime ? [instant(one.lastScheduleTime), small(one.error || results)] : [])),
    cell("", button(act === "pause" ? "Pause" : "Resume", one.scheduleId, () => call("PATCH", `${path}/${act}`, `${one.scheduleId}: ${act}d.`))),
  ];
}

function lineRow(one) {
  const isQueue = "lag" in one;
  const paused = isQueue ? one.paused : one.isPaused;
  const name = isQueue ? one.name : one.flowControlKey;
  const base = isQueue ? "/v2/queues" : "/v2/flowControl";
  const act = paused ? "resume" : "pause";
  const limits = isQueue ? [`parallelism ${one.parallelism}`] : [
    one.parallelismMax && `parallelism ${one.parallelismCount} of ${one.parallelismMax}`,
    one.rateMax && `rate ${one.rateCount} of ${one.rateMax} in ${one.ratePeriod} s`].filter(Boolean);
  return [
    cell("Name", name, small(isQueue ? "queue" : "flow-control key")),
    cell("Limits", limits.join(", ") || "none", ...(paused ? [make("span", { class: "wait" }, " \u00b7 paused")] : [])),
    cell("Waiting", String(isQueue ? one.lag : one.waitListSize)),
    cell("", button(act === "pause" ? "Pause" : "Resume", name, () =>
      call("POST", `${base}/${encodeURIComponent(name)}/${act}`, `${name}: ${act}d.`))),
  ];
}

// Rows keep their place in the document as long as they are there: what has the focus keeps it.
function fill(section, items, keyOf, rowOf) {
  const body = byId(`rows-${section}`);
  const old = new Map([...body.children].map((row) => [row.dataset.key, row]));
  let place = body.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    const cells = rowOf(item);
    let row = old.get(key);
    old.delete(key);
    if (!row) row = make("tr", { "data-key": key });
    if (row !== place) body.insertBefore(row, place); else place = place.nextElementSibling;
    const fresh = make("tr", {}, ...cells);
    if (row.innerHTML !== fresh.innerHTML) {
      const focused = row.contains(document.activeElement) ? document.activeElement.dataset.act : "";
      row.replaceChildren(...fresh.children);
      const again = focused && (row.querySelector(`[data-act="${focused}"]`) || row.querySelector("td.acts button"));
      if (again) again.focus();
    }
  }
  for (const row of old.values()) {
    // Whoever worked on the last row goes on with the next one, or with the section.
    if (row.contains(document.activeElement)) {
      const next = row.nextElementSibling || row.previousElementSibling;
      const act = document.activeElement.dataset.act;
      ((next && next.querySelector(`[data-act="${act}"]`)) || byId(section)).focus();
    }
    row.remove();
  }
  byId(section).classList.toggle("none", !items.length);
}

async function load() {
  const query = new URLSearchParams(new FormData(filter));
  const found = await (await call("GET", `/page/state?${query}`)).json();
  behind = found.now - Date.now();
  byId("clock").textContent = new Date(found.now).toLocaleTimeString() + (found.virtual ? " (virtual time)" : "");
  fill("messages", found.messages, (one) => one.messageId, messageRow);
  fill("dead", found.deadLetters, (one) => one.dlqId, deadRow);
  fill("schedules", found.schedules, (one) => one.scheduleId, scheduleRow);
  fill("queues", found.lines, (one) => ("lag" in one ? "q " + one.name : "k " + one.flowControlKey), lineRow);
  byId("n-messages").textContent = found.waiting;
  byId("n-dead").textContent = found.dead;
  byId("n-schedules").textContent = found.schedules.length;
  byId("n-queues").textContent = found.lines.length;
  if (byId("told").textContent.startsWith("No answer")) tell("");
  byId("ask").hidden = true;
}

async function refresh() {
  clearTimeout(timer);
  try {
    await load();
  } catch (error) {
    if (error.status === 401) {
      tell(token ? "That is not the token of this server." : "", true);
      byId("ask").hidden = false;
      return;
    }
    tell(`No answer from the server: ${error.message}`, true);
  }
  if (!document.hidden) timer = setTimeout(refresh, 1000);
}

byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  token = new FormData(event.target).get("token");
  sessionStorage.setItem("token", token);
  refresh();
});
filter.addEventListener("submit", (event) => event.preventDefault());
filter.addEventListener("input", refresh);
filter.addEventListener("reset", () => setTimeout(refresh));
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !["INPUT", "TEXTAREA"].includes(event.target.tagName)) {
    event.preventDefault();
    filter.elements.url.focus();
  }
});
refresh();
