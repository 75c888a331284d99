/**
 * Dark and light: as the system has it, or as somebody has chosen here.
 *
 * Always true: the attribute `data-theme` of the document is `dark` or `light`.
 */

const STORED = "mpsr.theme";
const system = matchMedia("(prefers-color-scheme: dark)");

/** Apply the theme, follow the system, and call `onChange` after each change. */
export function beginTheme(onChange) {
  apply();
  system.addEventListener("change", () => {
    apply();
    onChange();
  });
}

/** Take the other theme. */
export function switchTheme() {
  const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  if ((next === "dark") === system.matches) localStorage.removeItem(STORED);
  else localStorage.setItem(STORED, next);
  apply();
}

function apply() {
  document.documentElement.dataset.theme = localStorage.getItem(STORED) ?? (system.matches ? "dark" : "light");
}
