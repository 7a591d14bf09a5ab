/* The page of a trace: one item of the folded list at a time, as in the terminal. State lives in `at`, `open`, `pick`, `view`. */
const data = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);
const VIEWS = ["numbers", "heatmap", "histogram", "stats"], TABLE = 12, CELLS = [16, 32];
let items = [], open = new Set(), at = 0, pick = null, view = 0, shownCheck = null, quiz = null, quizzes = 0, score = [0, 0], watched = [], condition = "", prompting = null;

// ---- the folded list

function fold() {
  items = [];
  data.steps.forEach((step, k) => {
    const group = step.groups.find(g => !open.has(g)), last = items[items.length - 1];
    if (group && last && last.group === group && data.steps[last.first].phase === step.phase && data.steps[last.first].walk === step.walk) last.last = k;
    else items.push({first: k, last: k, group: group || null});
  });
}
const describe = item => item.group ? data.runs[`${item.group}:${item.first}`] : data.steps[item.first];
const here = () => describe(items[at]);
const holding = k => items.findIndex(item => item.first <= k && k <= item.last);
function go(place, keep) {
  at = Math.max(0, Math.min(items.length - 1, place));
  if (!keep) { pick = null; shownCheck = null; quiz = null; }
  say("");
  draw();
}
const say = text => { $("message").textContent = text; };
function selected() {
  const e = here(), a = array(e.array);
  if (!a || !a.whole || !a.flat.length || !e.at) return null;
  return pick === null ? ravel(e.at, a.shape) : pick;
}

function draw() {
  const e = here(), f = e.facts, a = array(e.array), k = selected(), index = k === null ? [] : unravel(k, a.shape), key = index.join(",");
  const hidden = quiz && e.phase === "backward", number = `step ${at + 1}/${items.length}`, step = $("step");
  const arrow = {forward: "forward ▸", backward: "◂ backward", update: "update ✎"}[e.phase];
  step.className = e.phase;
  let text = `<div class="head"><span class="badge ${e.phase}">${arrow}</span><b>${escape(f.op)}</b><span>${escape(f.module || "")}</span><span>${escape(f.where || "")}</span></div>
    <h2 class="title">${escape(f.title)}</h2><dl class="facts">${fact("source", f.line, "code")}${fact("graph", f.graph)}${fact("frontier", f.frontier)}${fact("inside", f.inside)}${fact("computes", f.formula)}`;
  if (!quiz) text += `${fact("rule", f.rule, "rule")}${fact("", f.named, "code")}${fact("shapes", f.shapes, "code")}${fact("saved", f.saved)}${fact("broadcast", f.unbroadcast)}`;
  text += `</dl>${f.table ? normsTable(f.table) : ""}<div class="figures">${figures(e, hidden, k)}</div>`;
  if (!quiz) {
    text += `<dl class="facts">${fact("numbers", e.sums && (e.sums[key] || `${e.called}${entry(index)} = ${short(a.flat[k])}; the terminal writes the sum out`), "code")}${fact("add up", f.accumulate)}${addition(e, k)}`;
    text += `${watched.map(id => fact("watch", watching(id))).join("")}${fact("freed", f.freed)}</dl>`;
  }
  if (shownCheck) text += `<p id="check" class="${shownCheck.includes("WRONG") ? "bad" : / ok/.test(shownCheck) ? "good" : ""}">${escape(shownCheck)}</p>`;
  if (quiz) text += quizPanel();
  const why = data.why[f.op];
  if (why && !quiz && e.phase !== "update") text += `<div class="why"><b>why</b>\n${escape(why[0])}\n<b>common mistake</b>\n${escape(why[1])}</div>`;
  step.innerHTML = text;
  $("count").textContent = number;
  drawTimeline();
  drawListing();
  drawGraph(e);
  if (location.hash !== `#${at + 1}`) history.replaceState(null, "", `#${at + 1}`);
  document.title = `${number} · ${data.title}`;
}
function figures(e, hidden, k) {
  const value = data.values[+e.value.slice(1)], parts = [];
  const operands = e.kind === "group" ? [] : value.operands.map(id => id === null ? null : data.values[+id.slice(1)]);
  if (e.g !== undefined) parts.push(figure(array(e.g), `g = ${e.incoming}`, "g", null));
  if (e.kind === "forward" || e.kind === "rule") operands.forEach((v, i) => {
    if (v && (e.kind === "forward" || e.reads.includes(i))) parts.push(figure(array(v.array), v.name, `in${i}`, null));
  });
  if (e.kind === "group" && e.phase === "update") for (let s = e.first; s < e.last; s++) parts.push(figure(array(data.steps[s].array), data.steps[s].called, "stage", null));
  if (!hidden) parts.push(figure(array(e.array), e.called, "out", k));
  return parts.join("");
}
const normsTable = table => `<table class="norms"><tr><th>parameter</th><th>shape</th><th>|gradient|</th><th>|weight|</th><th>ratio</th></tr>${table.map(r =>
  `<tr><td>${escape(r[0])}</td><td>${r[1]}</td>${r.slice(2).map(x => `<td>${x === null ? "–" : short(x)}</td>`).join("")}</tr>`).join("")}</table>`;
