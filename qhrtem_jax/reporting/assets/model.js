/* The atoms, to be turned: 3Dmol.js draws them. */
(() => {
  "use strict";
  const source = document.getElementById("model-data");
  if (!source || typeof $3Dmol === "undefined") return;
  const data = JSON.parse(source.textContent), place = document.getElementById("model");
  const note = document.getElementById("model-note");
  const middle = data.size.map((n) => n / 2);
  const atoms = data.symbols.map((elem, k) => {
    const [x, y, z] = data.places[k].map((n, axis) => n - middle[axis]);
    return { elem, x, y: -y, z: -z, bonds: [], bondOrder: [], serial: k, hetflag: true };
  });
  const dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
  let viewer;
  try {
    viewer = $3Dmol.createViewer(place, { backgroundColor: dark ? "#15181c" : "white", antialias: true });
    viewer.addModel().addAtoms(atoms);
    viewer.setStyle({}, { sphere: { scale: 0.28, colorscheme: "Jmol" } });
    const size = data.size;
    viewer.addBox({
      center: { x: 0, y: 0, z: 0 },
      dimensions: { w: size[0], h: size[1], d: size[2] },
      wireframe: true,
      color: "gray",
    });
    const views = {
      beam: () => {},
      side: () => viewer.rotate(90, "x"),
      slant: () => { viewer.rotate(-65, "x"); viewer.rotate(25, "z"); },
    };
    const look = (name) => {
      viewer.setView([0, 0, 0, 0, 0, 0, 0, 1]);
      viewer.zoomTo();
      views[name]();
      viewer.render();
      place.dataset.view = name;
    };
    document.querySelectorAll("[data-look]").forEach((button) =>
      button.addEventListener("click", () => look(button.dataset.look)));
    place.addEventListener("keydown", (event) => {
      const turns = { ArrowLeft: [-10, "y"], ArrowRight: [10, "y"], ArrowUp: [-10, "x"], ArrowDown: [10, "x"] };
      if (!turns[event.key]) return;
      viewer.rotate(...turns[event.key]);
      viewer.render();
      event.preventDefault();
    });
    look("slant");
    note.textContent = `${atoms.length} atoms; drag turns, the wheel zooms, arrow keys turn.`;
    window.qhrtemModel = viewer;
  } catch (error) {
    note.textContent = "This browser draws no three dimensions (WebGL is off): see structures/.";
  }
})();
