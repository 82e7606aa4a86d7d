// The page's own script: tables become sortable, links open what they lead to, and single queries are looked up.
// Names from data are only ever set as text.
import DataTable, { set_or_remove_dark_class } from "datatables";

set_or_remove_dark_class();

// --- tables -----------------------------------------------------------------------------------------------------------

const PAGE = 25;

// Cells without a number stand last, whichever way a column is sorted.
const compare = (sign) => (a, b) => {
  if (a === "" || b === "") return (a === "") - (b === "");
  return sign * (Number(a) - Number(b));
};
DataTable.type("known", { order: { asc: compare(1), desc: compare(-1) } });

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// A list of the values of a column that is filtered by.
function choice(table, [column, title, values]) {
  const list = element("select", {}, element("option", { value: "" }, "all"));
  list.append(...values.map((value) => element("option", { value }, value)));
  list.addEventListener("change", () => {
    const wanted = list.value;
    table().column(column).search.fixed("choice", wanted === "" ? null : (text) => text === wanted).draw();
  });
  return element("label", {}, `${title} `, list);
}

function onlyRun(table) {
  const box = element("input", { type: "checkbox" });
  const ran = (text, data, row) => table().row(row).node().dataset.ran !== undefined;
  box.addEventListener("change", () => table().search.fixed("ran", box.checked ? ran : null).draw());
  return element("label", {}, box, " only what was run");
}

function sortable(node) {
  let made = null;
  const table = () => made;
  const filters = element("div", { className: "filters" });
  const choices = JSON.parse(node.dataset.choices).filter(([, , values]) => values.length > 1);
  filters.append(...choices.map((one) => choice(table, one)));
  if (node.querySelector("tr[data-ran]")) filters.append(onlyRun(table));
  made = new DataTable(node, {
    autoWidth: false,
    order: [],
    paging: node.tBodies[0].rows.length > PAGE,
    pageLength: PAGE,
    titleRow: node.tHead.rows.length - 1,
    columnDefs: [{ targets: "number", type: "known" }],
    language: {
      search: "Filter", info: "_START_ to _END_ of _TOTAL_ rows", infoEmpty: "no rows", infoFiltered: "(_MAX_ in all)",
      emptyTable: "There are none.", zeroRecords: "No row matches.",
    },
    layout: { topStart: () => filters, topEnd: "search", bottomStart: "info", bottomEnd: "paging" },
  });
  // The controls stay where they are while a wide table moves below them.
  const box = node.closest(".scroll");
  const container = made.table().container();
  box.before(container);
  node.closest(".dt-layout-cell").append(box);
  box.append(node);
}

document.querySelectorAll("table.grid").forEach(sortable);

// --- links ------------------------------------------------------------------------------------------------------------

function openTarget() {
  let target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  const first = target;
  for (; target; target = target.parentElement) if (target.tagName === "DETAILS") target.open = true;
  first.scrollIntoView();
}
window.addEventListener("hashchange", openTarget);
openTarget();

// --- single queries ---------------------------------------------------------------------------------------------------

const datasets = JSON.parse(document.getElementById("data").textContent);
const form = document.getElementById("browser");
if (form) browse(form.elements);

