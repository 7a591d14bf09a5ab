"use strict";
(() => {
/* The page of a trace: one item of the folded list at a time, as in the terminal. State lives in `at`, `open`, `pick`, `view`. */
const data = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);
const VIEWS = ["numbers", "heatmap", "histogram", "stats"], TABLE = 12, CELLS = [16, 32];
let items = [], open = new Set(), at = 0, pick = null, view = 0, shownCheck = null, quiz = null, quizzes = 0, score = [0, 0], watched = [], condition = "", prompting = null;

// ---- arrays

const decoded = new Map();
function array(place) {
  if (place === null || place === undefined) return null;
  if (decoded.has(place)) return decoded.get(place);
  const record = data.arrays[place], source = record.omitted ? record.blocks : record;
  const bytes = Uint8Array.from(atob(source.data), c => c.charCodeAt(0)).buffer;
  const kinds = {f8: Float64Array, f4: Float32Array, i4: Int32Array, i8: BigInt64Array, u1: Uint8Array};
  const flat = Array.from(new kinds[source.code](bytes), Number);
  const a = {shape: record.shape, dtype: record.dtype, flat, single: record.dtype === "float32", omitted: record.omitted, stats: record.stats,
             whole: !record.omitted, drawn: record.omitted ? source.shape : null};
  decoded.set(place, a);
  return a;
}
const times = shape => shape.reduce((a, b) => a * b, 1);
const words = shape => shape.length ? shape.join("×") : "scalar";
function rows(a) {
  const shape = a.drawn || a.shape;
  return shape.length < 2 ? [1, times(shape)] : [times(shape.slice(0, -1)), shape[shape.length - 1]];
}
function unravel(k, shape) {
  const index = [];
  for (let i = shape.length - 1; i >= 0; i--) { index.unshift(k % shape[i]); k = Math.floor(k / shape[i]); }
  return index;
}
const ravel = (index, shape) => index.reduce((k, i, axis) => k * shape[axis] + i, 0);
const entry = index => index.length ? `[${index.join(", ")}]` : "";
function short(x) {
  if (!Number.isFinite(x)) return String(x);
  if (x === 0 || Number.isInteger(x) && Math.abs(x) < 1e6) return String(x);
  const size = Math.abs(x);
  return size >= 1e-3 && size < 1e4 ? String(Number(x.toPrecision(4))) : x.toExponential(3);
}
const full = (x, single) => single ? String(Number(x.toPrecision(9))) : String(x);
function stats(a) {
  if (a.stats) return a.stats;
  const f = a.flat.filter(Number.isFinite), n = f.length || 1, mean = f.reduce((s, x) => s + x, 0) / n;
  const result = {min: Math.min(...f), mean, max: Math.max(...f), std: Math.sqrt(f.reduce((s, x) => s + (x - mean) ** 2, 0) / n),
    norm: Math.sqrt(f.reduce((s, x) => s + x * x, 0)), zeros: f.filter(x => x === 0).length / n, nan: a.flat.filter(Number.isNaN).length};
  result.inf = a.flat.length - f.length - result.nan;
  if (Math.abs(result.mean) <= 1e-15 * Math.max(Math.abs(result.min), Math.abs(result.max))) result.mean = 0;
  return (a.stats = result);
}

// ---- HTML

const escape = text => String(text).replace(/[&<>"]/g, c => ({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"})[c]);
const fact = (name, text, kind = "") => text ? `<dt>${name}</dt><dd class="${kind}">${escape(text)}</dd>` : "";

