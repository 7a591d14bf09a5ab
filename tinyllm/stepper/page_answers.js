/* Grading of exercises, and the small language in which answers are typed. */
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