function addition(e, k) {
  if (e.kind !== "rule" || e.total === null || k === null) return "";
  const total = array(e.total), mine = array(e.array);
  if (!total.whole || !mine.whole || !/contribution [^1]/.test(e.facts.accumulate || "")) return "";
  return fact("", `${short(total.flat[k] - mine.flat[k])} + ${short(mine.flat[k])} = ${short(total.flat[k])}`, "code");
}
function arrived(id) {
  let place = null;
  for (let k = 0; k <= items[at].last; k++) if (data.steps[k].kind === "rule" && data.steps[k].target === id) place = data.steps[k].total;
  return place;
}
function watching(id) {
  const v = data.values[+id.slice(1)], place = arrived(id);
  return place === null ? `dL/d${v.name}: ${v.needs ? "not computed yet" : "it carries no gradient"}` : `dL/d${v.name} so far: norm ${short(stats(array(place)).norm)}`;
}

// ---- timeline, listing with arcs, graph

const brief = e => e.facts.title.replace(/, through ([^ ]+) = .*/, " ← $1").replace(/(dL\/d)?(?:\w+\.)+(\w+\.\w+)/g, "$1$2").replace(/dL\/d/g, "d");
let timelineFor = null;
function drawTimeline() {
  const bar = $("timeline");
  if (timelineFor !== items) {
    bar.innerHTML = items.map((item, k) => `<i class="${data.steps[item.first].phase}" data-k="${k}"></i>`).join("");
    timelineFor = items;
  }
  [...bar.children].forEach((cell, k) => { cell.classList.toggle("done", k < at); cell.classList.toggle("here", k === at); });
  bar.setAttribute("aria-valuemax", items.length);
  bar.setAttribute("aria-valuenow", at + 1);
  bar.setAttribute("aria-valuetext", `${here().phase}: ${here().facts.title}`);
}
let listingFor = null, links = [];
function drawListing() {
  const list = $("listing");
  if (listingFor !== items) {
    let phase = null, y = 0;
    const text = [], place = new Map();
    links = [];
    items.forEach((item, k) => {
      const e = describe(item);
      if (e.phase !== phase) { phase = e.phase; text.push(`<h2 class="${phase}">${phase}</h2>`); y += 22 + 5; }
      text.push(`<a href="#${k + 1}" class="${phase}" data-k="${k}" title="${escape(e.facts.title)}">${escape(brief(e))}</a>`);
      item.y = y + 11;
      y += 22;
      if (phase === "forward") {
        for (let s = item.first; s <= item.last; s++) {
          const v = data.values[+data.steps[s].value.slice(1)];
          for (const x of v.inputs) { const from = place.get(x); if (from !== undefined && from !== k && !links.some(l => l[0] === from && l[1] === k)) links.push([from, k]); }
        }
        for (let s = item.first; s <= item.last; s++) place.set(data.steps[s].value, k);
      } else if (phase === "backward" && e.kind !== "norms") {
        for (let s = item.first; s <= item.last; s++) {
          const from = place.get("d" + data.steps[s].value);
          if (from !== undefined && from !== k && !links.some(l => l[0] === from && l[1] === k)) links.push([from, k]);
        }
        for (let s = item.first; s <= item.last; s++) if (data.steps[s].target) place.set("d" + data.steps[s].target, k);
      }
    });
    list.innerHTML = `<svg width="44" height="${y}" aria-hidden="true">${links.map(([a, b]) => {
      const [y1, y2] = [items[a].y, items[b].y], out = 42 - Math.min(40, 6 + 3 * (b - a));
      return `<path d="M44 ${y1} C${out} ${y1} ${out} ${y2} 44 ${y2}"/>`;
    }).join("")}</svg>${text.join("")}`;
    listingFor = items;
  }
  list.querySelectorAll("a").forEach((row, k) => { row.classList.toggle("here", k === at); row.classList.toggle("ahead", k > at);
    if (k === at) row.setAttribute("aria-current", "step"); else row.removeAttribute("aria-current"); });
  list.querySelectorAll("path").forEach((path, k) => path.setAttribute("class", links[k].includes(at) ? `on ${here().phase}` : ""));
  const row = list.querySelector("a.here"), frame = document.querySelector("aside");
  if (row && frame.scrollHeight > frame.clientHeight) {
    const y = row.offsetTop;
    if (y < frame.scrollTop + 30 || y > frame.scrollTop + frame.clientHeight - 40) frame.scrollTop = y - frame.clientHeight / 2;
  }
}
let level = "composites";
function drawGraph(e) {
  if (!$("pictures").open) return;
  document.querySelectorAll(".fold").forEach(f => { f.hidden = f.dataset.fold !== level; });
  document.querySelectorAll(".folds button").forEach(b => b.setAttribute("aria-pressed", b.textContent === level));
  document.querySelectorAll(".fold:not([hidden]) .box").forEach(box => {
    const ours = boxSteps(box.dataset.key).has(e.value);
    if (ours === box.classList.contains("here")) return;
    box.classList.toggle("here", ours);
    if (ours) { const g = $("graph"), y = +box.getAttribute("transform").match(/[\d.]+/g)[1]; g.scrollTop = y - g.clientHeight / 2; }
  });
}
const boxes = new Map();
function boxSteps(key) {
  if (!boxes.has(key)) boxes.set(key, new Set(data.steps.filter(s => s.kind === "forward" && (s.value === key || s.groups.includes(key) ||
    key.startsWith("module ") && (s.facts.module + ".").startsWith(key.slice(7) + "."))).map(s => s.value)));
  return boxes.get(key);
}