function figure(a, name, role, selected) {
  if (!a) return "";
  const s = stats(a), parts = [`${words(a.shape)} ${a.dtype}`];
  if (times(a.shape) > 1 && "max" in s) for (const k of ["min", "mean", "max", "std", "norm"]) parts.push(`${k} ${short(s[k])}`);
  if (s.zeros && times(a.shape) > 1) parts.push(`zeros ${Math.round(100 * s.zeros)}%`);
  if (s.nan) parts.push(`${s.nan} NaN`);
  if (s.inf) parts.push(`${s.inf} Inf`);
  return `<figure data-role="${role}"><figcaption><b>${escape(name)}</b> <span>${parts.join("  ")}</span></figcaption>${body(a, role, selected)}</figure>`;
}
function body(a, role, selected) {
  if (!times(a.shape)) return "(empty)";
  if (VIEWS[view] === "stats") return `<table class="norms">${Object.entries(stats(a)).map(([k, v]) => `<tr><td>${k}</td><td>${short(v)}</td></tr>`).join("")}</table>`;
  if (VIEWS[view] === "histogram" && a.whole) return histogram(a);
  const note = a.omitted ? `<div class="legend">omitted: ${escape(a.omitted)}; ${words(a.shape)} shown as ${words(a.drawn)} block means</div>` : "";
  const panels = a.whole && a.shape.length > 2 ? times(a.shape.slice(0, -2)) : 1;
  if (panels > 1 && panels <= 12) {
    const size = times(a.shape.slice(-2)), lead = a.shape.slice(0, -2);
    return `<div class="panels">${Array.from({length: panels}, (_, k) => `<div class="panel"><small>${entry(unravel(k, lead))}</small>${
      grid(a, [a.shape[lead.length], a.shape[lead.length + 1]], k * size, role, selected)}</div>`).join("")}</div>`;
  }
  return note + grid(a, rows(a), 0, role, selected);
}
function grid(a, [n, m], offset, role, selected) {
  return VIEWS[view] === "numbers" && n <= TABLE && m <= TABLE && a.whole ? table(a, n, m, offset, role, selected) : heat(a, n, m, offset, role, selected);
}
function decimals(numbers) {      // so many for the largest to show four digits; null: as powers of ten
  const largest = Math.max(...numbers.filter(Number.isFinite).map(Math.abs), 0);
  return !largest ? 4 : largest < 1e-4 || largest >= 1e5 ? null : Math.max(0, Math.min(7, 4 - Math.max(-3, Math.ceil(Math.log10(largest)))));
}
function table(a, n, m, offset, role, selected) {
  const part = a.flat.slice(offset, offset + n * m), digits = decimals(part);
  const cells = part.map(x => !a.dtype.startsWith("float") || !Number.isFinite(x) || x === 0 ? String(x) : digits === null ? x.toExponential(2) : x.toFixed(digits));
  const after = Math.max(...cells.map(c => c.includes(".") ? c.length - c.indexOf(".") : 0));
  const line = i => Array.from({length: m}, (_, j) => {
    const k = i * m + j, c = cells[k], pad = " ".repeat(after - (c.includes(".") ? c.length - c.indexOf(".") : 0));
    const chosen = selected === offset + k, tab = role === "out" ? ` tabindex="${chosen ? 0 : -1}"` : "";
    return `<td data-k="${offset + k}" data-i="${i}" data-j="${j}" title="${full(a.flat[offset + k], a.single)}"${tab}${chosen ? ' class="pick" aria-selected="true"' : ""}>${c}${pad}</td>`;
  }).join("");
  return `<table class="numbers">${Array.from({length: n}, (_, i) => `<tr>${line(i)}</tr>`).join("")}</table>`;
}
function heat(a, n, m, offset, role, selected) {
  const [h, w] = [Math.min(n, CELLS[0]), Math.min(m, CELLS[1])], side = Math.max(8, Math.min(20, Math.floor(330 / Math.max(h, w))));
  const cut = (limit, size) => Array.from({length: limit + 1}, (_, k) => Math.floor(k * size / limit));
  const [top, left] = [cut(h, n), cut(w, m)], means = [];
  let largest = 0;
  for (let i = 0; i < h; i++) for (let j = 0; j < w; j++) {
    let sum = 0, count = 0;
    for (let r = top[i]; r < top[i + 1]; r++) for (let c = left[j]; c < left[j + 1]; c++) { sum += a.flat[offset + r * m + c]; count++; }
    means.push(sum / count);
    if (Number.isFinite(sum)) largest = Math.max(largest, Math.abs(sum / count));
  }
  const exact = h === n && w === m, scale = largest || 1;
  const cells = means.map((x, k) => {
    const [i, j] = [Math.floor(k / w), k % w], fill = Number.isFinite(x) ? `rgba(var(--${x >= 0 ? "plus" : "minus"}),${(Math.abs(x) / scale).toFixed(3)})` : "var(--soft)";
    return `<rect x="${j * side}" y="${i * side}" width="${side}" height="${side}" style="fill:${fill}" data-k="${offset + top[i] * m + left[j]}" data-i="${i}" data-j="${j}"><title>${
      exact ? "" : "mean "}${full(x, a.single && exact)}</title></rect>`;
  }).join("");
  let mark = "";
  if (selected !== null && selected >= offset && selected < offset + n * m) {
    const r = Math.floor((selected - offset) / m), c = (selected - offset) % m;
    const i = top.findIndex((t, k) => r >= t && r < top[k + 1]), j = left.findIndex((t, k) => c >= t && c < left[k + 1]);
    mark = `<rect class="pick" x="${j * side}" y="${i * side}" width="${side}" height="${side}"/>`;
  }
  const said = `${words([n, m])}${exact ? "" : ` shown as ${words([h, w])} block means`}, scale ±${short(largest)}`;
  return `<svg class="heat" width="${w * side}" height="${h * side}" role="img" aria-label="heatmap ${said}" style="background:var(--card)">${cells}${mark}</svg><div class="legend">−${
    short(largest)}<i></i>+${short(largest)}${exact ? "" : `; ${said.split(",")[0]}`}</div>`;
}
function histogram(a) {
  const f = a.flat.filter(Number.isFinite), low = Math.min(...f), high = Math.max(...f), width = (high - low) / 10 || 1, counts = Array(10).fill(0);
  f.forEach(x => counts[Math.min(9, Math.floor((x - low) / width))]++);
  const most = Math.max(...counts);
  return `<svg class="heat" width="260" height="120" role="img" aria-label="histogram">${counts.map((n, k) =>
    `<rect x="${k * 26}" y="${110 - 105 * n / most}" width="24" height="${105 * n / most}" style="fill:var(--tone)"><title>${short(low + k * width)} to ${short(low + (k + 1) * width)}: ${n}</title></rect>`).join("")}</svg>
    <div class="legend">${short(low)} … ${short(high)}</div>`;
}

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
const GRADE = {
  choice(q, text) {
    const chosen = q.choices[+text - 1];
    if (!chosen) throw Error("answer with 1, 2, 3 or 4");
    return chosen[1] ? [false, `${chosen[1]}; it is ${q.choices[+q.answer - 1][0]}`] : [true, `it is ${chosen[0]}`];
  },
  value(q, text, step) {
    const given = evaluate(text, variables(step)), truth = +q.answer;
    if (given.shape.length && times(given.shape) > 1) throw Error("one number is expected");
    const x = given.flat[0], right = Math.abs(x - truth) <= 0.01 * Math.abs(truth) || x === truth;
    return [right, `${right || !truth ? "" : Math.abs(x + truth) <= 0.01 * Math.abs(truth) ? "the sign is flipped; " : `yours is ${short(x / truth)} times it; `}it is ${short(truth)}`];
  },
  shape(q, text) {
    const given = (text.match(/\d+/g) || []).map(Number), truth = (q.answer.match(/\d+/g) || []).map(Number);
    if (!given.length && !/^(\(\)|scalar)$/.test(text)) throw Error("a shape is expected, as (8, 16)");
    const right = given.join() === truth.join();
    return [right, `it is ${q.answer}, the shape of the operand${!right && given.join() === [...truth].reverse().join() ? "; the axes are exchanged" : ""}`];
  },
  rule(q, text, step) {
    const given = evaluate(text, variables(step)), truth = array(step.array);
    if (given.shape.join() !== truth.shape.join()) return [false, `yours has shape (${given.shape.join(", ")}), expected (${truth.shape.join(", ")})`];
    const gap = Math.max(0, ...given.flat.map((x, k) => Math.abs(x - truth.flat[k]))), size = Math.max(...truth.flat.map(Math.abs)) || 1;
    if (gap <= 1e-5 * size) return [true, `${gap <= 1e-12 * size ? "exact" : `close, largest difference ${short(gap)}`}; as it runs here: ${q.answer}`];
    const near = c => Math.max(...given.flat.map((x, k) => Math.abs(x - c * truth.flat[k]))) <= 1e-6 * size;
    const n = truth.flat.length, factors = [[-1, "the sign is flipped"], [0, "it is 0 everywhere"], [2, "a factor of 2 too much"], [0.5, "half the truth: missing accumulation?"],
      [n, `equals the truth × ${n}: forgot the mean?`], [1 / n, `equals the truth / ${n}: a mean where a sum belongs?`]];
    const found = factors.find(([c]) => near(c));
    return [false, `largest difference ${short(gap)}; ${found ? found[1] : "none of the usual mistakes"}`];
  },
};

