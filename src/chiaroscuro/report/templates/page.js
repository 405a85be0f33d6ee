"use strict";
// Tables sort by their heads and download as CSV; pictures open large. The page is whole without.
/** @type {(text: string) => number} */
const number = (text) => parseFloat(text.replace(/[,\u2212]/g, (c) => (c === "," ? "" : "-")).replace(/^[<>]\s*/, ""));
/** @type {(cell?: HTMLElement) => string} */
const text = (cell) => (cell ? cell.innerText.trim() : "");

for (const table of /** @type {NodeListOf<HTMLTableElement>} */ (document.querySelectorAll("table.data"))) {
  const heads = [...([...(table.tHead?.rows ?? [])].at(-1)?.cells ?? [])];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.className = "sort";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      for (const body of table.tBodies) {
        const rows = [...body.rows];
        /** @type {(a: HTMLTableRowElement, b: HTMLTableRowElement) => number} */
        const order = (a, b) => {
          const [x, y] = [text(a.cells[column]), text(b.cells[column])];
          const [n, m] = [number(x), number(y)];
          if (Number.isNaN(n) !== Number.isNaN(m)) return Number.isNaN(n) ? 1 : -1;
          const way = Number.isNaN(n) ? x.localeCompare(y) : n - m;
          return up ? way : -way;
        };
        body.append(...rows.sort(order));
      }
    });
  });
  const button = document.createElement("button");
  button.className = "csv";
  button.textContent = "Download as CSV";
  button.addEventListener("click", () => {
    const rows = [[...heads].map((head) => head.dataset.name || text(head))];
    for (const body of table.tBodies) for (const row of body.rows) rows.push([...row.cells].map(text));
    const quoted = rows.map((row) => row.map((cell) => `"${cell.replace(/\s+/g, " ").replace(/"/g, '""')}"`).join(","));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([quoted.join("\r\n") + "\r\n"], { type: "text/csv" }));
    link.download = `${table.dataset.name}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
  table.parentElement?.after(button);
}

const dialog = document.createElement("dialog");
const large = document.createElement("img");
dialog.append(large);
document.body.append(dialog);
dialog.addEventListener("click", () => dialog.close());
const pictures = /** @type {NodeListOf<HTMLImageElement>} */ (document.querySelectorAll("figure img, .maps img"));
for (const picture of pictures) {
  picture.classList.add("zoom");
  picture.tabIndex = 0;
  picture.setAttribute("role", "button");
  picture.title = "Enlarge";
  const open = () => {
    large.src = picture.currentSrc;
    large.alt = picture.alt;
    large.style.imageRendering = getComputedStyle(picture).imageRendering;
    dialog.showModal();
  };
  picture.addEventListener("click", open);
  picture.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      open();
    }
  });
}
