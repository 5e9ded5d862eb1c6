// Lines between the cards of a picture of steps: of a running task, of a template, of one that is written.
"use strict";
(() => {
  // ``links``: pairs of cards, and whether the line is dashed.
  window.flowLines = (svg, list, links) => {
    const box = svg.parentElement, frame = box.getBoundingClientRect();
    const lines = links.map(([from, to, isDashed]) => {
      const one = from.getBoundingClientRect(), other = to.getBoundingClientRect();
      const x1 = one.right - frame.left + box.scrollLeft, y1 = one.top + 28 - frame.top, x2 = other.left - frame.left + box.scrollLeft, y2 = other.top + 28 - frame.top, middle = (x1 + x2) / 2;
      const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      path.setAttribute("d", `M${x1} ${y1} C${middle} ${y1} ${middle} ${y2} ${x2 - 2} ${y2} m-6 -4 l6 4 l-6 4`);
      if (isDashed) path.setAttribute("class", "flow-dashed");
      return path;
    });
    svg.setAttribute("width", String(box.scrollWidth));
    svg.setAttribute("height", String(list.offsetHeight));
    svg.replaceChildren(...lines);
  };
  // Pictures that the server has drawn say at each card what it comes after.
  window.flowLinesOfPage = () => {
    for (const list of document.querySelectorAll("[data-flow]")) {
      const byKey = new Map([...list.children].map((card) => [card.dataset.key, card])), links = [];
      for (const card of list.children) {
        for (const key of card.dataset.before.split(" ")) if (byKey.has(key)) links.push([byKey.get(key), card, "dashed" in card.dataset]);
      }
      window.flowLines(list.parentElement.querySelector("svg"), list, links);
    }
  };
  window.addEventListener("resize", window.flowLinesOfPage);
  window.addEventListener("load", window.flowLinesOfPage); // when icons have their width
  window.flowLinesOfPage();
})();
