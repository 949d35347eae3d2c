"use strict";
// Answers are hostile text. markdown-it turns Markdown into HTML without letting HTML, images or live links
// through; DOMPurify then keeps a short list of tags and no attribute that could load, run or style anything.
const SAFE = {
  ALLOWED_TAGS: ["p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "strong", "em", "s", "u",
    "code", "pre", "blockquote", "table", "thead", "tbody", "tr", "th", "td"],
  ALLOWED_ATTR: ["start"],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};
const LONGEST_RENDERED = 200000;

const markdown = markdownit({ html: false, linkify: false, typographer: false }).disable(["image"]);
const escapeText = markdown.utils.escapeHtml;
// A link is shown with its address and leads nowhere: nothing leaves the page by a click.
markdown.renderer.rules.link_open = () => "<u>";
markdown.renderer.rules.link_close = (tokens, position) => {
  const open = tokens.slice(0, position).reverse().find((token) => token.type === "link_open");
  const address = open ? open.attrGet("href") : "";
  return "</u>" + (open && open.markup === "autolink" ? "" : " <code>" + escapeText(address) + "</code>");
};
for (const cell of ["th", "td"]) markdown.renderer.rules[cell + "_open"] = () => "<" + cell + ">";

function rendered(text) {
  const safeText = visible(text);
  if (safeText.length > LONGEST_RENDERED) return raw(text);
  return h("div", { class: "markdown", dir: "auto" }, DOMPurify.sanitize(markdown.render(safeText), SAFE));
}

function raw(text) {
  return h("pre", { class: "raw", dir: "auto" }, text);
}

// A text with its switch between rendered Markdown and raw.
let showRaw = false;
function answerText(text) {
  if (!text || !text.trim()) return h("p", { class: "empty-text" }, text ? "(blank)" : "(empty)");
  const box = h("div", { class: "answer" });
  const fill = () => box.replaceChildren(showRaw ? raw(text) : rendered(text));
  box.addEventListener("show", fill);
  fill();
  return box;
}

function rawSwitch() {
  const button = h("button", { type: "button", "aria-pressed": String(showRaw), onclick: () => {
    showRaw = !showRaw;
    button.setAttribute("aria-pressed", String(showRaw));
    document.querySelectorAll(".answer").forEach((box) => box.dispatchEvent(new Event("show")));
  } }, "Raw text");
  return button;
}