/* A small language for answers: numbers, the names offered, + - * / ** @, ( ), .T .mT, and a few functions. Nothing is ever run as script. */
function variables(step) {
  const value = data.values[+step.value.slice(1)], inputs = data.ops[value.op].inputs, found = {g: array(step.g), y: array(value.array)};
  value.operands.forEach((id, k) => { if (id === null) return; const v = data.values[+id.slice(1)]; if (inputs[k]) found[inputs[k]] = array(v.array); if (/^\w+$/.test(v.name)) found[v.name] ||= array(v.array); });
  return Object.fromEntries(Object.entries(found).filter(([, a]) => a && a.whole));
}
const number = x => ({shape: [], flat: [x]});
const map = (f, a) => ({shape: a.shape, flat: a.flat.map(f)});
function pair(f, a, b) {
  const n = Math.max(a.shape.length, b.shape.length), pad = s => [...Array(n - s.length).fill(1), ...s], [p, q] = [pad(a.shape), pad(b.shape)];
  const shape = p.map((x, i) => { if (x !== q[i] && x !== 1 && q[i] !== 1) throw Error(`shapes (${a.shape}) and (${b.shape}) do not broadcast`); return x === 1 ? q[i] : x; });
  const part = (s, index) => s.reduce((k, m, i) => k * m + (m === 1 ? 0 : index[i]), 0);
  return {shape, flat: Array.from({length: times(shape)}, (_, k) => { const index = unravel(k, shape); return f(a.flat[part(p, index)], b.flat[part(q, index)]); })};
}
function turned(a) {
  if (a.shape.length < 2) return a;
  const [n, m] = a.shape.slice(-2), lead = times(a.shape.slice(0, -2)), flat = [];
  for (let l = 0; l < lead; l++) for (let j = 0; j < m; j++) for (let i = 0; i < n; i++) flat.push(a.flat[l * n * m + i * m + j]);
  return {shape: [...a.shape.slice(0, -2), m, n], flat};
}
function product(a, b) {
  if (a.shape.length !== 2 || b.shape.length !== 2) throw Error("@ multiplies two matrices here");
  const [n, k] = a.shape, [k2, m] = b.shape;
  if (k !== k2) throw Error(`(${a.shape}) @ (${b.shape}): inner sizes ${k} and ${k2} differ`);
  return {shape: [n, m], flat: Array.from({length: n * m}, (_, x) => { let s = 0; for (let z = 0; z < k; z++) s += a.flat[Math.floor(x / m) * k + z] * b.flat[z * m + x % m]; return s; })};
}
const FUNCTIONS = {exp: a => map(Math.exp, a), log: a => map(Math.log, a), sqrt: a => map(Math.sqrt, a), tanh: a => map(Math.tanh, a), abs: a => map(Math.abs, a), sign: a => map(Math.sign, a),
  sin: a => map(Math.sin, a), cos: a => map(Math.cos, a), sum: a => number(a.flat.reduce((s, x) => s + x, 0)), mean: a => number(a.flat.reduce((s, x) => s + x, 0) / a.flat.length)};
