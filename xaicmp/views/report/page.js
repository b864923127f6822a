"use strict";
(() => {
  const COLOURS = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#ffffff"];
  const LEVELS = 256;
  const UNDEFINED = 65535;
  const WIDTH = 384;

  const at = (id) => document.getElementById(id);
  const unpack = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const shown = (value) => (value === null ? "-" : value.toFixed(3));

  function element(tag, text = "", attributes = {}) {
    const made = document.createElement(tag);
    made.textContent = text;
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  }

  // What is undefined comes last, whichever way is up.
  function inOrder(a, b, sign) {
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * (typeof a === "string" ? a.localeCompare(b) : a - b);
  }

  // Tables: a click on a heading sorts the rows of each section, by numbers where all cells begin with one.
  function sortable(table) {
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => {
      const button = element("button", heading.textContent, { type: "button" });
      heading.replaceChildren(button);
      button.addEventListener("click", () => {
        const ascending = heading.getAttribute("aria-sort") !== "ascending";
        for (const each of headings) each.removeAttribute("aria-sort");
        heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
        for (const body of table.tBodies) {
          const rows = [...body.rows].filter((row) => row.cells.length === headings.length);
          const text = (row) => row.cells[column].textContent.trim();
          const missing = (row) => text(row) === "-" || text(row) === "";
          const numbers = rows.every((row) => missing(row) || !Number.isNaN(Number.parseFloat(text(row))));
          const key = (row) => (missing(row) ? null : numbers ? Number.parseFloat(text(row)) : text(row));
          body.append(...rows.sort((a, b) => inOrder(key(a), key(b), ascending ? 1 : -1)));
        }
      });
    });
  }

  function download(text) {
    const link = element("a", "", { download: "result.json" });
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  class Gallery {
    constructor(found, maps) {
      this.maps = maps;
      this.about = JSON.parse(at("about").textContent);
      this.titles = new Map(found.methods.map((name, index) => [name, this.about.titles[index]]));
      this.statistics = new Map(found.comparison.statistics.map(({ name }, index) => [name, this.about.statistics[index]]));
      this.pairs = found.pairs.map(({ a, b }) => ({
        a: found.methods.indexOf(a),
        b: found.methods.indexOf(b),
        key: [a, b].map((name) => name.replace(/[\\|]/g, "\\$&")).join("|"),
        title: `${this.titles.get(a)} vs ${this.titles.get(b)}`,
      }));
      this.cards = [...at("gallery").children];
      this.cards.forEach((card, order) => {
        card.order = order;
        card.image = found.images[Number(card.dataset.row)];
        card.firstElementChild.addEventListener("click", () => this.large.open(card));
      });
      this.large = new Large(this);
      this.choices();
      this.arrange();
    }

    choices() {
      for (const each of this.pairs) at("sort").append(element("option", each.title, { value: each.key }));
      for (const [name, title] of this.statistics) at("statistic").append(element("option", title, { value: name }));
      const classes = [...new Set(this.cards.map((card) => card.dataset.class))].sort();
      for (const each of classes) at("class").append(element("option", each, { value: `=${each}` }));
      for (const each of at("controls").querySelectorAll("select")) each.addEventListener("change", () => this.arrange());
      at("controls").hidden = false;
      at("missing").hidden = true;
    }

    // What a card is sorted by.
    key(card) {
      const by = at("sort").value;
      if (by === "") return card.order;
      if (by === "class") return card.dataset.class;
      if (by === "confidence") return card.image.confidence;
      return card.image[at("statistic").value][by];
    }

    arrange() {
      const sign = Number(at("direction").value);
      const [of, right] = ["class", "right"].map((id) => at(id)?.value ?? "");
      const ordered = this.cards.toSorted((a, b) => inOrder(this.key(a), this.key(b), sign) || a.order - b.order);
      for (const card of ordered) {
        card.hidden = (of !== "" && of !== `=${card.dataset.class}`) || (right !== "" && card.dataset.right !== right);
        const key = this.key(card);
        card.querySelector(".value").textContent = at("sort").value === "" || typeof key === "string" ? "" : shown(key);
      }
      at("gallery").append(...ordered);
      this.visible = ordered.filter((card) => !card.hidden);
      at("count").textContent = `${this.visible.length} of ${this.cards.length} shown`;
    }
  }

  // One image with its maps side by side.
  class Large {
    constructor(gallery) {
      this.gallery = gallery;
      [this.height, this.width] = gallery.about.size;
      this.pixels = this.height * this.width;
      const count = gallery.cards.length * gallery.titles.size * this.pixels;
      const high = gallery.maps.subarray(count, 2 * count);
      this.places = Uint16Array.from(gallery.maps.subarray(0, count), (low, index) => low + 256 * high[index]);
      this.levels = gallery.maps.subarray(2 * count);
      this.colours = gallery.about.colours.map(unpack);
      for (const id of ["strength", "top"]) at(id).addEventListener("input", () => this.draw());
      at("previous").addEventListener("click", () => this.step(-1));
      at("next").addEventListener("click", () => this.step(1));
      at("large").addEventListener("keydown", (event) => {
        const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
        if (step && event.target.tagName !== "INPUT") this.step(step);
      });
      at("large").addEventListener("close", () => this.card.firstElementChild.focus());
      this.panels();
    }

    panels() {
      const titles = ["Outlines of all", ...this.gallery.titles.values()];
      this.canvases = titles.map((title, index) => {
        const figure = element("figure");
        const canvas = element("canvas", "", { role: "img", "aria-label": title });
        const caption = element("figcaption", ` ${title}`);
        const dot = element("span", "", { class: "dot" });
        dot.style.background = COLOURS[(index - 1) % COLOURS.length];
        if (index) caption.prepend(dot);
        figure.append(canvas, caption);
        at("panels").append(figure);
        return canvas;
      });
      const measured = [...this.gallery.statistics.values()].map((title) => `${title} as measured`);
      const headings = ["Pair", this.gallery.about.live, ...measured].map((each) => element("th", each, { scope: "col" }));
      at("agreement").tHead.insertRow().append(...headings);
    }

    step(by) {
      const cards = this.gallery.visible;
      this.open(cards[(cards.indexOf(this.card) + by + cards.length) % cards.length]);
    }

    open(card) {
      this.card = card;
      const [name, what] = card.querySelectorAll("button > span");
      at("name").textContent = name.textContent;
      const { confidence, target } = card.image;
      at("what").textContent = `Predicted: ${what.textContent}, confidence ${shown(confidence)}. Explained: ${target}.`;
      const rows = this.gallery.pairs.map((pair) => {
        const cells = [...this.gallery.statistics.keys()].map((each) => element("td", shown(card.image[each][pair.key])));
        const line = element("tr");
        line.append(element("th", pair.title, { scope: "row" }), element("td", "", { class: "live" }), ...cells);
        return line;
      });
      at("agreement").tBodies[0].replaceChildren(...rows);
      if (!at("large").open) at("large").showModal();
      this.draw();
    }

    map(method) {
      const index = this.card.order * this.gallery.titles.size + method;
      return {
        places: this.places.subarray(index * this.pixels, (index + 1) * this.pixels),
        levels: this.levels.subarray(index * LEVELS, (index + 1) * LEVELS),
        signed: this.gallery.about.signed[method],
      };
    }

    draw() {
      const count = Math.floor((Number(at("top").value) * this.pixels) / 100);
      for (const id of ["top", "strength"]) at(`${id}-value`).textContent = `${at(id).value}%`;
      const maps = [...this.gallery.titles.keys()].map((_, method) => this.map(method));
      const image = this.card.querySelector("img");
      this.canvases.forEach((canvas, index) => {
        canvas.width = WIDTH;
        canvas.height = Math.round((WIDTH * image.naturalHeight) / image.naturalWidth);
        const context = canvas.getContext("2d");
        context.imageSmoothingEnabled = false;
        context.drawImage(image, 0, 0, canvas.width, canvas.height);
        if (index) context.drawImage(this.overlay(maps[index - 1]), 0, 0, canvas.width, canvas.height);
        maps.forEach((map, method) => {
          if (!index || index - 1 === method) this.outline(context, map, count, COLOURS[method % COLOURS.length]);
        });
      });
      const tops = maps.map(({ places }) => places.map((place) => Number(place < count)));
      const live = at("agreement").querySelectorAll(".live");
      this.gallery.pairs.forEach(({ a, b }, row) => {
        const defined = [a, b].every((method) => maps[method].places[0] !== UNDEFINED);
        const both = tops[a].reduce((sum, inside, pixel) => sum + (inside & tops[b][pixel]), 0);
        live[row].textContent = shown(defined && count ? both / (2 * count - both) : null);
      });
    }

    overlay({ places, levels, signed }) {
      const data = new ImageData(this.width, this.height);
      const colours = this.colours[Number(signed)];
      const strength = Number(at("strength").value) / 100;
      places.forEach((place, pixel) => {
        const level = levels[Math.floor((place * LEVELS) / this.pixels)];
        const share = signed ? Math.abs(level - 127.5) / 127.5 : level / 255;
        if (place !== UNDEFINED) data.data.set([...colours.subarray(3 * level, 3 * level + 3), 255 * strength * share], 4 * pixel);
      });
      const canvas = new OffscreenCanvas(this.width, this.height);
      canvas.getContext("2d").putImageData(data, 0, 0);
      return canvas;
    }

    outline(context, { places }, count, colour) {
      const [across, down] = [context.canvas.width / this.width, context.canvas.height / this.height];
      const inside = (x, y) => x >= 0 && y >= 0 && x < this.width && y < this.height && places[y * this.width + x] < count;
      const path = new Path2D();
      for (let y = 0; y <= this.height; y += 1) {
        for (let x = 0; x <= this.width; x += 1) {
          path.moveTo(x * across, y * down);
          if (inside(x, y) !== inside(x, y - 1)) path.lineTo((x + 1) * across, y * down);
          path.moveTo(x * across, y * down);
          if (inside(x, y) !== inside(x - 1, y)) path.lineTo(x * across, (y + 1) * down);
        }
      }
      for (const [width, style] of [[3.5, "#000000"], [1.8, colour]]) {
        context.lineWidth = width;
        context.strokeStyle = style;
        context.stroke(path);
      }
    }
  }

  document.querySelectorAll("main table").forEach(sortable);
  if ("DecompressionStream" in window) {
    const inflated = (id) => {
      const packed = new Blob([unpack(at(id).textContent)]).stream();
      return new Response(packed.pipeThrough(new DecompressionStream("gzip")));
    };
    inflated("document").text().then(async (text) => {
      at("download").hidden = false;
      at("download").addEventListener("click", () => download(text));
      if (at("gallery")) new Gallery(JSON.parse(text), new Uint8Array(await inflated("maps").arrayBuffer()));
    });
  }
})();