// ---- hovering: what made this cell

function light(cell, on) {
  document.querySelectorAll(".lit").forEach(c => c.classList.remove("lit"));
  document.querySelectorAll(".litbox").forEach(c => c.remove());
  const figure = cell && cell.closest("figure");
  if (cell && cell.dataset.v && !cell.firstChild) {       // the tooltip of a square is made when it is wanted
    const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
    title.textContent = cell.dataset.v;
    cell.append(title);
  }
  if (!on || !figure || figure.dataset.role !== "out") return;
  const e = here(), i = cell.dataset.i, j = cell.dataset.j, op = e.facts.op, mark = (role, test) => document.querySelectorAll(
    `figure[data-role="${role}"] [data-k]`).forEach(c => test(c.dataset.i, c.dataset.j) && glow(c));
  glow(cell);
  const row = (r, _) => r === i, column = (_, c) => c === j, same = (r, c) => r === i && c === j;
  if (op === "matmul" && e.kind === "forward") { mark("in0", row); mark("in1", column); }
  else if (op === "matmul" && e.position === 0) { mark("g", row); mark("in1", r => r === j); }
  else if (op === "matmul") { mark("in0", (_, c) => c === i); mark("g", column); }
  else if (/softmax|attention|sum|mean|norm|max/.test(op)) ["g", "in0"].forEach(role => mark(role, row));
  else ["g", "in0", "in1"].forEach(role => mark(role, same));
}
function glow(c) {
  if (c.tagName === "rect") {
    const box = c.cloneNode();
    ["style", "data-k"].forEach(name => box.removeAttribute(name));
    box.setAttribute("class", "litbox lit-rect");
    c.parentNode.append(box);
  } else c.classList.add("lit");
}