function evaluate(text, names) {
  if (text.length > 500) throw Error("that is longer than 500 characters");
  const tokens = text.match(/\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|[A-Za-z_]\w*|\*\*|[-+*\/@()<>.]|\S/g) || [];
  let k = 0;
  const take = wanted => tokens[k] === wanted ? (k++, true) : false, need = wanted => { if (!take(wanted)) throw Error(`${wanted} is expected ${k < tokens.length ? `before ${tokens[k]}` : "at the end"}`); };
  function compare() { const a = sum(); if (take(">")) return pair((x, y) => +(x > y), a, sum()); if (take("<")) return pair((x, y) => +(x < y), a, sum()); return a; }
  function sum() { let a = term(); for (;;) if (take("+")) a = pair((x, y) => x + y, a, term()); else if (take("-")) a = pair((x, y) => x - y, a, term()); else return a; }
  function term() { let a = factor(); for (;;) if (take("*")) a = pair((x, y) => x * y, a, factor()); else if (take("/")) a = pair((x, y) => x / y, a, factor()); else if (take("@")) a = product(a, factor()); else return a; }
  function factor() { if (take("-")) return map(x => -x, factor()); if (take("+")) return factor(); const a = suffixed(); return take("**") ? pair(Math.pow, a, factor()) : a; }
  function suffixed() {
    let a = atom();
    while (take(".")) { const name = tokens[k++]; if (name === "T" || name === "mT") a = turned(a); else if (name === "sum" || name === "mean") { need("("); need(")"); a = FUNCTIONS[name](a); } else throw Error(`.${name} is not on the list`); }
    return a;
  }
  function atom() {
    const t = tokens[k++];
    if (t === undefined) throw Error("an expression is expected");
    if (t === "(") { const a = compare(); need(")"); return a; }
    if (/^[\d.]/.test(t)) { const x = +t; if (Number.isNaN(x)) throw Error(`${t} is no number`); return number(x); }
    if (t === "np") { need("."); const name = tokens[k++]; return call(name); }
    if (Object.hasOwn(names, t)) return names[t];
    return call(t);
  }
  function call(name) { if (!Object.hasOwn(FUNCTIONS, name)) throw Error(`'${name}' is no name here; there are ${[...Object.keys(names), ...Object.keys(FUNCTIONS)].join(", ")}`); need("("); const a = compare(); need(")"); return FUNCTIONS[name](a); }
  const result = compare();
  if (k < tokens.length) throw Error(`'${tokens[k]}' is not on the list`);
  return result;
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
  e: ["exercise", exercise], "?": ["this help", () => { $("help").open = !$("help").open; if ($("help").open) $("help").scrollIntoView(); }], q: ["leave the exercise", () => { quiz = null; draw(); }],
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
})();