function browse({ dataset, direction, find, query }) {
  const boxes = document.querySelector("#chosen .boxes");
  const here = () => datasets[dataset.value];
  const name = (number) => here().entities[number];
  const parts = ({ head, relation, tail }) => [name(head), here().relations[relation], name(tail)];
  // A run that is called after its dataset, with nothing behind it, is no variant of another.
  const isMain = (run) => run.endsWith(`_${dataset.value}`);

  function fillDataset() {
    const some = here().runs.some(isMain);
    boxes.replaceChildren(
      ...here().runs.map((run) => {
        const box = element("input", { type: "checkbox", value: run, checked: isMain(run) || !some });
        return element("label", {}, box, element("bdi", {}, ` ${run}`));
      }),
    );
    fillQueries();
  }

  function fillQueries() {
    const wanted = find.value.trim().toLowerCase();
    const shown = here().queries.map((one, place) => [parts(one), one, place]).filter(
      ([texts, one]) => one.direction === direction.value && texts.join(" ").toLowerCase().includes(wanted),
    );
    query.replaceChildren(...shown.map(([texts, , place]) => element("option", { value: place }, texts.join(" · "))));
    show();
  }

  function show() {
    const answer = document.getElementById("answer");
    const chosen = [...boxes.querySelectorAll("input:checked")].map((box) => box.value);
    document.getElementById("chosen-count").textContent = `${chosen.length} of ${here().runs.length}`;
    const one = here().queries[query.value];
    if (query.value === "" || !one) {
      answer.replaceChildren(element("p", {}, "No triple matches."));
      return;
    }
    answer.replaceChildren(question(one), known(one), columns(one, chosen));
  }

  function question(one) {
    const [head, relation, tail] = parts(one).map((text) => element("bdi", {}, text));
    const asked = element("strong", {}, "?");
    const tailAsked = one.direction === "tail";
    return element(
      "p", { className: "question" },
      "(", tailAsked ? head : asked, ", ", relation, ", ", tailAsked ? asked : tail, ") — the answer is ",
      element("strong", { className: "truth" }, tailAsked ? tail : head), ".",
    );
  }

  function known(one) {
    if (!one.known_count) return element("p", {}, "No other answer is known.");
    const names = one.known.flatMap((number) => [", ", element("bdi", {}, name(number))]).slice(1);
    const more = one.known_count - one.known.length;
    return element(
      "details", { className: "known" },
      element("summary", {}, `Known answers left out: ${one.known_count}`),
      element("p", {}, ...names, more ? ` and ${more} more` : ""),
    );
  }

  function columns(one, chosen) {
    const truth = one.direction === "tail" ? one.tail : one.head;
    const ranked = chosen.filter((run) => one.results[run]);
    const grid = element("div", { className: "answers" });
    grid.append(...ranked.map((run) => column(run, one.results[run], truth)));
    return ranked.length ? grid : element("p", {}, "No run is chosen that answered this query.");
  }

  function column(run, result, truth) {
    const ties = result.optimistic === result.pessimistic ? "" : ` (${result.optimistic} to ${result.pessimistic})`;
    const card = document.getElementById(`run-${run}`);
    const title = element("h4", {}, card ? element("a", { href: `#run-${run}` }, run) : element("bdi", {}, run));
    const mark = card?.querySelector("summary .mark");
    if (mark) title.append(" ", mark.cloneNode(true));
    const list = element("ol");
    for (const [entity, score] of result.answers) {
      const right = entity === truth;
      list.append(
        element(
          "li", { className: right ? "truth" : "" },
          element("bdi", {}, name(entity)), right ? " ✓" : "", element("small", {}, score === null ? "" : ` ${score}`),
        ),
      );
    }
    const rank = element("strong", {}, `${result.rank}${ties}`);
    const place = element("p", { className: "rank" }, "Rank ", rank, ` of ${result.candidates}`);
    const article = element("article", {}, title, place, list);
    article.dataset.run = run;
    return article;
  }

  document.querySelectorAll("[data-choose]").forEach((button) => button.addEventListener("click", () => {
    const which = { all: () => true, none: () => false, main: isMain }[button.dataset.choose];
    boxes.querySelectorAll("input").forEach((box) => { box.checked = which(box.value); });
    show();
  }));
  dataset.append(...Object.keys(datasets).map((value) => element("option", { value }, value)));
  dataset.addEventListener("change", fillDataset);
  direction.addEventListener("change", fillQueries);
  find.addEventListener("input", fillQueries);
  query.addEventListener("change", show);
  boxes.addEventListener("change", show);
  document.getElementById("browser").addEventListener("submit", (event) => event.preventDefault());
  fillDataset();
}