// ---- checks, exercises

function check() {
  const e = here(), k = selected();
  if (k === null || !e.checks) { say(e.phase === "update" ? "nothing here is a derivative" : "there is no entry to check"); return; }
  const index = unravel(k, array(e.array).shape);
  shownCheck = e.checks[index.join(",")] || `${e.called}${entry(index)}: not among the entries tried for this page; the terminal's key c checks any entry`;
  draw();
}
function checkAll() {
  const e = here(), all = Object.values(e.checks || {});
  if (!all.length) { say("there is no gradient to check"); return; }
  const wrong = all.filter(w => w.includes("WRONG"));
  shownCheck = `${all.length - wrong.length} of ${all.length} entries tried agree (of ${times(array(e.array).shape)})${wrong.length ? `; ${wrong[0]}` : " ok"}`;
  draw();
}
function exercise() {
  const steps = items[at].group || here().kind === "forward" ? data.steps.filter(s => s.kind === "rule" && (s.value === here().value ||
    items[at].group && s.groups.includes(items[at].group))) : [here()];
  const asked = steps.filter(s => s.questions && s.questions.length);
  if (!asked.length) { say("no rule runs here; step to a forward operation or a rule"); return; }
  const step = asked[quizzes % asked.length];
  quiz = {step, question: step.questions[quizzes % step.questions.length], answered: ""};
  quizzes++;
  shownCheck = null;
  draw();
}
function quizPanel() {
  const q = quiz.question;
  const form = q.kind === "choice" ? q.choices.map(([text], k) => `<button class="choice" data-choice="${k + 1}">${k + 1}  ${escape(text)}</button>`).join("")
    : `<label>answer <input id="answer" autocomplete="off" spellcheck="false"></label> <button id="grade">grade</button>`;
  return `<div class="quiz" role="group" aria-label="exercise"><p>${escape(q.prompt)}</p>${form}<p id="verdict" class="${quiz.right === undefined ? "" : quiz.right ? "good" : "bad"}" role="status">${escape(quiz.answered)}</p></div>`;
}
function answer(text) {
  if (!quiz) return;
  const q = quiz.question;
  let result;
  try { result = GRADE[q.kind](q, text.trim(), quiz.step); }
  catch (problem) { quiz.right = undefined; quiz.answered = `not evaluated: ${problem.message}`; return draw(); }
  score[1]++;
  score[0] += result[0];
  try { localStorage.setItem("tinyllm-predict", JSON.stringify(score)); } catch (_) { /* a page without storage keeps the score while it is open */ }
  quiz.right = result[0];
  quiz.answered = `${result[0] ? "right" : "not right"}: ${result[1]} (score ${score[0]} of ${score[1]})`;
  draw();
}
// ---- keys

