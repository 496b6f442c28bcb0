/* Looks at the images of a field: zoom, pan, layers, and what is known of what is clicked. */
(() => {
  "use strict";
  const source = document.getElementById("viewer-data");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const [rows, cols] = data.shape, [downNm, alongNm] = data.sampling;
  const canvas = document.getElementById("viewer-canvas"), pen = canvas.getContext("2d");
  const details = document.getElementById("viewer-details");
  const aspect = downNm / alongNm; // pixels need not be square
  const images = data.layers.map((layer) => Object.assign(new Image(), { src: layer.png }));
  const view = { layer: 0, scale: 1, x: 0, y: 0, chosen: null };
  const shown = { numbers: true, cells: true, doubt: true, thickness: false, heights: false, arrows: false };

  const toScreen = (x, y) => [view.x + (x + 0.5) * view.scale, view.y + (y + 0.5) * view.scale * aspect];
  const toImage = (u, v) => [(u - view.x) / view.scale - 0.5, (v - view.y) / (view.scale * aspect) - 0.5];

  function fit() {
    const width = canvas.clientWidth, ratio = window.devicePixelRatio || 1;
    const height = Math.min(Math.round((width * rows * aspect) / cols), Math.round(0.8 * window.innerHeight));
    canvas.style.height = `${height}px`;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    view.scale = Math.min(canvas.width / cols, canvas.height / (rows * aspect));
    view.x = (canvas.width - cols * view.scale) / 2;
    view.y = (canvas.height - rows * view.scale * aspect) / 2;
    draw();
  }

  function zoom(factor, u = canvas.width / 2, v = canvas.height / 2) {
    factor = Math.min(Math.max(factor, 1 / view.scale / 4), 200 / view.scale);
    view.x = u - (u - view.x) * factor;
    view.y = v - (v - view.y) * factor;
    view.scale *= factor;
    draw();
  }

  const yellow = "#ffd166", blue = "#4cc9f0", red = "#ff5d5d";

  function outline(area) {
    pen.beginPath();
    area.corners.forEach(([x, y], k) => pen[k ? "lineTo" : "moveTo"](...toScreen(x, y)));
    pen.closePath();
  }

  function text(words, u, v, size, colour) {
    pen.font = `${size}px system-ui, sans-serif`;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.lineWidth = size / 5;
    pen.strokeStyle = "rgba(0, 0, 0, 0.75)";
    pen.strokeText(words, u, v);
    pen.fillStyle = colour;
    pen.fillText(words, u, v);
  }

  function middle(area) {
    const n = area.corners.length;
    return toScreen(...[0, 1].map((k) => area.corners.reduce((sum, c) => sum + c[k], 0) / n));
  }

  function draw() {
    const ratio = window.devicePixelRatio || 1;
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.fillStyle = "#15181c";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.imageSmoothingEnabled = view.scale < 2 * ratio;
    const image = images[view.layer];
    if (image.complete) pen.drawImage(image, view.x, view.y, cols * view.scale, rows * view.scale * aspect);
    const thick = data.areas.map((a) => a.thickness_nm).filter((t) => t !== null);
    const [least, most] = [Math.min(...thick), Math.max(...thick)];
    data.areas.forEach((area, k) => {
      outline(area);
      if (shown.thickness && area.thickness_nm !== null) {
        const share = most > least ? (area.thickness_nm - least) / (most - least) : 0.5;
        pen.fillStyle = `hsla(${260 - 200 * share}, 80%, ${35 + 25 * share}%, 0.45)`;
        pen.fill();
      }
      const chosen = view.chosen && view.chosen.area === k;
      if (shown.cells || chosen) {
        pen.lineWidth = (chosen ? 2.5 : 1) * ratio;
        pen.strokeStyle = chosen ? yellow : "rgba(255, 255, 255, 0.55)";
        pen.stroke();
      }
    });
    const size = Math.max(9 * ratio, Math.min(view.scale * 4.5, 16 * ratio));
    const longest = Math.max(1, ...data.spots.map((s) => Math.hypot(...s.moved_pm)));
    data.spots.forEach((spot, k) => {
      const [u, v] = toScreen(spot.x, spot.y), doubtful = spot.sure < 0.95;
      if (view.chosen && view.chosen.spot === k) {
        pen.beginPath();
        pen.arc(u, v, 0.9 * size, 0, 7);
        pen.lineWidth = 2 * ratio;
        pen.strokeStyle = yellow;
        pen.stroke();
      }
      if (shown.arrows) {
        const length = (24 * ratio) / longest, [x, y] = spot.moved_pm.map((n) => n * length);
        pen.beginPath();
        pen.moveTo(u, v);
        pen.lineTo(u + x, v + y);
        pen.lineWidth = 2 * ratio;
        pen.strokeStyle = blue;
        pen.stroke();
        pen.beginPath();
        pen.arc(u + x, v + y, 2.5 * ratio, 0, 7);
        pen.fillStyle = blue;
        pen.fill();
      }
      if (shown.numbers && spot.label && view.scale > 1.2 * ratio)
        text(spot.label + (shown.doubt && doubtful ? "?" : ""), u, v, size, shown.doubt && doubtful ? red : "white");
      else if (shown.doubt && doubtful) {
        pen.beginPath();
        pen.arc(u, v, 4 * ratio, 0, 7);
        pen.fillStyle = red;
        pen.fill();
      }
    });
    data.areas.forEach((area) => {
      const words = [];
      if (shown.thickness && area.thickness_nm !== null) words.push(`${area.thickness_nm.toFixed(2)} nm`);
      if (shown.heights && area.height !== null) words.push(`height ${area.height}`);
      if (words.length) text(words.join(", "), ...middle(area), 1.2 * size, yellow);
    });
    bar(ratio);
    if (shown.arrows && data.spots.length)
      text(`longest arrow ${longest.toFixed(1)} pm`, canvas.width - 90 * ratio, canvas.height - 14 * ratio, 12 * ratio, blue);
  }

  function bar(ratio) {
    const wanted = (0.22 * canvas.width * alongNm) / view.scale;
    const power = 10 ** Math.floor(Math.log10(wanted));
    const length = [5, 2, 1].map((n) => n * power).find((n) => n <= wanted);
    const width = (length / alongNm) * view.scale, x = 14 * ratio, y = canvas.height - 16 * ratio;
    pen.fillStyle = "white";
    pen.fillRect(x, y, width, 4 * ratio);
    text(`${+length.toPrecision(1)} nm`, x + width / 2, y - 10 * ratio, 12 * ratio, "white");
  }

  function tell(title, says) {
    const head = document.createElement("h3"), table = document.createElement("table");
    head.textContent = title;
    says.forEach(([what, much]) => {
      const row = table.insertRow();
      const name = document.createElement("th");
      name.scope = "row";
      name.textContent = what;
      row.append(name);
      row.insertCell().textContent = much;
    });
    details.replaceChildren(head, table);
  }

  function choose(spot, area) {
    view.chosen = { spot, area };
    const region = area === null ? null : data.areas[area];
    if (spot !== null) {
      const s = data.spots[spot];
      tell(`${s.label || "Column"}${region ? `, ${region.name}` : ""}`, s.says);
    } else if (region) tell(region.name, region.says);
    const list = document.getElementById("viewer-regions");
    if (list && area !== null) list.value = String(area);
    draw();
  }

  function inside([x, y], corners) {
    let within = false;
    corners.forEach(([x1, y1], k) => {
      const [x2, y2] = corners[(k + 1) % corners.length];
      if (y1 > y !== y2 > y && x < ((x2 - x1) * (y - y1)) / (y2 - y1) + x1) within = !within;
    });
    return within;
  }

  function at(event) {
    const box = canvas.getBoundingClientRect(), ratio = canvas.width / box.width;
    return [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
  }

  let held = null, travelled = 0;
  canvas.addEventListener("pointerdown", (event) => {
    held = at(event);
    travelled = 0;
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!held) return;
    const now = at(event);
    view.x += now[0] - held[0];
    view.y += now[1] - held[1];
    travelled += Math.hypot(now[0] - held[0], now[1] - held[1]);
    held = now;
    draw();
  });
  canvas.addEventListener("pointerup", (event) => {
    const clicked = held && travelled < 6;
    held = null;
    if (!clicked) return;
    const [u, v] = at(event), reach = 14 * (window.devicePixelRatio || 1);
    let best = null, least = Math.max(reach, view.scale * 3);
    data.spots.forEach((spot, k) => {
      const [x, y] = toScreen(spot.x, spot.y), apart = Math.hypot(x - u, y - v);
      if (apart < least) [best, least] = [k, apart];
    });
    if (best !== null) return choose(best, data.spots[best].area);
    const area = data.areas.findIndex((a) => inside(toImage(u, v), a.corners));
    if (area >= 0) choose(null, area);
  });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(1.0015 ** -event.deltaY, ...at(event));
  }, { passive: false });
  canvas.addEventListener("dblclick", fit);
  canvas.addEventListener("keydown", (event) => {
    const step = 0.1 * canvas.width;
    const moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (moves[event.key]) {
      view.x += moves[event.key][0];
      view.y += moves[event.key][1];
      draw();
    } else if (event.key === "+" || event.key === "=") zoom(1.25);
    else if (event.key === "-") zoom(0.8);
    else if (event.key === "0") fit();
    else return;
    event.preventDefault();
  });

  function look(layer) {
    view.layer = layer;
    const { low, high, unit, signed } = data.layers[layer];
    document.getElementById("viewer-scale").textContent = signed
      ? `blue ${low} to red ${high} (${unit})`
      : `black ${low.toPrecision(3)} to white ${high.toPrecision(3)} (${unit})`;
    draw();
  }
  document.querySelectorAll("[name=viewer-layer]").forEach((input) =>
    input.addEventListener("change", () => look(Number(input.value))));
  document.querySelectorAll("[data-shows]").forEach((input) => {
    input.checked = shown[input.dataset.shows];
    input.addEventListener("change", () => {
      shown[input.dataset.shows] = input.checked;
      draw();
    });
  });
  const list = document.getElementById("viewer-regions");
  if (list) list.addEventListener("change", () => choose(null, Number(list.value)));
  document.getElementById("viewer-in").addEventListener("click", () => zoom(1.25));
  document.getElementById("viewer-out").addEventListener("click", () => zoom(0.8));
  document.getElementById("viewer-fit").addEventListener("click", fit);
  images.forEach((image) => image.addEventListener("load", draw));
  window.addEventListener("resize", fit);
  fit();
  look(0);
  if (data.areas.length) choose(null, 0);
})();
