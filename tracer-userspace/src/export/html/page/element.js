// SPDX-License-Identifier: Apache-2.0
// Elements of the page. Texts become text nodes, never markup.

const byId = (id) => document.getElementById(id);

/** Makes an element: attributes by name, handlers as functions (`onclick`), children as texts or elements. */
function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element[key] = value;
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children.flat().filter((child) => child != null && child !== ""));
  return element;
}

function replace(parent, ...children) {
  parent.replaceChildren(...children.flat().filter((child) => child != null && child !== ""));
}

function chip(verdict, words) {
  return el("span", { class: `chip ${verdict.colour}`, title: verdict.meaning }, words ?? verdict.name);
}

/** A canvas with as many pixels as the screen has for it; returns its context, in CSS pixels. */
function sized(canvas, width, height) {
  const scale = Math.min(window.devicePixelRatio || 1, 2);
  const [w, h] = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  return context;
}

/** The colours of the theme, as canvases need them. */
function themeColours() {
  const style = getComputedStyle(document.documentElement);
  const named = ["text", "soft", "faint", "line", "panel", "normal", "yellow", "excess", "red", "curve", "curve-fill",
    "band", "native", "python", "interpreter", "found", "on-bar"];
  return Object.fromEntries(named.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

/** Calls at most once a frame. */
function eachFrame(draw) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      draw();
    });
  };
}
