// Renders /openapi.json. Everything is put in as text, never as markup.
"use strict";

const made = (tag, attributes = {}, ...inside) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...inside);
  return element;
};

const named = (schema) => (schema && schema.$ref ? schema.$ref.split("/").pop() : null);

const typeOf = (schema) => {
  if (!schema) return "";
  if (schema.$ref) return named(schema);
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(" | ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.type === "array") return `${typeOf(schema.items) || "any"}[]`;
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  return schema.type || "any";
};

const row = (tag, ...cells) => made("tr", {}, ...cells.map((cell) => made(tag, {}, cell)));

const fields = (schema, schemas) => {
  const table = made("table", {}, row("th", "field", "type", ""));
  const required = new Set(schema.required || []);
  for (const [name, field] of Object.entries(schema.properties || {})) {
    const notes = [];
    if (required.has(name)) notes.push("required");
    if (field.default !== undefined) notes.push(`default ${JSON.stringify(field.default)}`);
    if (field.description) notes.push(field.description);
    table.append(row("td", made("code", {}, name), made("code", {}, typeOf(field)), notes.join("; ")));
  }
  return table;
};

const about = (title, schema, schemas, seen = new Set()) => {
  const parts = [made("h3", {}, title)];
  const name = named(schema) || named(schema.items || {});
  const target = name ? schemas[name] : schema;
  if (target && target.description) parts.push(made("p", {}, target.description));
  if (target && target.properties) parts.push(fields(target, schemas));
  else parts.push(made("code", {}, typeOf(schema)));
  if (!target || seen.has(name)) return parts;
  seen.add(name);
  const inner = new Set(JSON.stringify(target).match(/#\/components\/schemas\/\w+/g) || []);
  for (const ref of inner) {
    const other = ref.split("/").pop();
    if (!seen.has(other)) parts.push(...about(other, { $ref: ref }, schemas, seen));
  }
  return parts;
};

const example = (content) => {
  if (!content || content.example === undefined) return [];
  const shown = content.example;
  const text = typeof shown === "string" ? shown : JSON.stringify(shown, null, 2);
  return [made("h4", {}, "For example"), made("pre", { class: "example", tabindex: "0" }, text)];
};

const rendered = (path, method, route, schemas) => {
  const inside = made("div", { class: "inside" });
  const facts = [];
  if (route["x-role"]) facts.push(`role: ${route["x-role"]}`);
  if (route["x-changing"]) facts.push("takes Idempotency-Key");
  if (facts.length) inside.append(made("p", { class: "summary" }, facts.join(" · ")));
  if ((route.parameters || []).length) {
    const table = made("table", {}, row("th", "parameter", "in", "type", ""));
    for (const given of route.parameters) {
      const notes = [];
      if (given.schema.default !== undefined) notes.push(`default ${JSON.stringify(given.schema.default)}`);
      if (given.example !== undefined) notes.push(`for example ${given.example}`);
      table.append(row("td", made("code", {}, given.name), given.in, made("code", {}, typeOf(given.schema)), notes.join("; ")));
    }
    inside.append(made("h3", {}, "Parameters"), table);
  }
  if (route.requestBody) {
    const content = route.requestBody.content["application/json"];
    inside.append(...about("Body", content.schema, schemas), ...example(content));
  }
  for (const [status, reply] of Object.entries(route.responses)) {
    if (status === "default") continue;
    const [kind, content] = Object.entries(reply.content || {})[0] || [];
    if (content && content.schema) inside.append(...about(`${status} ${kind}`, content.schema, schemas));
    else inside.append(made("h3", {}, `${status} ${kind || ""}`), made("p", {}, reply.description));
    inside.append(...example(content));
  }
  const errors = route["x-errors"] || [];
  if (errors.length) inside.append(made("h3", {}, "Errors of its own"), made("code", {}, errors.join(", ")));
  const details = made(
    "details", { id: route.operationId },
    made("summary", {},
      made("code", { class: "method" }, method.toUpperCase()), made("code", {}, path),
      made("span", { class: "summary" }, route.summary || "")),
    inside,
  );
  details.dataset.words = `${method} ${path} ${route.summary}`.toLowerCase();
  return details;
};

// One shape for all that goes wrong: shown once, below the routes.
const failing = (paths, schemas) => {
  const routes = Object.values(paths).flatMap((methods) => Object.values(methods));
  const content = routes[0].responses.default.content["application/json"];
  return made(
    "section", {}, made("h2", { id: "noun-errors" }, "errors"),
    ...about("Whatever goes wrong", content.schema, schemas), ...example(content),
  );
};

const show = (document_) => {
  const { paths, info, components } = document_;
  document.getElementById("about").textContent =
    `${info.description} Version ${info.version}.`;
  const byNoun = new Map();
  for (const [path, methods] of Object.entries(paths)) {
    for (const [method, route] of Object.entries(methods)) {
      const noun = (route.tags || ["other"])[0];
      if (!byNoun.has(noun)) byNoun.set(noun, []);
      byNoun.get(noun).push(rendered(path, method, route, components.schemas));
    }
  }
  const main = document.getElementById("routes");
  const nav = document.getElementById("nouns");
  for (const [noun, routes] of byNoun) {
    main.append(made("section", {}, made("h2", { id: `noun-${noun}` }, noun), ...routes));
    nav.append(made("a", { href: `#noun-${noun}` }, noun));
  }
  main.append(failing(paths, components.schemas));
  nav.append(made("a", { href: "#noun-errors" }, "errors"));
  const find = document.getElementById("find");
  find.addEventListener("input", () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const route of main.querySelectorAll("details")) {
      route.hidden = !words.every((word) => route.dataset.words.includes(word));
    }
    for (const section of main.querySelectorAll("section")) {
      const routes = section.querySelectorAll("details");
      section.hidden = routes.length > 0 && !section.querySelector("details:not([hidden])");
    }
  });
};

fetch("/openapi.json")
  .then((response) => {
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    return response.json();
  })
  .then(show)
  .catch((error) => {
    document.getElementById("about").textContent =
      `The description could not be loaded (${error.message}). Reload the page to try again.`;
  });