const ask = (label, then) => { prompting = then; $("prompt").hidden = false; $("prompt").querySelector("span").textContent = label; const input = $("prompt").querySelector("input"); input.value = ""; input.focus(); };
function move(row, column) {
  const e = here(), a = array(e.array), k = selected();
  if (k === null || !a.shape.length) { say("there is no entry to select"); return; }
  const width = a.shape[a.shape.length - 1], n = a.flat.length / width, i = Math.floor(k / width), j = k % width;
  pick = a.shape.length === 1 ? (k + row + column + width) % width : ((i + row + n) % n) * width + (j + column + width) % width;
  shownCheck = null;
  draw();
}
function into() {
  const item = items[at];
  if (!item.group) { say("this is a single operation; s steps into a composite"); return; }
  open.add(item.group); fold(); go(holding(item.first));
}
function out() {
  const item = items[at], opened = data.steps[item.first].groups.filter(g => open.has(g));
  if (!opened.length) { say("this step is in no opened composite"); return; }
  open.delete(opened[opened.length - 1]); fold(); go(holding(item.first));
}
function finish() {
  const phase = here().phase, next = items.findIndex((item, k) => k > at && data.steps[item.first].phase !== phase);
  go(next < 0 ? items.length - 1 : next);
  say(next < 0 ? `${phase} is the last phase` : `${here().phase} begins`);
}
function toBreak(text, way) {
  condition = text || condition;
  const limit = condition.replace(/\s/g, "").match(/^\|g\|>([-\d.e+]+)$/), value = data.values.find(v => v.name === condition || v.id === condition);
  const holds = s => limit ? s.kind === "rule" && stats(array(s.g)).norm > +limit[1] : condition.toLowerCase() === "nan" ? [s.g, s.array].some(p => p !== null && p !== undefined && stats(array(p)).nan)
    : value ? s.value === value.id || s.target === value.id : s.facts.op === condition;
  if (!limit && !value && condition.toLowerCase() !== "nan" && !data.steps.some(s => s.facts.op === condition || s.groups.some(g => g.startsWith(condition + "_")))) {
    say(`'${condition}' is no operation and no tensor of this trace; or write nan, or |g| > 0.1`); return; }
  for (let k = at + way; k >= 0 && k < items.length; k += way)
    if ((items[k].group || "").startsWith(condition + "_") || data.steps.slice(items[k].first, items[k].last + 1).some(holds)) { go(k); say(`stopped at ${condition}`); return; }
  say(`no ${way > 0 ? "later" : "earlier"} step meets '${condition}'`);
}
function find(text) {
  const v = data.values.find(v => v.name === text || v.id === text) || data.values.find(v => text && v.name.includes(text));
  if (!v) { say(`no tensor is called '${text}'`); return; }
  const hits = items.map((item, k) => k).filter(k => data.steps.slice(items[k].first, items[k].last + 1).some(s => s.value === v.id || s.target === v.id || data.values[+s.value.slice(1)].inputs.includes(v.id)));
  if (!hits.length) { say(`${v.name} is in no step`); return; }
  go(hits.find(k => k > at) ?? hits[0]);
}
function watch() {
  const id = here().target;
  if (!id) { say("there is no tensor to watch"); return; }
  watched = watched.includes(id) ? watched.filter(x => x !== id) : [...watched, id];
  draw();
}
const KEYS = {
  n: ["next step", () => at + 1 < items.length ? go(at + 1) : say("this is the last step")], " ": ["next step", () => KEYS.n[1]()], p: ["back", () => at ? go(at - 1) : say("this is the first step")],
  ArrowUp: ["select an entry", () => move(-1, 0)], ArrowDown: ["select an entry", () => move(1, 0)], ArrowLeft: ["select an entry", () => move(0, -1)], ArrowRight: ["select an entry", () => move(0, 1)],
  s: ["step into a composite", into], o: ["out of it", out], f: ["to the next phase", finish], g: ["go to a step", () => ask("go to step", text => /^\d+$/.test(text) && +text >= 1 && +text <= items.length
    ? go(+text - 1) : say(`'${text}' is no step; they are numbered 1 to ${items.length}`))],
  "/": ["find a tensor", () => ask("find tensor", find)], b: ["forward to a break", () => ask("break on (operation, tensor, nan, |g| > t)", text => toBreak(text, 1))],
  B: ["back to a break", () => ask("back to (operation, tensor, nan, |g| > t)", text => toBreak(text, -1))], v: ["numbers, heatmap, histogram, stats", () => { view = (view + 1) % VIEWS.length; draw(); say(VIEWS[view]); }],
  c: ["check the entry by finite differences", check], C: ["check the tensor", checkAll], w: ["watch the tensor", watch], d: ["difference to another trace", () => say("this page holds one trace; the terminal compares two: tinyllm step --against fused")],
  e: ["exercise", exercise], E: ["find the bug (in the terminal)", () => say("a trace with a wrong rule in it is made in the terminal: tinyllm step, then E")], "?": ["this help", () => { $("help").open = !$("help").open; if ($("help").open) $("help").scrollIntoView(); }], q: ["leave the exercise", () => { quiz = null; draw(); }],
};
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.tagName === "INPUT";
  if (typing) {
    if (event.key === "Enter" && event.target.id === "answer") answer(event.target.value);
    else if (event.key === "Enter" && prompting) { const then = prompting; closePrompt(); then($("prompt").querySelector("input").value.trim()); }
    else if (event.key === "Escape") { if (prompting) closePrompt(); else event.target.blur(); }
    return;
  }
  if (event.key === " " && /BUTTON|SUMMARY|A/.test(event.target.tagName)) return;
  if (quiz && quiz.question.kind === "choice" && /^[1-4]$/.test(event.key)) { answer(event.key); event.preventDefault(); return; }
  if (quiz && event.key === "=" && $("answer")) { $("answer").focus(); event.preventDefault(); return; }
  if (event.key === "Escape" && quiz) { quiz = null; draw(); return; }
  const key = KEYS[event.key];
  if (key) { event.preventDefault(); key[1](); }
});
const closePrompt = () => { prompting = null; $("prompt").hidden = true; $("prompt").querySelector("input").blur(); };
document.addEventListener("click", event => {
  const target = event.target, cell = target.closest("figure[data-role=out] [data-k]"), row = target.closest("#listing a, #timeline i"), box = target.closest(".box");
  if (target.closest("#next")) KEYS.n[1]();
  else if (target.closest("#back")) KEYS.p[1]();
  else if (row) { event.preventDefault(); go(+row.dataset.k); }
  else if (target.dataset.choice) answer(target.dataset.choice);
  else if (target.id === "grade") answer($("answer").value);
  else if (target.closest(".folds button")) { level = target.textContent; drawGraph(here()); }
  else if (box) { const wanted = boxSteps(box.dataset.key), k = items.findIndex(item => data.steps.slice(item.first, item.last + 1).some(s => wanted.has(s.value))); if (k >= 0) go(k); }
  else if (cell) { pick = +cell.dataset.k; shownCheck = null; draw(); }
});
document.addEventListener("mouseover", event => { const cell = event.target.closest && event.target.closest("figure [data-k]"); light(cell, !!cell); });
document.addEventListener("focusin", event => { const cell = event.target.closest("figure [data-k]"); if (cell) light(cell, true); });
$("timeline").addEventListener("keydown", event => { const by = {Home: -at, End: items.length - 1 - at, PageDown: 10, PageUp: -10}[event.key]; if (by !== undefined) { event.preventDefault(); go(at + by); } });
$("pictures").addEventListener("toggle", () => drawGraph(here()));
window.addEventListener("hashchange", () => { const k = parseInt(location.hash.slice(1), 10); if (k >= 1 && k <= items.length && k !== at + 1) go(k - 1); });
document.querySelector(".folds").innerHTML = ["operations", "composites", "modules"].map(l => `<button>${l}</button>`).join(" ");
$("keys").innerHTML = Object.entries(KEYS).map(([k, [text]]) => `<dt>${k === " " ? "space" : k}</dt><dd>${text}</dd>`).join("");
try { score = JSON.parse(localStorage.getItem("tinyllm-predict")) || score; } catch (_) { /* no storage */ }
if (innerWidth <= 820) $("program").open = false;
else $("pictures").open = true;
fold();
at = Math.max(0, Math.min(items.length, parseInt(location.hash.slice(1), 10) || 1) - 1);
draw();
