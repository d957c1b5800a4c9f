// The layer over the photos: the same on the cards and in the details, as far as both have it; and the keys that choose it

const LAYER_STORED_AS = `dynaseg layer of ${location.pathname}`;
let layerWished = storedLayer() ?? "regions";

const radiosOf = (group) => [...document.querySelectorAll(`[name=${group}]`)];
const isOffered = (radio) => !radio.closest("label").hidden;
const cardLayer = () => radiosOf("layer").find((radio) => radio.checked).value;
const detailLayer = () => radiosOf("detail-layer").find((radio) => radio.checked).value;

/** Check the layer that is wished for, or the regions where it is not offered. */
function checkLayer(group) {
  const radios = radiosOf(group);
  const wished = radios.find((radio) => radio.value === layerWished && isOffered(radio));
  (wished ?? radios.find((radio) => radio.value === "regions")).checked = true;
}

function wishForLayer(layer) {
  layerWished = layer;
  try {
    sessionStorage.setItem(LAYER_STORED_AS, layer);
  } catch {
    // A browser that stores nothing forgets the layer at a reload.
  }
}

function storedLayer() {
  try {
    return sessionStorage.getItem(LAYER_STORED_AS);
  } catch {
    return null;
  }
}

function prepareLayers() {
  checkLayer("layer");
  byId("layer").addEventListener("change", () => {
    wishForLayer(cardLayer());
    showCardLayer();
  });
  byId("detail-layer").addEventListener("change", () => {
    wishForLayer(detailLayer());
    const same = radiosOf("layer").find((radio) => radio.value === layerWished);
    if (same) {
      same.checked = true;
      showCardLayer();
    }
    showDetailLayer();
  });
  document.addEventListener("keydown", onLayerKey);
}

function onLayerKey(event) {
  const typing = event.target.closest?.("select, input:not([type=radio], [type=range])");
  if (typing || isCommand(event)) return;
  if (event.key === "/" && !byId("detail").open) {
    event.preventDefault();
    byId("search").focus();
  }
  const radio = radiosOf(byId("detail").open ? "detail-layer" : "layer")[event.key - 1];
  if (radio && isOffered(radio)) radio.click();
}
