/** The public pages, under the names that `package.json` gives them. */

import { expect, test } from "bun:test";

test.each([
  ["troupe", "train"],
  ["troupe/actors", "train"],
  ["troupe/nn", "differentiate"],
  ["troupe/runtime", "NodeRuntime"],
  ["troupe/gateway", "createGateway"],
  ["troupe/protocols", "Tensor"],
])("%s exports %s", async (page, name) => {
  expect(Object.keys(await import(page))).toContain(name);
});
