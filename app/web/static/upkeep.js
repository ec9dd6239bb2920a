// Keeps a page fresh: takes up the sections marked data-live from a newer copy of the page.
"use strict";
(() => {
  const main = document.querySelector("main");
  const pollUrl = main.dataset.poll;
  const refreshMs = Number(main.dataset.refresh || 0);
  let stamp = main.dataset.stamp;
  let refreshedAt = Date.now();

  function isInUse(section) {
    const open = section.querySelector("details[open] form");
    const chosen = getSelection();
    const isSelected = !chosen.isCollapsed && section.contains(chosen.anchorNode);
    return section.contains(document.activeElement) || open || isSelected;
  }

  function replace(section, fresh) {
    const opened = [...section.querySelectorAll("details[open][id]")].map((one) => one.id);
    section.replaceWith(fresh);
    opened.forEach((id) => document.getElementById(id)?.setAttribute("open", ""));
  }

  async function get(url) {
    const response = await fetch(url, { credentials: "same-origin", cache: "no-store" });
    if (response.redirected && new URL(response.url).pathname === "/login") location.reload();
    if (!response.ok) throw new Error(`${response.status}`);
    return response;
  }

  async function refresh() {
    refreshedAt = Date.now();
    const text = await (await get(location.href.split("#")[0])).text();
    const fresh = new DOMParser().parseFromString(text, "text/html");
    let isWhole = true;
    document.querySelectorAll("[data-live]").forEach((section) => {
      const newer = fresh.getElementById(section.id);
      if (!newer || newer.outerHTML === section.outerHTML) return;
      if (isInUse(section)) isWhole = false;
      else replace(section, newer);
    });
    if (isWhole) stamp = fresh.querySelector("main").dataset.stamp;
  }

  async function poll() {
    const told = await (await get(pollUrl)).json();
    const section = document.getElementById("run");
    const holder = document.createElement("template");
    holder.innerHTML = told.run;
    if (!isInUse(section)) replace(section, holder.content.firstElementChild);
    if (told.stamp !== stamp && Date.now() - refreshedAt > 3000) await refresh();
    return told.is_running ? 1000 : 2500;
  }

  async function beat() {
    let waitMs = refreshMs || 2500;
    if (!document.hidden) {
      try {
        if (pollUrl) waitMs = await poll();
        else await refresh();
        document.body.classList.remove("stale");
      } catch {
        document.body.classList.add("stale");
        waitMs = 5000;
      }
    }
    setTimeout(beat, waitMs);
  }

  if (pollUrl || refreshMs) setTimeout(beat, 1000);
})();
