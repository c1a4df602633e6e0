"use strict";

/** Buttons that choose one of several panels; without this script all panels are shown. */
function choosePanels() {
  for (const choices of document.querySelectorAll("[data-panels]")) {
    const buttons = [...choices.querySelectorAll("button")];
    const choose = (chosen) => {
      for (const button of buttons) {
        button.setAttribute("aria-pressed", String(button === chosen));
        document.getElementById(button.dataset.panel).hidden = button !== chosen;
      }
    };
    for (const button of buttons) button.addEventListener("click", () => choose(button));
    choose(buttons[0]);
  }
}

/** Open everything that is folded while the page is printed. */
function unfoldForPrint() {
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const details of opened) details.open = true;
  });
  addEventListener("afterprint", () => {
    for (const details of opened) details.open = false;
  });
}

choosePanels();
unfoldForPrint();
