"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const tokens = data.tokens;
  const find = (name) => document.getElementById(name);
  const answer = find("answer");
  const detail = find("detail");
  const nothing = detail.firstElementChild;
  const spans = answer ? [...answer.querySelectorAll(".token")] : [];
  const maps = data.maps.map((map) => ({ ...map, bytes: Uint8Array.from(atob(map.values), (c) => c.charCodeAt(0)) }));
  const positions = data.pictures.reduce((sum, picture) => sum + picture.positions, 0);
  const GRID = 96;
  let pinned = -1;
  let shown = -1;

  /** An element with a class, text (always as text) and children. */
  function make(tag, name, text, ...children) {
    const element = document.createElement(tag);
    if (name) element.className = name;
    if (text !== undefined && text !== null) element.textContent = text;
    element.append(...children);
    return element;
  }

  const number = (value, digits = 3) =>
    value === null || value === undefined ? "none" : Math.abs(value) >= 1e-3 || value === 0 ? value.toFixed(digits)
      : value.toExponential(1);

  // ---- Maps ---------------------------------------------------------------------------------------------------------

  const radios = [...document.querySelectorAll("input[name=source]")];
  const slider = find("layer");
  const frames = [...document.querySelectorAll("figure[data-picture]")];

  const ofSource = () => {
    const chosen = radios.find((radio) => radio.checked);
    return chosen ? maps.filter((map) => map.source === chosen.value) : [];
  };

  function currentMap() {
    const list = ofSource();
    return list.length ? list[Math.min(Number(slider.value), list.length - 1)] : null;
  }

  function sourceChanged() {
    const list = ofSource();
    if (!list.length) return;
    slider.max = String(list.length - 1);
    slider.disabled = list.length < 2;
    if (Number(slider.value) >= list.length) slider.value = "0";
    const map = currentMap();
    const name = map.layer === null ? "all" : String(map.layer);
    find("layer-name").textContent = name;
    slider.setAttribute("aria-valuetext", map.layer === null ? "all layers" : `layer ${name}`);
    drawMaps();
  }

  /** The map of one picture as a small canvas: each cell is the mean of the positions that show it. */
  function smallMap(picture, values) {
    const sums = new Float32Array(GRID * GRID);
    const counts = new Uint16Array(GRID * GRID);
    picture.patches.forEach((box, index) => {
      if (!box) return;
      const [left, top, right, bottom] = box.map((part) => Math.round(part * GRID));
      for (let row = top; row < Math.max(bottom, top + 1) && row < GRID; row++) {
        for (let column = left; column < Math.max(right, left + 1) && column < GRID; column++) {
          sums[row * GRID + column] += values[index];
          counts[row * GRID + column] += 1;
        }
      }
    });
    const small = document.createElement("canvas");
    small.width = small.height = GRID;
    const context = small.getContext("2d");
    const image = context.createImageData(GRID, GRID);
    for (let cell = 0; cell < GRID * GRID; cell++) {
      const value = counts[cell] ? sums[cell] / counts[cell] / 255 : 0;
      // Dark where nothing is looked at, clear and warm where much is.
      image.data[4 * cell] = Math.round(255 * value);
      image.data[4 * cell + 1] = Math.round(150 * value);
      image.data[4 * cell + 2] = Math.round(40 * value);
      image.data[4 * cell + 3] = Math.round(255 * (0.62 - 0.24 * value));
    }
    context.putImageData(image, 0, 0);
    return small;
  }

  function pictureValues(map, token, number) {
    const before = data.pictures.slice(0, number).reduce((sum, picture) => sum + picture.positions, 0);
    const start = token * positions + before;
    return map.bytes.subarray(start, start + data.pictures[number].positions);
  }

  function drawMaps() {
    const map = currentMap();
    for (const frame of frames) {
      const picture = data.pictures[Number(frame.dataset.picture)];
      const canvas = frame.querySelector("canvas");
      const draws = map !== null && shown >= 0 && picture.patches.length > 0;
      canvas.classList.toggle("shown", draws);
      frame.classList.toggle("has-map", draws);
      if (!draws) continue;
      canvas.width = canvas.height = GRID;
      const values = pictureValues(map, shown, Number(frame.dataset.picture));
      canvas.getContext("2d").drawImage(smallMap(picture, values), 0, 0);
    }
  }

  radios.forEach((radio) => radio.addEventListener("change", sourceChanged));
  if (slider) slider.addEventListener("input", sourceChanged);
  const boxes = find("boxes");
  if (boxes) {
    boxes.addEventListener("change", () =>
      frames.forEach((frame) => frame.classList.toggle("no-boxes", !boxes.checked)));
  }

  // ---- The chosen token ---------------------------------------------------------------------------------------------

  function bars(title, rows) {
    const grid = make("div", "rows");
    for (const [name, value, part] of rows) {
      const bar = make("b");
      bar.style.width = `${Math.max(0, Math.min(1, part)) * 100}%`;
      grid.append(make("span", "name", name), make("span", "bar", null, bar), make("span", "num", value));
    }
    return make("div", "", null, make("h4", "", title), grid);
  }

  /** A text with signs for what cannot be seen: line ends, a leading space, signs without width or that turn directions. */
  const visible = (text) => text.replaceAll("\n", "⏎").replace(/^ /, "␣").replace(
    /[\p{Cc}\p{Cf}\u2028\u2029]/gu, (sign) => `⟨${sign.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);

  /** A probability; null where the logarithm is no number. */
  const chance = (token) => (token.logprob === null ? null : Math.min(1, Math.exp(token.logprob)));

  const part = (values, name) => (Object.hasOwn(values, name) ? values[name] : null);

  function describe(token) {
    const heading = make("h3", "", null, make("code", "", visible(token.text) || "(no text yet)"));
    heading.append(` token ${token.position + 1} of ${tokens.length}`);
    if (pinned >= 0) heading.append(", kept in view");
    const parts = make("div", "grid");
    const facts = [
      ["probability", number(chance(token)), chance(token) ?? 0],
      ["grounding", number(token.grounding), token.grounding ?? 0],
      ["saliency (Eq. 6)", number(token.saliency), token.saliency ?? 0],
    ];
    if (token.threshold !== null) facts.push(["threshold (Eq. 7)", number(token.threshold), token.threshold]);
    parts.append(bars("The token", facts));
    const shares = Object.entries(token.shares);
    if (shares.length) {
      parts.append(bars("What it rests on", shares.map(([name, value]) => [name, `${(100 * value).toFixed(0)} %`, value])));
    }
    const others = data.alternatives[token.position] ?? [];
    if (others.length) {
      parts.append(bars("Most probable", others.map((other) =>
        [visible(other.text), number(chance(other)), chance(other) ?? 0])));
    }
    if (token.rejected.length) {
      parts.append(bars("Rejected by SGRS: saliency (Eq. 6)", token.rejected.map((other) =>
        [visible(other.text), number(other.saliency), other.saliency ?? 0])));
    }
    const signals = Object.entries(token.signals);
    if (signals.length) {
      parts.append(bars("Signals", signals.map(([name, value]) => [name, number(value), value])));
    }
    detail.replaceChildren(heading, parts);
  }

  function claimsOf(index) {
    return data.claims.flatMap((claim, row) => (claim.tokens.includes(index) ? [row] : []));
  }

  function markClaims(rows) {
    document.querySelectorAll("[data-claim]").forEach((element) =>
      element.classList.toggle("chosen", rows.includes(Number(element.dataset.claim))));
  }

  function show(index) {
    if (index === shown) return;
    if (shown >= 0) {
      spans[shown].classList.remove("chosen");
      spans[shown].setAttribute("aria-selected", "false");
    }
    shown = index;
    document.querySelectorAll(".strip .chosen").forEach((bar) => bar.classList.remove("chosen"));
    if (index < 0) {
      detail.replaceChildren(nothing);
      answer.removeAttribute("aria-activedescendant");
      markClaims([]);
    } else {
      spans[index].classList.add("chosen");
      spans[index].setAttribute("aria-selected", "true");
      answer.setAttribute("aria-activedescendant", spans[index].id);
      find("strip").querySelector(`[data-bar="${index}"]`)?.classList.add("chosen");
      describe(tokens[index]);
      markClaims(claimsOf(index));
    }
    drawMaps();
  }

  function pin(index) {
    if (pinned >= 0) spans[pinned].classList.remove("pinned");
    pinned = index;
    if (index < 0) return;
    spans[index].classList.add("pinned");
    shown = shown === index ? -2 : shown; // Describe it anew.
    if (shown === -2) shown = -1;
    show(index);
  }

  function over(index) {
    if (pinned < 0) show(index);
  }

  if (answer) {
    answer.addEventListener("pointerover", (event) => {
      const span = event.target.closest(".token");
      if (span) over(Number(span.dataset.index));
    });
    answer.addEventListener("pointerleave", () => over(-1));
    answer.addEventListener("click", (event) => {
      const span = event.target.closest(".token");
      if (!span) return;
      const index = Number(span.dataset.index);
      pin(pinned === index ? -1 : index);
    });
    answer.addEventListener("keydown", (event) => {
      const last = tokens.length - 1;
      const at = pinned >= 0 ? pinned : shown;
      const steps = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: last };
      if (event.key in steps) {
        const next = Math.max(0, Math.min(last, steps[event.key]));
        if (pinned >= 0) pin(next); else show(next);
        spans[next].scrollIntoView({ block: "nearest" });
      } else if (event.key === "Enter" || event.key === " ") {
        pin(pinned >= 0 ? -1 : Math.max(0, at));
      } else if (event.key === "Escape") {
        pin(-1);
        show(-1);
      } else {
        return;
      }
      event.preventDefault();
    });
  }

  const list = find("claims");
  if (list) {
    const enter = (event) => {
      const item = event.target.closest("li");
      if (!item) return;
      const claim = data.claims[Number(item.dataset.claim)];
      spans.forEach((span, index) => span.classList.toggle("near", claim.tokens.includes(index)));
      if (claim.tokens.length && pinned < 0) show(claim.tokens[claim.tokens.length - 1]);
      markClaims([Number(item.dataset.claim)]);
    };
    const leave = () => {
      spans.forEach((span) => span.classList.remove("near"));
      markClaims(shown >= 0 ? claimsOf(shown) : []);
      over(-1);
    };
    list.addEventListener("pointerover", enter);
    list.addEventListener("focusin", enter);
    list.addEventListener("pointerleave", leave);
    list.addEventListener("focusout", leave);
  }

  // ---- The strip of scores, and the table ---------------------------------------------------------------------------

  const SVG = "http://www.w3.org/2000/svg";
  const measures = [
    ["probability", chance],
    ["saliency (Eq. 6)", (token) => token.saliency],
    ["grounding", (token) => token.grounding],
    ...Object.keys(data.shares).map((name) => [`share on ${name}`, (token) => part(token.shares, name)]),
    ...data.signals.map((name) => [name, (token) => part(token.signals, name)]),
  ].filter(([, value]) => tokens.some((token) => value(token) !== null && value(token) !== undefined));
  const measure = find("measure");

  function svg(tag, attributes) {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
    return element;
  }

  function drawStrip() {
    const [name, value] = measures[Number(measure.value)];
    const values = tokens.map((token) => value(token) ?? null);
    const known = values.filter((each) => each !== null);
    const isPart = name === "probability" || name === "grounding" || name.startsWith("share");
    const top = isPart ? 1 : Math.max(...known, ...(name.startsWith("saliency") ? thresholds() : []), 1e-9);
    const bottom = Math.min(0, ...known);
    const height = (each) => (100 * (each - bottom)) / (top - bottom || 1);
    const chart = svg("svg", { viewBox: `0 0 ${tokens.length} 100`, preserveAspectRatio: "none", role: "img",
      "aria-label": `${name} of every token, from ${number(Math.min(...known))} to ${number(Math.max(...known))}` });
    values.forEach((each, index) => {
      const bar = svg("rect", { class: index === shown ? "b chosen" : "b", x: index + 0.08, width: 0.84, "data-bar": index,
        y: each === null ? 100 : Math.min(98.5, 100 - height(each)), height: each === null ? 0 : Math.max(1.5, height(each)) });
      const whole = svg("rect", { x: index, y: 0, width: 1, height: 100, fill: "transparent", "data-index": index });
      chart.append(bar, whole);
    });
    const steps = name.startsWith("saliency") ? tokens.map((token) => token.threshold)
      : name === "grounding" && data.threshold !== null ? tokens.map(() => data.threshold) : [];
    steps.forEach((each, index) => {
      if (each === null || each === undefined) return;
      chart.append(svg("line", { class: "line", x1: index, x2: index + 1, y1: 100 - height(each), y2: 100 - height(each) }));
    });
    const words = steps.some((each) => each !== null && each !== undefined) ? ", dashed: the threshold" : "";
    const ends = make("div", "ends", null, make("span", "", `${number(bottom, 2)} to ${number(top, 2)}${words}`),
      make("span", "", `${tokens.length} tokens`));
    find("strip").replaceChildren(chart, ends);
    chart.addEventListener("pointermove", (event) => {
      const index = event.target.dataset.index;
      if (index !== undefined) over(Number(index));
    });
    chart.addEventListener("pointerleave", () => over(-1));
    chart.addEventListener("click", (event) => {
      const index = event.target.dataset.index;
      if (index !== undefined) pin(pinned === Number(index) ? -1 : Number(index));
    });
  }

  const thresholds = () => tokens.map((token) => token.threshold).filter((each) => each !== null);

  if (measure && measures.length) {
    measures.forEach(([name], index) => measure.append(new Option(name, String(index))));
    const preferred = measures.findIndex(([name]) => name === "grounding");
    measure.value = String(Math.max(0, preferred));
    measure.addEventListener("change", drawStrip);
    drawStrip();
  }

  function buildTable() {
    const head = make("tr", "", null, make("th", "", "#"), make("th", "", "token"));
    measures.forEach(([name]) => head.append(make("th", "", name)));
    const body = make("tbody");
    tokens.forEach((token) => {
      const row = make("tr", "", null, make("td", "", token.position + 1), make("td", "", visible(token.text)));
      measures.forEach(([, value]) => row.append(make("td", "", number(value(token) ?? null))));
      body.append(row);
    });
    find("table").replaceChildren(make("table", "", null, make("thead", "", null, head), body));
  }
  const holder = find("table-holder");
  if (holder) holder.addEventListener("toggle", () => holder.open && !find("table").firstChild && buildTable());
  window.addEventListener("beforeprint", () => {
    if (!holder) return;
    if (!find("table").firstChild) buildTable();
    holder.open = true;
  });

  // ---- Files --------------------------------------------------------------------------------------------------------

  function save(blob, name) {
    const link = make("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  find("save-json").addEventListener("click", () =>
    save(new Blob([JSON.stringify(data.answer, null, 2)], { type: "application/json" }), "answer.json"));
  find("print").addEventListener("click", () => window.print());

  /** Words of a text in lines of a width. */
  function lines(context, pieces, width) {
    const result = [[]];
    let used = 0;
    for (const piece of pieces) {
      const size = context.measureText(piece.text).width;
      if (used + size > width && used > 0) {
        result.push([]);
        used = 0;
      }
      result[result.length - 1].push({ ...piece, x: used, size });
      used += size;
    }
    return result;
  }

  find("save-png").addEventListener("click", () => {
    const style = getComputedStyle(document.body);
    const colours = spans.map((span) => getComputedStyle(span));
    const margin = 28;
    const width = 760;
    const images = frames.map((frame) => frame.querySelector("img"));
    const each = images.length ? (width - 14 * (images.length - 1)) / images.length : 0;
    const heights = images.map((image) => (each * image.naturalHeight) / Math.max(1, image.naturalWidth));
    const canvas = document.createElement("canvas");
    const context = canvas.getContext("2d");
    const face = style.fontFamily;
    context.font = `18px ${face}`;
    const words = lines(context, tokens.map((token, index) => ({ text: token.text.replaceAll("\n", " "), index })), width);
    context.font = `600 18px ${face}`;
    const question = lines(context, (data.question || "").split(/(?<= )/).map((text) => ({ text })), width);
    const top = margin + 30 * question.length;
    const pictures = Math.max(0, ...heights);
    const height = Math.ceil(top + 26 * words.length + 30 + pictures + margin + 30);
    const scale = Math.min(1, 16000 / height);  // Browsers draw on nothing larger.
    canvas.width = Math.ceil(scale * (width + 2 * margin));
    canvas.height = Math.ceil(scale * height);
    context.fillStyle = style.backgroundColor;
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.scale(scale, scale);
    context.font = `600 18px ${face}`;
    context.fillStyle = style.color;
    question.forEach((line, row) => line.forEach((word) => context.fillText(word.text, margin + word.x, margin + 8 + 28 * row)));
    context.font = `18px ${face}`;
    words.forEach((line, row) => line.forEach((word) => {
      const colour = colours[word.index];
      context.fillStyle = colour.backgroundColor;
      context.fillRect(margin + word.x, top - 8 + 26 * row, word.size, 24);
      context.fillStyle = colour.color;
      context.fillText(word.text, margin + word.x, top + 10 + 26 * row);
    }));
    const y = top + 26 * words.length + 12;
    context.imageSmoothingEnabled = false;
    images.forEach((image, index) => {
      const x = margin + index * (each + 14);
      context.drawImage(image, x, y, each, heights[index]);
      const layer = frames[index].querySelector("canvas");
      if (layer.classList.contains("shown")) context.drawImage(layer, x, y, each, heights[index]);
    });
    context.font = `14px ${face}`;
    context.fillStyle = style.color;
    context.fillText(data.verdict, margin, y + pictures + 26, width);
    canvas.toBlob((blob) => save(blob, "answer.png"));
  });

  sourceChanged();
})();
