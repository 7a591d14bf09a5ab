/* Arrays of the trace: decoding, statistics, and their pictures as tables, heatmaps and histograms. */
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
    return `<rect x="${j * side}" y="${i * side}" width="${side}" height="${side}" style="fill:${fill}" data-k="${offset + top[i] * m + left[j]}" data-i="${i}" data-j="${j}" data-v="${
      exact ? "" : "mean "}${full(x, a.single && exact)}"/>`;
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
