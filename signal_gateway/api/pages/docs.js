"use strict";
// Writes the page from the OpenAPI document. Everything that comes from outside is set as text, never as markup.

const METHODS = ["get", "post", "patch", "put", "delete"];
let specification;

function element(name, text, ...children) {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

function resolved(schema) {
  if (!schema || !schema.$ref) return schema;
  return schema.$ref.slice(2).split("/").reduce((found, part) => found[part], specification);
}

function typeOf(schema) {
  const known = resolved(schema) || {};
  if (known.enum) return known.enum.map(value => JSON.stringify(value)).join(" | ");
  if ("const" in known) return JSON.stringify(known.const);
  if (known.anyOf) return known.anyOf.map(typeOf).join(" or ");
  if (known.type === "array") return `list of ${typeOf(known.items)}`;
  return known.title && known.type === "object" ? known.title : known.type || "any";
}

function example(schema, depth = 0) {
  const known = resolved(schema) || {};
  if ("default" in known && known.default !== null) return known.default;
  if (known.enum) return known.enum[0];
  if ("const" in known) return known.const;
  if (known.anyOf) return example(known.anyOf[0], depth);
  if (known.type === "array") return depth > 3 ? [] : [example(known.items, depth + 1)];
  if (known.type === "object") {
    const required = known.required || [];
    return Object.fromEntries(required.map(name => [name, depth > 3 ? null : example(known.properties[name], depth + 1)]));
  }
  return { string: "…", integer: 0, number: 0, boolean: false }[known.type] ?? null;
}

function rows(head, lines) {
  const table = element("table", "", element("tr", "", ...head.map(text => element("th", text))));
  for (const line of lines) table.append(element("tr", "", ...line.map(text => element("td", text))));
  return table;
}

function fieldsOf(operation) {
  const lines = (operation.parameters || []).map(each =>
    [each.name, each.in, typeOf(each.schema), each.required ? "required" : "", each.description || each.schema.description || ""]);
  const content = operation.requestBody && operation.requestBody.content["application/json"];
  const body = content && resolved(content.schema);
  const shape = body && body.type === "array" ? resolved(body.items) : body && body.anyOf ? resolved(body.anyOf[0]) : body;
  for (const [name, schema] of Object.entries((shape && shape.properties) || {})) {
    lines.push([name, "body", typeOf(schema), (shape.required || []).includes(name) ? "required" : "", schema.description || ""]);
  }
  return [lines, content && content.schema];
}

function trial(path, method, operation, bodySchema) {
  const form = element("form");
  const inputs = (operation.parameters || []).map(each => {
    const input = element("input");
    input.placeholder = each.name;
    form.append(element("label", `${each.name} `, input), " ");
    return [each, input];
  });
  const body = bodySchema && element("textarea");
  if (body) {
    body.value = JSON.stringify(example(bodySchema), null, 2);
    form.append(body);
  }
  const shown = element("pre");
  shown.hidden = true;
  form.append(element("br"), element("button", "Send"), shown);
  form.addEventListener("submit", async event => {
    event.preventDefault();
    shown.hidden = false;
    shown.textContent = "…";
    try {
      shown.textContent = await send(path, method, inputs, body);
    } catch (error) {
      shown.textContent = String(error);
    }
  });
  return form;
}

async function send(path, method, inputs, body) {
  const query = new URLSearchParams();
  const headers = {};
  const bearer = document.getElementById("bearer").value.trim();
  if (bearer) headers.Authorization = `Bearer ${bearer}`;
  let target = path;
  for (const [parameter, input] of inputs) {
    if (parameter.in === "path") target = target.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
    else if (input.value && parameter.in === "query") query.set(parameter.name, input.value);
    else if (input.value) headers[parameter.name] = input.value;
  }
  if (body) headers["Content-Type"] = "application/json";
  const asked = query.size ? `${target}?${query}` : target;
  const answer = await fetch(asked, { method: method.toUpperCase(), headers, body: body ? body.value : undefined });
  const text = await answer.text();
  try {
    return `${answer.status}\n${JSON.stringify(JSON.parse(text), null, 2)}`;
  } catch {
    return `${answer.status}\n${text}`;
  }
}

function route(path, method, operation) {
  const [lines, bodySchema] = fieldsOf(operation);
  const head = element("summary", "", element("span", method.toUpperCase()), element("code", path), element("span", operation.summary || ""));
  head.firstChild.className = "method";
  const answers = Object.entries(operation.responses).map(([status, each]) => [status, each.description]);
  const parts = [head];
  if (lines.length) parts.push(rows(["name", "in", "type", "", ""], lines));
  parts.push(rows(["answer", ""], answers), trial(path, method, operation, bodySchema));
  return element("details", "", ...parts);
}

async function show() {
  specification = await (await fetch("/openapi.json")).json();
  document.getElementById("title").textContent = `${specification.info.title} API ${specification.info.version}`;
  document.getElementById("about").prepend(element("span", `${specification.info.description} `));
  const routes = document.getElementById("routes");
  const groups = new Map();
  for (const [path, operations] of Object.entries(specification.paths)) {
    for (const method of METHODS.filter(each => operations[each])) {
      const name = (operations[method].tags || ["other"])[0];
      if (!groups.has(name)) groups.set(name, element("section", "", element("h2", name)));
      groups.get(name).append(route(path, method, operations[method]));
    }
  }
  routes.append(...groups.values());
}

document.getElementById("access").addEventListener("submit", event => event.preventDefault());
show();
