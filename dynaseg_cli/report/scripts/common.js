// Text, numbers and elements

const SVG = "http://www.w3.org/2000/svg";
const number = new Intl.NumberFormat("en-GB");
const collator = new Intl.Collator("en-GB", { numeric: true });

const isCommand = ({ ctrlKey, metaKey, altKey }) => ctrlKey || metaKey || altKey; // of the browser or the system
const byId = (id) => document.getElementById(id);
const json = (id) => JSON.parse(byId(id).textContent);
const counted = (count, one, many) => `${number.format(count)} ${count === 1 ? one : many}`;
const seconds = (value) => `${value < 100 ? value.toFixed(value < 10 ? 2 : 1) : number.format(Math.round(value))} s`;
const percent = (value) => `${(value * 100).toFixed(value < 0.1 ? 2 : 1)} %`;
const significant = (value) => (Math.abs(value) >= 1e5 ? value.toExponential(2) : String(Number(value.toPrecision(4))));

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function drawn(tag, attributes = {}, text = "") {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.textContent = text;
  return made;
}

/** A button that shows and hides a part of the page. */
function discloses(button, part) {
  button.addEventListener("click", () => {
    part.hidden = !part.hidden;
    button.setAttribute("aria-expanded", String(!part.hidden));
  });
}

let explanations = 0;

/** A term with an explanation, which shows while one points at it or has the focus on it. */
function explained(term, explanation) {
  explanations += 1;
  const id = `explanation-${explanations}`;
  const tip = element("span", { class: "tip", role: "tooltip", id }, explanation);
  return element("span", { class: "explained", tabindex: "0", "aria-describedby": id }, term, tip);
}
