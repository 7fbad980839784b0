"use strict";

// Light or dark: as the system has it, until somebody chooses.
const root = document.documentElement;
const theme = document.getElementById("theme");
const dark = () =>
  root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
const paint = (chosen) => {
  if (chosen) root.dataset.theme = chosen;
  theme.setAttribute("aria-pressed", String(dark()));
};
paint(localStorage.getItem("theme"));
theme.addEventListener("click", () => {
  const chosen = dark() ? "light" : "dark";
  localStorage.setItem("theme", chosen);
  paint(chosen);
});

// The moving part of a view; it stands still while somebody reads it with the keyboard.
const live = document.getElementById("live");
if (live) {
  const pause = document.getElementById("pause");
  const paused = () => pause.getAttribute("aria-pressed") === "true";
  pause.addEventListener("click", () => pause.setAttribute("aria-pressed", String(!paused())));
  const source = new EventSource(live.dataset.live);
  source.addEventListener("message", (event) => {
    if (!paused() && !live.contains(document.activeElement)) live.innerHTML = event.data;
  });
  addEventListener("pagehide", () => source.close());
}

const every = document.getElementById("every");
if (every) {
  every.addEventListener("change", () => {
    for (const one of document.getElementsByName("origin")) one.checked = every.checked;
  });
}
